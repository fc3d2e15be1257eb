#pragma once
// What light does at a surface: matte with a clear coat, rough metal (GGX), smooth glass, procedural
// patterns.
//
// Directions are local: z is the shading normal on the side of the eye; `out` points to the eye, `in` to
// where light comes from. Pure functions. Sources: Heitz, "Sampling the GGX Distribution of Visible Normals"
// (JCGT 2018); Schlick 1994.

#include <optional>

#include "model.hpp"
#include "sampler.hpp"
#include "vec.hpp"

namespace raytracer {

struct Response {
  Vec value;          // BSDF x cosine of `in`
  float density = 0;  // with which sample_surface chooses `in`, per solid angle
};

struct SurfaceSample {
  Vec in;
  Vec weight;  // BSDF x cosine / density
  float density = 0;
};

struct GlassScatter {
  Vec direction;          // world, unit
  float index_ratio = 1;  // refractive index left behind / entered; 1 when reflected
};

// The material's colour at a place: its pattern, if it has one.
Vec colour_at(const Material& material, Vec position);

// Matte and metal only; `colour` is from colour_at. sample_surface is empty when the chosen direction is
// below.
Response evaluate_surface(const Material& material, Vec colour, Vec out, Vec in);
std::optional<SurfaceSample> sample_surface(const Material& material, Vec colour, Vec out, Pair direction,
                                            float lobe);

// A direction about z with density cosine / pi.
Vec sample_cosine(Pair direction);

// Reflects or refracts a ray that goes along `direction`; `normal` is on the side it comes from, `from_front`
// says whether that is the outside. Chooses by Fresnel's reflectance, so the weight is 1.
GlassScatter scatter_glass(const Material& material, Vec direction, Vec normal, bool from_front,
                           float choice);

// Reflectance of a smooth dielectric; `ratio` is the index behind the surface / the index before it.
float fresnel(float cosine, float ratio);

}  // namespace raytracer
