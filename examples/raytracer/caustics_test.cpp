#include "caustics.hpp"

#include <doctest/doctest.h>

#include "test_scenes.hpp"
#include "tracer.hpp"

namespace raytracer {
namespace {

constexpr auto materials =
    "newmtl floor\nKd 0.5 0.5 0.5\nillum 1\nnewmtl lamp\nKe 10 10 10\n"
    "newmtl air\nNi 1\nillum 7\nnewmtl glass\nNi 1.5\nillum 7\n";

// A floor under a lamp; `between` goes first.
Scene lit_floor(const test::Folder& folder, const std::string& between) {
  folder.file("m.mtl", materials);
  return Scene::load(folder.file("scene.obj", "mtllib m.mtl\n" + between + "o floor\nusemtl floor\n" +
                                                  test::level_square(20, -2) + "o lamp\nusemtl lamp\n" +
                                                  test::level_square(-0.5, 6)));
}

float floor_radiance(const Stage& stage) {
  std::uint64_t rays = 0;
  float sum = 0;
  constexpr std::uint32_t count = 4000;
  const Ray ray{{0, -1.5F, 3}, normalize(Vec{0.1F, -2, 0.2F} - Vec{0, -1.5F, 3})};
  for (std::uint32_t i = 0; i < count; ++i) sum += radiance(stage, ray, 1, i, rays).x;
  return sum / count;
}

TEST_CASE("through glass of index 1 as much light falls on the floor as without it") {
  const test::Folder folder;
  const Stage bare{lit_floor(folder, "")};
  const Stage veiled{lit_floor(folder, "o ball\nusemtl air\n" + test::unit_sphere())};
  CHECK(bare.caustics.photons().empty());
  CHECK(veiled.caustics.photons().size() > 10'000);
  CHECK(floor_radiance(veiled) == doctest::Approx(floor_radiance(bare)).epsilon(0.05));
}

TEST_CASE("a glass ball focuses light under itself and makes none") {
  const test::Folder folder;
  const Scene scene = lit_floor(folder, "o ball\nusemtl glass\n" + test::unit_sphere());
  const CausticMap map{scene, 50'000};
  double power = 0;
  for (const Photon& photon : map.photons()) power += photon.power.x;
  const double lamp = 10 * pi * 1;            // radiance x pi x area
  const double through_ball = lamp * 1 / 36;  // the ball's disc seen from 6 above, by the cosine law
  CHECK(power < through_ball * 1.02);
  CHECK(power > through_ball * 0.8);
  CHECK(map.sharp_irradiance({0, -2, 0}, {0, 1, 0}).x > 3 * map.sharp_irradiance({0.6F, -2, 0}, {0, 1, 0}).x);
  CHECK(map.sharp_irradiance({0, -2, 0}, {0, -1, 0}).x == 0);
}

TEST_CASE("the photons are the same each time") {
  const test::Folder folder;
  const Scene scene = lit_floor(folder, "o ball\nusemtl glass\n" + test::unit_sphere());
  const CausticMap a{scene, 2000}, b{scene, 2000};
  REQUIRE(a.photons().size() == b.photons().size());
  for (std::size_t i = 0; i < a.photons().size(); ++i) {
    CHECK(a.photons()[i].position == b.photons()[i].position);
    CHECK(a.photons()[i].power == b.photons()[i].power);
  }
}

}  // namespace
}  // namespace raytracer
