#include "surface.hpp"

#include <doctest/doctest.h>

namespace raytracer {
namespace {

Material matte(float coat) { return {.name = "matte", .colour = {1, 1, 1}, .coat = coat, .roughness = 0.2F}; }
Material metal(float roughness) {
  return {.name = "metal", .surface = Surface::metal, .colour = {1, 1, 1}, .roughness = roughness};
}

// What a white surface sends back of uniform light, by sampling.
float albedo(const Material& material, Vec out) {
  constexpr std::uint32_t count = 20'000;
  float sum = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto sample =
        sample_surface(material, material.colour, out, sobol_pair(i, 11), sobol_pair(i, 12).u);
    if (sample) sum += sample->weight.x;
  }
  return sum / count;
}

TEST_CASE("Fresnel reflects 4 percent head on at index 1.5 and all beyond the critical angle") {
  CHECK(fresnel(1, 1.5F) == doctest::Approx(0.04));
  CHECK(fresnel(0.1F, 1 / 1.5F) == 1);
  CHECK(fresnel(0.5F, 1.0F) == doctest::Approx(0));
}

TEST_CASE("a white matte surface sends back all light") {
  CHECK(albedo(matte(0), {0, 0.6F, 0.8F}) == doctest::Approx(1));
}

TEST_CASE("no surface sends back more light than it gets, nor loses much") {
  for (const float slant : {0.1F, 0.6F, 0.9F}) {
    const Vec out{std::sqrt(1 - slant * slant), 0, slant};
    for (const Material& material : {matte(0.04F), metal(0.05F), metal(0.3F)}) {
      CAPTURE(material.name);
      CAPTURE(slant);
      CHECK(albedo(material, out) < 1.03F);
      if (slant > 0.5F) CHECK(albedo(material, out) > 0.8F);
    }
  }
}

TEST_CASE("a sample's weight and density are those that evaluation gives") {
  const Vec out = normalize({0.3F, -0.2F, 0.7F});
  for (const Material& material : {matte(0.04F), metal(0.1F)}) {
    for (std::uint32_t i = 0; i < 100; ++i) {
      const auto sample =
          sample_surface(material, material.colour, out, sobol_pair(i, 1), sobol_pair(i, 2).u);
      if (!sample) continue;
      const Response response = evaluate_surface(material, material.colour, out, sample->in);
      CHECK(sample->density == doctest::Approx(response.density));
      CHECK(sample->weight.x * sample->density == doctest::Approx(response.value.x));
    }
  }
}

TEST_CASE("the density integrates to the share of samples that lie above the surface") {
  const Vec out = normalize({0.4F, 0.1F, 0.8F});
  for (const Material& material : {matte(0.04F), metal(0.3F)}) {
    constexpr std::uint32_t count = 200'000;
    double sum = 0, valid = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const Pair u = sobol_pair(i, 3);
      const float z = u.u, r = std::sqrt(1 - z * z);
      const Vec in{r * std::cos(2 * pi * u.v), r * std::sin(2 * pi * u.v), z};
      sum += evaluate_surface(material, material.colour, out, in).density * 2 * pi;
      valid += sample_surface(material, material.colour, out, sobol_pair(i, 4), sobol_pair(i, 5).u) ? 1 : 0;
    }
    CAPTURE(material.name);
    CHECK(valid / count > 0.9);
    CHECK(sum / count == doctest::Approx(valid / count).epsilon(0.01));
  }
}

TEST_CASE("glass refracts by Snell's law") {
  const Material glass{.name = "glass", .surface = Surface::glass, .index = 1.5F};
  const Vec in = normalize({1, -1, 0});
  const auto scatter = scatter_glass(glass, in, {0, 1, 0}, true, 1);
  CHECK(scatter.direction.x == doctest::Approx(std::sqrt(0.5) / 1.5));
  CHECK(scatter.direction.y < 0);
  CHECK(scatter.index_ratio == doctest::Approx(1 / 1.5));
  CHECK(scatter_glass(glass, in, {0, 1, 0}, true, 0).direction.y > 0);
  CHECK(scatter_glass(glass, normalize({1, -0.2F, 0}), {0, 1, 0}, false, 0.999F).direction.y > 0);
}

}  // namespace
}  // namespace raytracer
