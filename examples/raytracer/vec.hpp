#pragma once
// Vec: three floats, used for points, directions and linear RGB colours; and the orthonormal frame about a
// normal. All values. Plain IEEE arithmetic in source order, so that every process computes the same bits.

#include <algorithm>
#include <cmath>
#include <numbers>

namespace raytracer {

inline constexpr float pi = std::numbers::pi_v<float>;

struct Vec {
  float x = 0, y = 0, z = 0;

  friend constexpr Vec operator+(Vec a, Vec b) noexcept { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
  friend constexpr Vec operator-(Vec a, Vec b) noexcept { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
  friend constexpr Vec operator-(Vec a) noexcept { return {-a.x, -a.y, -a.z}; }
  friend constexpr Vec operator*(Vec a, Vec b) noexcept { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
  friend constexpr Vec operator*(Vec a, float s) noexcept { return {a.x * s, a.y * s, a.z * s}; }
  friend constexpr Vec operator*(float s, Vec a) noexcept { return a * s; }
  friend constexpr Vec operator/(Vec a, float s) noexcept { return a * (1 / s); }
  constexpr Vec& operator+=(Vec b) noexcept { return *this = *this + b; }
  constexpr Vec& operator*=(Vec b) noexcept { return *this = *this * b; }
  constexpr Vec& operator*=(float s) noexcept { return *this = *this * s; }
  friend constexpr bool operator==(Vec, Vec) noexcept = default;
};

constexpr float dot(Vec a, Vec b) noexcept { return a.x * b.x + a.y * b.y + a.z * b.z; }
constexpr Vec cross(Vec a, Vec b) noexcept {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
inline float length(Vec a) noexcept { return std::sqrt(dot(a, a)); }
inline Vec normalize(Vec a) noexcept { return a / length(a); }
inline Vec exp(Vec a) noexcept { return {std::exp(a.x), std::exp(a.y), std::exp(a.z)}; }
constexpr Vec mix(Vec a, Vec b, float t) noexcept { return a * (1 - t) + b * t; }
constexpr float max_component(Vec a) noexcept { return std::max({a.x, a.y, a.z}); }
constexpr float luminance(Vec a) noexcept { return 0.2126F * a.x + 0.7152F * a.y + 0.0722F * a.z; }
constexpr Vec reflect(Vec towards_eye, Vec normal) noexcept {
  return 2 * dot(towards_eye, normal) * normal - towards_eye;
}

// Right-handed orthonormal frame with z along `normal`, continuous but at one pole.
// Source: Duff et al., "Building an Orthonormal Basis, Revisited" (JCGT 2017).
struct Frame {
  Vec x, y, z;

  explicit Frame(Vec normal) noexcept : z{normal} {
    const float sign = std::copysign(1.0F, z.z);
    const float a = -1 / (sign + z.z);
    const float b = z.x * z.y * a;
    x = {1 + sign * z.x * z.x * a, sign * b, -sign * z.x};
    y = {b, sign + z.y * z.y * a, -z.y};
  }
  Vec to_world(Vec v) const noexcept { return v.x * x + v.y * y + v.z * z; }
  Vec to_local(Vec v) const noexcept { return {dot(v, x), dot(v, y), dot(v, z)}; }
};

}  // namespace raytracer
