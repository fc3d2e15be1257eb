#include "lights.hpp"

#include <algorithm>
#include <array>

namespace raytracer {

Lights::Lights(const Model& model) {
  for (std::uint32_t i = 0; i < model.triangles.size(); ++i) {
    const Triangle& t = model.triangles[i];
    const Material& material = model.materials[t.material];
    if (material.surface != Surface::light) continue;
    Light light;
    light.corner = model.positions[t.vertex[0]];
    light.edge_1 = model.positions[t.vertex[1]] - light.corner;
    light.edge_2 = model.positions[t.vertex[2]] - light.corner;
    light.centre = light.corner + (light.edge_1 + light.edge_2) / 3;
    light.normal = t.face_normal;
    light.radiance = material.colour;
    light.area = length(cross(light.edge_1, light.edge_2)) / 2;
    light.power = luminance(material.colour) * light.area;
    light.power_below = power_;
    light.triangle = i;
    power_ += light.power;
    lights_.push_back(light);
  }
}

LightSample Lights::point_on(const Light& light, float u, float v, float share) const {
  const float root = std::sqrt(u);
  const Vec position = light.corner + light.edge_1 * (root * (1 - v)) + light.edge_2 * (root * v);
  return {position, light.normal, light.radiance, share / light.area};
}

LightSample Lights::sample(float u, float v, float pick) const {
  const auto above = std::upper_bound(lights_.begin(), lights_.end(), pick * power_,
                                      [](float p, const Light& l) { return p < l.power_below; });
  const Light& light = *(above - 1);  // the first light begins at 0
  return point_on(light, u, v, light.power / power_);
}

float Lights::weight_for(const Place& place, const Light& light) {
  const Vec way = light.centre - place.position;
  const float distance = length(way);
  // A light reaches past its centre: give faces some leeway by its size as seen from here, and none of them
  // nothing.
  const float leeway = std::min(std::sqrt(light.area) / distance, 1.0F);
  const float arriving = std::clamp(dot(way, place.normal) / distance + leeway, 0.02F, 1.0F);
  const float leaving = std::clamp(-dot(way, light.normal) / distance + leeway, 0.02F, 1.0F);
  return light.power * arriving * leaving / std::max(distance * distance, light.area);
}

LightSample Lights::sample_for(const Place& place, float u, float v, float pick) const {
  if (lights_.size() > most_weighed) return sample(u, v, pick);
  std::array<float, most_weighed> weights{};
  float sum = 0;
  for (std::size_t i = 0; i < lights_.size(); ++i) sum += weights[i] = weight_for(place, lights_[i]);
  float left = pick * sum;
  std::size_t chosen = 0;
  while (chosen + 1 < lights_.size() && left >= weights[chosen]) left -= weights[chosen++];
  return point_on(lights_[chosen], u, v, weights[chosen] / sum);
}

float Lights::density_for(const Place& place, std::uint32_t triangle) const {
  const auto light = std::lower_bound(lights_.begin(), lights_.end(), triangle,
                                      [](const Light& l, std::uint32_t t) { return l.triangle < t; });
  if (light == lights_.end() || light->triangle != triangle) return 0;
  if (lights_.size() > most_weighed) return light->power / power_ / light->area;
  float sum = 0;
  for (const Light& l : lights_) sum += weight_for(place, l);
  return weight_for(place, *light) / sum / light->area;
}

}  // namespace raytracer
