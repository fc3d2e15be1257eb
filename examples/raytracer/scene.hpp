#pragma once
// Scene: a model ready to be traced: Embree's BVH, the lights, and the map of caustics.
//
// Built once per process (tracer.cpp keeps it) and never changed afterwards. Embree runs on the calling
// thread alone, so a scene is built the same in every process, and a worker may be forked or stopped at any
// time.

#include <embree3/rtcore.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "lights.hpp"
#include "model.hpp"
#include "vec.hpp"

namespace raytracer {

struct Ray {
  Vec origin, direction;  // direction is unit
};

struct Hit {
  float distance = 0;
  Vec position;
  Vec face_normal;  // of the triangle, on its front side
  Vec normal;       // interpolated, on the same side
  std::uint32_t triangle = 0;
  const Material* material = nullptr;  // lives as long as the scene
  bool front = false;                  // the ray came from the side of face_normal
};

// Const is shareable.
class Scene {
 public:
  // Reads and builds. Throws SceneError.
  static Scene load(const std::string& path);
  explicit Scene(Model model);

  std::optional<Hit> intersect(const Ray& ray) const;
  // Whether anything but the ends lies between two points.
  bool occluded(Vec from, Vec to) const;

  const Lights& lights() const noexcept { return lights_; }
  const Model& model() const noexcept { return model_; }

 private:
  struct Release {
    void operator()(RTCDevice device) const { rtcReleaseDevice(device); }
    void operator()(RTCScene scene) const { rtcReleaseScene(scene); }
  };
  void build_bvh();

  Model model_;
  Lights lights_;
  std::unique_ptr<std::remove_pointer_t<RTCDevice>, Release> device_;
  std::unique_ptr<std::remove_pointer_t<RTCScene>, Release> bvh_;
  float epsilon_ = 1e-4F;  // what counts as the surface itself, in units of the scene
};

}  // namespace raytracer
