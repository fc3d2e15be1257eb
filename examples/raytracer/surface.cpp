#include "surface.hpp"

#include <cmath>

namespace raytracer {
namespace {

float fifth_power(float x) { return x * x * x * x * x; }

float schlick(float reflectance, float cosine) {
  return reflectance + (1 - reflectance) * fifth_power(std::clamp(1 - cosine, 0.0F, 1.0F));
}

// Probability of the coat's lobe; never so small that a mirrored light is found by luck alone.
float coat_share(const Material& material, float out_cosine) {
  return material.coat > 0 ? std::max(schlick(material.coat, out_cosine), 0.1F) : 0;
}

float ggx_distribution(Vec half, float alpha) {
  const float t = half.z * half.z * (alpha * alpha - 1) + 1;
  return alpha * alpha / (pi * t * t);
}

float smith_lambda(Vec v, float alpha) {
  const float tan2 = (v.x * v.x + v.y * v.y) / (v.z * v.z);
  return (std::sqrt(1 + alpha * alpha * tan2) - 1) / 2;
}

Vec sample_visible_normal(Vec out, float alpha, Pair u) {
  const Vec stretched = normalize({alpha * out.x, alpha * out.y, out.z});
  const float flat = stretched.x * stretched.x + stretched.y * stretched.y;
  const Vec across = flat > 1e-12F ? Vec{-stretched.y, stretched.x, 0} / std::sqrt(flat) : Vec{1, 0, 0};
  const Vec along = cross(stretched, across);
  const float radius = std::sqrt(u.u), angle = 2 * pi * u.v;
  const float a = radius * std::cos(angle);
  const float s = (1 + stretched.z) / 2;
  const float b = (1 - s) * std::sqrt(std::max(1 - a * a, 0.0F)) + s * radius * std::sin(angle);
  const Vec n = a * across + b * along + std::sqrt(std::max(1 - a * a - b * b, 0.0F)) * stretched;
  return normalize({alpha * n.x, alpha * n.y, std::max(n.z, 1e-6F)});
}

// The microfacet lobe without Fresnel's factor.
Response ggx(float alpha, Vec out, Vec in) {
  const Vec half = normalize(out + in);
  const float distribution = ggx_distribution(half, alpha);
  const float masked_out = smith_lambda(out, alpha), masked_in = smith_lambda(in, alpha);
  const float value = distribution / ((1 + masked_out + masked_in) * 4 * out.z);
  return {{value, value, value}, distribution / ((1 + masked_out) * 4 * out.z)};
}

Vec metal_fresnel(Vec colour, float cosine) {
  return {schlick(colour.x, cosine), schlick(colour.y, cosine), schlick(colour.z, cosine)};
}

// A smooth random field in [0, 1].
float noise(Vec p) {
  const Vec floor{std::floor(p.x), std::floor(p.y), std::floor(p.z)};
  const auto smooth = [](float t) { return t * t * (3 - 2 * t); };
  const Vec t{smooth(p.x - floor.x), smooth(p.y - floor.y), smooth(p.z - floor.z)};
  float sum = 0;
  for (int corner = 0; corner < 8; ++corner) {
    const int dx = corner & 1, dy = (corner >> 1) & 1, dz = corner >> 2;
    const auto at = [](float f, int d) {
      return static_cast<std::uint32_t>(static_cast<std::int32_t>(f) + d);
    };
    const float value = to_unit_float(hash(hash(at(floor.x, dx), at(floor.y, dy)), at(floor.z, dz)));
    sum += value * (dx != 0 ? t.x : 1 - t.x) * (dy != 0 ? t.y : 1 - t.y) * (dz != 0 ? t.z : 1 - t.z);
  }
  return sum;
}

float turbulence(Vec p) { return 0.55F * noise(p) + 0.3F * noise(p * 2.1F) + 0.15F * noise(p * 4.3F); }

// Planks along x, each with its own piece of a tree: rings about an axis a little askew, fine fibres, narrow
// joints.
Vec wood(Vec colour, Vec p) {
  constexpr float plank_width = 1.55F;
  const float plank = std::floor(p.z / plank_width);
  const float across = p.z / plank_width - plank;
  const auto id = static_cast<std::uint32_t>(static_cast<std::int32_t>(plank));
  const float shift = 37 * to_unit_float(hash(id, 1)), tone = to_unit_float(hash(id, 2));
  const Vec q{p.x * 0.16F + shift, p.y, p.z + shift};
  const float wander = turbulence(q * 0.9F);
  const float ring = std::abs((p.z - plank * plank_width - 0.2F - shift * 0.03F) * 2.2F + 4.5F * wander);
  const float phase = ring * 2.2F - std::floor(ring * 2.2F);
  const float late = phase * phase * phase * (1 - std::clamp((phase - 0.9F) * 10, 0.0F, 1.0F));
  const float fibre = turbulence({p.x * 0.9F + shift, p.y, p.z * 38});
  const float joint = std::clamp(std::min(across, 1 - across) * plank_width / 0.014F, 0.0F, 1.0F);
  const float shade = (1.12F - 0.5F * late) * (0.74F + 0.42F * fibre) * (0.84F + 0.3F * tone);
  const Vec tint = mix({1, 1, 1}, {0.92F, 0.82F, 0.7F}, late);
  return colour * tint * (shade * (0.25F + 0.75F * joint));
}

Vec checker(Vec colour, Vec p) {
  const auto cell = static_cast<int>(std::floor(p.x) + std::floor(p.y + 0.5F) + std::floor(p.z));
  return (cell & 1) != 0 ? colour : colour * 0.25F;
}

}  // namespace

Vec colour_at(const Material& material, Vec position) {
  switch (material.pattern) {
    case Pattern::wood:
      return wood(material.colour, position);
    case Pattern::checker:
      return checker(material.colour, position);
    case Pattern::plain:
      break;
  }
  return material.colour;
}

Vec sample_cosine(Pair direction) {
  const float radius = std::sqrt(direction.u), angle = 2 * pi * direction.v;
  return {radius * std::cos(angle), radius * std::sin(angle), std::sqrt(std::max(1 - direction.u, 0.0F))};
}

Response evaluate_surface(const Material& material, Vec colour, Vec out, Vec in) {
  if (in.z <= 0 || out.z <= 0) return {};
  if (material.surface == Surface::metal) {
    Response lobe = ggx(material.roughness, out, in);
    lobe.value *= metal_fresnel(colour, dot(normalize(out + in), in));
    return lobe;
  }
  const float share = coat_share(material, out.z);
  Response result{colour * ((1 - schlick(material.coat, out.z)) * in.z / pi), (1 - share) * in.z / pi};
  if (share > 0) {
    const Response coat = ggx(material.roughness, out, in);
    result.value += coat.value * schlick(material.coat, dot(normalize(out + in), in));
    result.density += share * coat.density;
  } else {
    result.value = colour * (in.z / pi);
  }
  return result;
}

std::optional<SurfaceSample> sample_surface(const Material& material, Vec colour, Vec out, Pair direction,
                                            float lobe) {
  if (out.z <= 0) return std::nullopt;
  const bool mirrored = material.surface == Surface::metal || lobe < coat_share(material, out.z);
  const Vec in = mirrored ? reflect(out, sample_visible_normal(out, material.roughness, direction))
                          : sample_cosine(direction);
  const Response response = evaluate_surface(material, colour, out, in);
  if (!(response.density > 0)) return std::nullopt;
  return SurfaceSample{in, response.value / response.density, response.density};
}

float fresnel(float cosine, float ratio) {
  const float sin2 = (1 - cosine * cosine) / (ratio * ratio);
  if (sin2 >= 1) return 1;
  const float behind = std::sqrt(1 - sin2);
  const float parallel = (ratio * cosine - behind) / (ratio * cosine + behind);
  const float perpendicular = (cosine - ratio * behind) / (cosine + ratio * behind);
  return (parallel * parallel + perpendicular * perpendicular) / 2;
}

GlassScatter scatter_glass(const Material& material, Vec direction, Vec normal, bool from_front,
                           float choice) {
  const float ratio = from_front ? material.index : 1 / material.index;
  const float cosine = std::clamp(-dot(direction, normal), 0.0F, 1.0F);
  if (choice < fresnel(cosine, ratio)) return {normalize(reflect(-direction, normal)), 1};
  const float behind = std::sqrt(std::max(1 - (1 - cosine * cosine) / (ratio * ratio), 0.0F));
  return {normalize(direction / ratio + normal * (cosine / ratio - behind)), 1 / ratio};
}

}  // namespace raytracer
