#include "tracer.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "test_scenes.hpp"

namespace raytracer {
namespace {

constexpr auto still_life = RAYTRACER_FOLDER "/still_life.obj";

// A unit sphere of one material in light of radiance 1 from everywhere.
Stage furnace(const std::string& material) {
  const test::Folder folder;
  folder.file("m.mtl", "newmtl m\n" + material);
  return Stage{Scene::load(
      folder.file("scene.obj", "# background 1 1 1\nmtllib m.mtl\nusemtl m\n" + test::unit_sphere()))};
}

float mean_radiance(const Stage& stage, Ray ray) {
  constexpr std::uint32_t count = 4096;
  std::uint64_t rays = 0;
  float sum = 0;
  for (std::uint32_t i = 0; i < count; ++i) sum += radiance(stage, ray, 7, i, rays).x;
  return sum / count;
}

Ray towards(Vec from, Vec at) { return {from, normalize(at - from)}; }

TEST_CASE("tiles cover the picture once, and none is larger than 16 pixels") {
  const Picture picture{.width = 70, .height = 33, .samples = 1};
  std::vector<int> covered(std::size_t{70} * 33);
  for (const Tile& tile : tiles_of(picture)) {
    CHECK(tile.width <= 16);
    CHECK(tile.height <= 16);
    for (auto y = tile.y; y < tile.y + tile.height; ++y) {
      for (auto x = tile.x; x < tile.x + tile.width; ++x) ++covered[std::size_t{y} * 70 + x];
    }
  }
  CHECK(std::all_of(covered.begin(), covered.end(), [](int n) { return n == 1; }));
}

TEST_CASE("the demo's picture has tiles enough for many workers") {
  CHECK(tiles_of(Picture{}).size() >= 100);
}

TEST_CASE("a tile has the same bits each time and in whatever order tiles are rendered") {
  const RenderTile render_tile{still_life, {.width = 96, .height = 64, .samples = 2}};
  const auto tiles = tiles_of(render_tile.picture);
  std::vector<Pixels> forwards, backwards;
  for (const Tile& tile : tiles) forwards.push_back(render_tile(tile));
  for (auto tile = tiles.rbegin(); tile != tiles.rend(); ++tile) backwards.push_back(render_tile(*tile));
  std::reverse(backwards.begin(), backwards.end());
  CHECK(forwards == backwards);
}

TEST_CASE("a scene loaded twice gives the same bits") {
  const Picture picture{.width = 64, .height = 48, .samples = 1};
  const Tile tile{16, 20, 32, 28};
  const Stage a{Scene::load(still_life), 20'000}, b{Scene::load(still_life), 20'000};
  CHECK(render(a, picture, tile) == render(b, picture, tile));
}

TEST_CASE("a white matte ball in uniform light cannot be seen") {
  const Stage stage = furnace("Kd 1 1 1\nillum 1\n");
  CHECK(mean_radiance(stage, towards({0, 0, 4}, {0, 0, 0})) == doctest::Approx(1).epsilon(0.01));
  CHECK(mean_radiance(stage, towards({0, 0, 4}, {0.7F, 0.3F, 0})) == doctest::Approx(1).epsilon(0.03));
}

TEST_CASE("a grey matte ball in uniform light has its albedo as radiance") {
  const Stage stage = furnace("Kd 0.3 0.3 0.3\nillum 1\n");
  CHECK(mean_radiance(stage, towards({0, 0, 4}, {0, 0, 0})) == doctest::Approx(0.3).epsilon(0.01));
}

TEST_CASE("a clear glass ball in uniform light keeps all energy") {
  const Stage stage = furnace("Ni 1.5\nillum 7\n");
  CHECK(mean_radiance(stage, towards({0, 0, 4}, {0, 0, 0})) == doctest::Approx(1).epsilon(0.01));
  CHECK(mean_radiance(stage, towards({0, 0, 4}, {0.8F, 0.2F, 0})) == doctest::Approx(1).epsilon(0.02));
}

TEST_CASE("tinted glass lets through what its Tf says for the way inside") {
  const Stage stage = furnace("Ni 1\nTf 0.5 0.5 0.5\nillum 7\n");
  CHECK(mean_radiance(stage, towards({0, 0, 4}, {0, 0, 0})) == doctest::Approx(0.25).epsilon(0.02));
}

TEST_CASE("a light seen directly has its radiance in front and none behind") {
  const test::Folder folder;
  folder.file("m.mtl", "newmtl lamp\nKe 50 4 3\n");
  const Stage stage{
      Scene::load(folder.file("scene.obj", "mtllib m.mtl\nusemtl lamp\n" + test::level_square(-1, 2)))};
  std::uint64_t rays = 0;
  CHECK(radiance(stage, towards({0, 0, 0}, {0, 2, 0}), 1, 0, rays) == Vec{50, 4, 3});
  CHECK(radiance(stage, towards({0, 4, 0}, {0, 2, 0}), 1, 0, rays) == Vec{});
  CHECK(rays == 2);
}

TEST_CASE("direct light has the radiance that the form factor gives") {
  const test::Folder folder;
  folder.file("m.mtl", "newmtl lamp\nKe 8 8 8\nnewmtl floor\nKd 0.5 0.5 0.5\nillum 1\n");
  const Stage stage{
      Scene::load(folder.file("scene.obj", "mtllib m.mtl\nusemtl lamp\n" + test::level_square(-0.1, 2) +
                                               "usemtl floor\n" + test::level_square(5, 0)))};
  const double irradiance = 8 * 0.04 / 4;  // a small lamp at 2 overhead: radiance x area / distance^2
  CHECK(mean_radiance(stage, towards({1, 1, 0}, {0, 0, 0})) ==
        doctest::Approx(0.5 / pi * irradiance).epsilon(0.02));
}

}  // namespace
}  // namespace raytracer
