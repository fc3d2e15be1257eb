#include "caustics.hpp"

#include <algorithm>
#include <numeric>
#include <optional>

#include "sampler.hpp"
#include "surface.hpp"

namespace raytracer {
namespace {

constexpr std::uint32_t photon_seed = 0x70686f74U;
constexpr int longest_way = 14;

bool bends_light(const Material& m) { return m.surface == Surface::glass || m.surface == Surface::metal; }

// Cosine of the half angle under which a sphere is seen; -1 from inside.
float cone_cosine(Vec from, Vec centre, float radius) {
  const Vec way = centre - from;
  const float sin2 = radius * radius / dot(way, way);
  return sin2 < 1 ? std::sqrt(1 - sin2) : -1;
}

// A thing of glass or metal: the sphere about it.
struct Target {
  Vec centre;
  float radius = 0;
};

std::vector<Target> targets_of(const Scene& scene) {
  const Model& model = scene.model();
  struct Box {
    Vec low{1e30F, 1e30F, 1e30F}, high{-1e30F, -1e30F, -1e30F};
  };
  std::vector<std::optional<Box>> boxes;
  for (const Triangle& t : model.triangles) {
    if (!bends_light(model.materials[t.material])) continue;
    if (boxes.size() <= t.shape) boxes.resize(t.shape + 1);
    if (!boxes[t.shape]) boxes[t.shape].emplace();
    Box& box = *boxes[t.shape];
    for (const auto vertex : t.vertex) {
      const Vec p = model.positions[vertex];
      box.low = {std::min(box.low.x, p.x), std::min(box.low.y, p.y), std::min(box.low.z, p.z)};
      box.high = {std::max(box.high.x, p.x), std::max(box.high.y, p.y), std::max(box.high.z, p.z)};
    }
  }
  std::vector<Target> targets;
  for (const auto& box : boxes) {
    if (box) targets.push_back({(box->low + box->high) / 2, length(box->high - box->low) / 2});
  }
  return targets;
}

// Photon `number` of `count`: where it ends on something matte, if it does.
std::optional<Photon> send(const Scene& scene, const std::vector<Target>& targets, float reach,
                           std::uint32_t number, std::uint32_t count) {
  Sampler sampler{photon_seed, number};
  const Pair place = sampler.pair(), choice = sampler.pair(), spread = sampler.pair();
  const LightSample light = scene.lights().sample(place.u, place.v, choice.u);

  // A target by lot, a direction in the cone that holds it; the density counts all cones that hold the
  // direction.
  const auto last = targets.size() - 1;
  const Target& target =
      targets[std::min(static_cast<std::size_t>(choice.v * static_cast<float>(targets.size())), last)];
  const float edge = cone_cosine(light.position, target.centre, target.radius);
  const float cosine = 1 - spread.u * (1 - edge), sine = std::sqrt(std::max(1 - cosine * cosine, 0.0F));
  const Vec direction = Frame{normalize(target.centre - light.position)}.to_world(
      {sine * std::cos(2 * pi * spread.v), sine * std::sin(2 * pi * spread.v), cosine});
  const float leaving = dot(direction, light.normal);
  if (leaving <= 0) return std::nullopt;
  float density = 0;
  for (const Target& t : targets) {
    const float c = cone_cosine(light.position, t.centre, t.radius);
    if (dot(direction, normalize(t.centre - light.position)) >= c) density += 1 / (2 * pi * (1 - c));
  }
  density /= static_cast<float>(targets.size());
  if (!(density > 0)) return std::nullopt;  // the direction lies on the rim of its own cone
  Vec power = light.radiance * (leaving / (light.area_density * density * static_cast<float>(count)));

  Ray ray{light.position, direction};
  for (int bounce = 0; bounce < longest_way; ++bounce) {
    const auto hit = scene.intersect(ray);
    if (!hit || hit->material->surface == Surface::light) return std::nullopt;
    const Vec face = hit->front ? hit->face_normal : -hit->face_normal;
    if (!bends_light(*hit->material)) {
      if (bounce == 0 || hit->distance > reach) return std::nullopt;
      return Photon{hit->position, face, power};
    }
    Vec normal = hit->front ? hit->normal : -hit->normal;
    if (dot(ray.direction, normal) >= 0) normal = face;
    Vec next, weight{1, 1, 1};
    const Pair u = sampler.pair(), v = sampler.pair();
    if (hit->material->surface == Surface::glass) {
      if (!hit->front) weight = exp(hit->material->absorption * -hit->distance);
      next = scatter_glass(*hit->material, ray.direction, normal, hit->front, v.u).direction;
    } else {
      const Frame frame{normal};
      const auto sample =
          sample_surface(*hit->material, hit->material->colour, frame.to_local(-ray.direction), u, v.u);
      if (!sample) return std::nullopt;
      next = frame.to_world(sample->in);
      weight = sample->weight;
    }
    const float survival = std::min(max_component(weight), 1.0F);
    if (v.v >= survival) return std::nullopt;
    power *= weight / survival;
    ray = {hit->position, next};
  }
  return std::nullopt;
}

}  // namespace

PhotonGrid::PhotonGrid(std::vector<Photon> photons, float radius) : radius_{radius} {
  std::size_t buckets = 1024;
  while (buckets < photons.size()) buckets *= 2;
  bucket_begin_.assign(buckets + 1, 0);
  const auto cell = [radius](float c) { return static_cast<std::int32_t>(std::floor(c / (2 * radius))); };
  std::vector<std::uint32_t> bucket;
  bucket.reserve(photons.size());
  for (const Photon& p : photons) {
    bucket.push_back(bucket_of(cell(p.position.x), cell(p.position.y), cell(p.position.z)));
    ++bucket_begin_[bucket.back() + 1];
  }
  std::partial_sum(bucket_begin_.begin(), bucket_begin_.end(), bucket_begin_.begin());
  photons_.resize(photons.size());
  auto next = bucket_begin_;
  for (std::size_t i = 0; i < photons.size(); ++i) photons_[next[bucket[i]]++] = photons[i];
}

std::uint32_t PhotonGrid::bucket_of(std::int32_t x, std::int32_t y, std::int32_t z) const {
  const auto bits = [](std::int32_t i) { return static_cast<std::uint32_t>(i); };
  return (bits(x) * 73856093U ^ bits(y) * 19349663U ^ bits(z) * 83492791U) &
         static_cast<std::uint32_t>(bucket_begin_.size() - 2);
}

PhotonGrid::Estimate PhotonGrid::gather(Vec position, Vec normal) const {
  if (photons_.empty()) return {};
  // The disc touches at most two cells along each axis.
  const auto cell = [this](float c) {
    return static_cast<std::int32_t>(std::floor(c / (2 * radius_) - 0.5F));
  };
  const std::int32_t x = cell(position.x), y = cell(position.y), z = cell(position.z);
  const float inverse_radius2 = 1 / (radius_ * radius_);
  std::array<std::uint32_t, 8> seen{};
  Estimate sum;
  for (std::size_t corner = 0; corner < 8; ++corner) {
    const auto at = [corner](std::int32_t c, unsigned bit) {
      return c + static_cast<std::int32_t>((corner >> bit) & 1);
    };
    const std::uint32_t bucket = bucket_of(at(x, 0), at(y, 1), at(z, 2));
    const auto* end = seen.data() + corner;
    if (std::find(static_cast<const std::uint32_t*>(seen.data()), end, bucket) != end)
      continue;  // two cells share it
    seen[corner] = bucket;
    for (std::uint32_t i = bucket_begin_[bucket]; i < bucket_begin_[bucket + 1]; ++i) {
      const Photon& photon = photons_[i];
      const Vec way = photon.position - position;
      const float above = dot(way, normal);
      const float distance2 = (dot(way, way) + 8 * above * above) * inverse_radius2;  // a flat ellipsoid
      if (distance2 >= 1 || dot(photon.normal, normal) < 0.6F) continue;
      sum.irradiance += photon.power * (1 - distance2);
      sum.found += 1;
    }
  }
  sum.irradiance *= 2 / pi * inverse_radius2;
  return sum;
}

CausticMap::CausticMap(const Scene& scene, std::uint32_t count) {
  const auto targets = targets_of(scene);
  if (scene.lights().empty() || targets.empty()) return;
  float largest = 0;
  for (const Target& t : targets) largest = std::max(largest, t.radius);
  const float reach = 1.6F * largest;  // spread thinner than beyond it, photons would only blotch
  std::vector<Photon> all, some;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto photon = send(scene, targets, reach, i, count);
    if (!photon) continue;
    if (all.size() % 8 == 0) some.push_back({photon->position, photon->normal, photon->power * 8});
    all.push_back(*photon);
  }
  fine_ = PhotonGrid{std::move(all), largest * 0.028F};
  coarse_ = PhotonGrid{std::move(some), largest * 0.084F};
}

Vec CausticMap::sharp_irradiance(Vec position, Vec normal) const {
  const auto fine = fine_.gather(position, normal);
  const float trust = std::clamp((fine.found - 20) / 60, 0.0F, 1.0F);
  if (trust >= 1) return fine.irradiance;
  return mix(smooth_irradiance(position, normal), fine.irradiance, trust);
}

}  // namespace raytracer
