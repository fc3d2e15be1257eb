#pragma once
// Lights: the shining triangles of a model, and the choice of a point on one of them.
//
// A surface asks for a point that is likely to matter to it: each light's share is its power, how near it is
// and how both sides face each other, so that a face turned away from the strongest lamp does not waste its
// samples on it. Photons leave by power alone.

#include <cstdint>
#include <vector>

#include "model.hpp"
#include "vec.hpp"

namespace raytracer {

// A point on a light, as chosen by Lights::sample.
struct LightSample {
  Vec position, normal, radiance;
  float area_density = 0;  // probability per unit of area, over all lights
};

// A place that is to be lit. `normal` is on the lit side.
struct Place {
  Vec position, normal;
};

// Const is shareable.
class Lights {
 public:
  explicit Lights(const Model& model);

  bool empty() const noexcept { return lights_.empty(); }

  // Requires !empty(), and u, v, pick in [0, 1); evenly over the area of the light that `pick` falls on.
  LightSample sample(float u, float v, float pick) const;
  LightSample sample_for(const Place& place, float u, float v, float pick) const;

  // area_density of sample_for at any point of this triangle; 0 if it is no light.
  float density_for(const Place& place, std::uint32_t triangle) const;

 private:
  struct Light {
    Vec corner, edge_1, edge_2, centre, normal, radiance;
    float area = 0;
    float power_below = 0;  // summed power of the lights before this one
    float power = 0;        // luminance x area
    std::uint32_t triangle = 0;
  };
  static constexpr std::size_t most_weighed = 32;  // more lights than this are chosen by power alone

  LightSample point_on(const Light& light, float u, float v, float share) const;
  static float weight_for(const Place& place, const Light& light);

  std::vector<Light> lights_;  // in the order of their triangles
  float power_ = 0;            // of all
};

}  // namespace raytracer
