#pragma once
// The path tracer: the unit of work is a tile, and its pixels depend on nothing but (scene, picture, tile).
//
// RenderTile is the function that executors map over tiles. Its state is a path and three numbers, so it
// travels to worker processes, which load the scene themselves, once each.
//
// Light at each matte or metal point: direct light by choosing a point on a lamp, weighed against finding the
// lamp by chance (multiple importance sampling with the power heuristic: Veach 1997); light by way of glass
// and metal from the CausticMap; everything else by going on. What is left out, to keep few samples smooth:
// clear coats seen by way of a matte surface, lamps by way of glass and metal too far for the caustic map,
// and the excess of very bright indirect samples (clamped).

#include <cstdint>
#include <string>
#include <vector>

#include "caustics.hpp"
#include "scene.hpp"

namespace raytracer {

struct Tile {
  std::uint32_t x = 0, y = 0, width = 0, height = 0;  // pixels from the top left

  friend bool operator==(const Tile&, const Tile&) noexcept = default;
};

struct Pixels {
  std::vector<float> rgb;  // [height, width, 3], row-major, linear radiance
  std::uint64_t rays = 0;  // that were traced for them

  friend bool operator==(const Pixels&, const Pixels&) = default;
};

struct Picture {
  std::uint32_t width = 640, height = 480;
  std::uint32_t samples = 16;  // per pixel
};

// Tiles of at most 32 x 32 pixels that cover the picture, row by row from the top.
std::vector<Tile> tiles_of(const Picture& picture);

// A scene with what rendering it needs beside. Const is shareable.
struct Stage {
  Scene scene;
  CausticMap caustics;

  explicit Stage(Scene s, std::uint32_t photons = 200'000) : scene{std::move(s)}, caustics{scene, photons} {}
};

// The stage of a scene file, loaded at the first call of this process and kept to its end. Any thread;
// concurrent first callers wait for the one that loads. Throws SceneError.
const Stage& stage_of(const std::string& path);

Pixels render(const Stage& stage, const Picture& picture, const Tile& tile);

// Any process.
struct RenderTile {
  std::string scene;
  Picture picture;

  Pixels operator()(const Tile& tile) const { return render(stage_of(scene), picture, tile); }
};

// Radiance that comes back along a ray; `seed` and `sample` choose the random numbers, `rays` is counted up.
Vec radiance(const Stage& stage, Ray ray, std::uint32_t seed, std::uint32_t sample, std::uint64_t& rays);

}  // namespace raytracer
