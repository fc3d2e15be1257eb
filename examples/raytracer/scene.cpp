#include "scene.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace raytracer {
namespace {

RTCRay embree_ray(Vec origin, Vec direction, float near, float far) {
  RTCRay ray{};
  ray.org_x = origin.x;
  ray.org_y = origin.y;
  ray.org_z = origin.z;
  ray.dir_x = direction.x;
  ray.dir_y = direction.y;
  ray.dir_z = direction.z;
  ray.tnear = near;
  ray.tfar = far;
  ray.mask = ~0U;
  return ray;
}

}  // namespace

Scene Scene::load(const std::string& path) { return Scene{read_model(path)}; }

Scene::Scene(Model model) : model_{std::move(model)}, lights_{model_} { build_bvh(); }

void Scene::build_bvh() {
  // No thread count here: Embree would cap the threads of every other user of oneTBB in the program with it.
  device_.reset(rtcNewDevice(nullptr));
  if (!device_)
    throw SceneError(fmt::format("Embree gives no device (error {})", int{rtcGetDeviceError(nullptr)}));
  bvh_.reset(rtcNewScene(device_.get()));
  rtcSetSceneFlags(bvh_.get(), RTC_SCENE_FLAG_ROBUST);
  rtcSetSceneBuildQuality(bvh_.get(), RTC_BUILD_QUALITY_HIGH);

  const RTCGeometry geometry = rtcNewGeometry(device_.get(), RTC_GEOMETRY_TYPE_TRIANGLE);
  auto* vertices = static_cast<float*>(rtcSetNewGeometryBuffer(
      geometry, RTC_BUFFER_TYPE_VERTEX, 0, RTC_FORMAT_FLOAT3, 3 * sizeof(float), model_.positions.size()));
  auto* indices = static_cast<std::uint32_t*>(
      rtcSetNewGeometryBuffer(geometry, RTC_BUFFER_TYPE_INDEX, 0, RTC_FORMAT_UINT3, 3 * sizeof(std::uint32_t),
                              model_.triangles.size()));
  if (vertices == nullptr || indices == nullptr)
    throw SceneError("Embree has not enough memory for the scene");
  float reach = 0;
  for (const Vec p : model_.positions) {
    *vertices++ = p.x;
    *vertices++ = p.y;
    *vertices++ = p.z;
    reach = std::max({reach, std::abs(p.x), std::abs(p.y), std::abs(p.z)});
  }
  for (const Triangle& t : model_.triangles) indices = std::copy(t.vertex.begin(), t.vertex.end(), indices);
  epsilon_ = std::max(reach, 1e-3F) * 1e-5F;  // some sixty times the rounding of a coordinate
  rtcCommitGeometry(geometry);
  rtcAttachGeometry(bvh_.get(), geometry);
  rtcReleaseGeometry(geometry);
  rtcCommitScene(bvh_.get());
  if (const RTCError error = rtcGetDeviceError(device_.get()); error != RTC_ERROR_NONE) {
    throw SceneError(fmt::format("Embree could not build the scene (error {})", static_cast<int>(error)));
  }
}

std::optional<Hit> Scene::intersect(const Ray& ray) const {
  RTCIntersectContext context;
  rtcInitIntersectContext(&context);
  RTCRayHit query{};
  query.ray = embree_ray(ray.origin, ray.direction, epsilon_, std::numeric_limits<float>::infinity());
  query.hit.geomID = RTC_INVALID_GEOMETRY_ID;
  rtcIntersect1(bvh_.get(), &context, &query);
  if (query.hit.geomID == RTC_INVALID_GEOMETRY_ID) return std::nullopt;

  const Triangle& triangle = model_.triangles[query.hit.primID];
  const float u = query.hit.u, v = query.hit.v;
  Hit hit;
  hit.distance = query.ray.tfar;
  hit.position = ray.origin + ray.direction * hit.distance;
  hit.face_normal = triangle.face_normal;
  hit.normal = normalize(triangle.normal[0] * (1 - u - v) + triangle.normal[1] * u + triangle.normal[2] * v);
  hit.triangle = query.hit.primID;
  hit.material = &model_.materials[triangle.material];
  hit.front = dot(ray.direction, hit.face_normal) < 0;
  return hit;
}

bool Scene::occluded(Vec from, Vec to) const {
  const Vec way = to - from;
  const float distance = length(way);
  RTCIntersectContext context;
  rtcInitIntersectContext(&context);
  RTCRay ray = embree_ray(from, way / distance, epsilon_, distance - 2 * epsilon_);
  rtcOccluded1(bvh_.get(), &context, &ray);
  return ray.tfar < 0;
}

}  // namespace raytracer
