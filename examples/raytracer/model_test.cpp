#include "model.hpp"

#include <doctest/doctest.h>

#include "test_scenes.hpp"

namespace raytracer {
namespace {

constexpr auto triangle = "v 0 0 0\nv 1 0 0\nv 0 1 0\n";

std::string error_of(const std::string& path) {
  try {
    (void)read_model(path);
  } catch (const SceneError& error) {
    return error.what();
  }
  return "no error";
}

void check_error(const std::string& text, const std::string& expected) {
  const test::Folder folder;
  const auto error = error_of(folder.file("scene.obj", text));
  CAPTURE(error);
  CHECK(error.find(folder.path("scene.obj")) == 0);
  CHECK(error.find(expected) != error.npos);
  CHECK(error.find('\n') == error.npos);
}

TEST_CASE("a missing scene file is an error that names it") {
  const auto error = error_of("/no/such/scene.obj");
  CHECK(error == "/no/such/scene.obj: cannot be read: No such file or directory");
}

TEST_CASE("a folder is not a scene file") {
  const test::Folder folder;
  CHECK(error_of(folder.path().string()).find("is a folder") != std::string::npos);
}

TEST_CASE("a scene without triangles is an error") {
  check_error("", "no triangle");
  check_error(triangle, "no triangle");
  check_error("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no triangle with an area");
}

TEST_CASE("an index that points nowhere is an error with its line") {
  check_error(std::string{triangle} + "f 1 2 4\n", ":4: the face needs vertex 4, but the file has 3");
  check_error(std::string{triangle} + "f 1 2 -4\n", ":4: '-4' names no vertex");
  check_error(std::string{triangle} + "f 1 2 0\n", ":4: '0' names no vertex");
  check_error(std::string{triangle} + "f 1 2 x\n", ":4: 'x' names no vertex");
  check_error(std::string{triangle} + "f 1 2 99999999999999999999\n", "names no vertex");
  check_error(std::string{triangle} + "f 1 2\n", "at least three corners");
}

TEST_CASE("a coordinate that is no finite number is an error with its line") {
  check_error("v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", ":2: 'nan' is not a usable number");
  check_error("v 0 0 inf\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", ":1: 'inf'");
  check_error("v 0 0 1e39\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", ":1: '1e39'");
  check_error("v 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", ":1: 'v' needs three numbers");
}

TEST_CASE("a file that is no text is an error") {
  check_error(std::string("v 0 0 0\n\0\1\2", 11), ":2: the line holds binary data");
}

TEST_CASE("a material file that is missing is an error that names both files") {
  const test::Folder folder;
  const auto error =
      error_of(folder.file("scene.obj", "mtllib lost.mtl\n" + std::string{triangle} + "f 1 2 3\n"));
  CHECK(error.find("scene.obj: its material file") != error.npos);
  CHECK(error.find("lost.mtl cannot be read: No such file") != error.npos);
}

TEST_CASE("a material that no file describes is an error with its line") {
  check_error(std::string{triangle} + "usemtl gold\nf 1 2 3\n", ":4: material 'gold'");
}

TEST_CASE("a malformed camera is an error with its line") {
  check_error("# camera from 0 0 5\n", ":1: a camera is written");
  check_error("# camera from 0 0 0 at 0 0 0 fov 40\n", ":1: the camera looks at the place where it stands");
  check_error("# camera from 0 0 5 at 0 0 0 fov 180\n", ":1: fov");
}

TEST_CASE("materials are what their MTL says") {
  const test::Folder folder;
  folder.file(
      "m.mtl",
      "newmtl wall\nKd 0.5 0.25 1\nillum 1\npattern wood\nnewmtl gold\nKs 1 0.8 0.3\nNs 598\nillum 3\n"
      "newmtl glass\nNi 1.4\nTf 0.5 1 1\nillum 7\nnewmtl lamp\nKe 5 4 3\n");
  const auto path =
      folder.file("scene.obj", "mtllib m.mtl\n" + std::string{triangle} + "usemtl wall\nf 1 2 3\n");
  const Model model = read_model(path);
  REQUIRE(model.materials.size() == 5);
  CHECK(model.materials[0].surface == Surface::matte);
  CHECK(model.materials[0].pattern == Pattern::wood);
  CHECK(model.materials[0].colour == Vec{0.5F, 0.25F, 1});
  CHECK(model.materials[1].surface == Surface::metal);
  CHECK(model.materials[1].roughness == doctest::Approx(std::sqrt(2.0 / 600)));
  CHECK(model.materials[2].surface == Surface::glass);
  CHECK(model.materials[2].index == doctest::Approx(1.4));
  CHECK(model.materials[2].absorption.x == doctest::Approx(std::log(2.0)));
  CHECK(model.materials[2].absorption.y == 0);
  CHECK(model.materials[3].surface == Surface::light);
  CHECK(model.materials[3].colour == Vec{5, 4, 3});
}

TEST_CASE("an unknown pattern and a senseless refractive index are errors") {
  const test::Folder folder;
  const auto path = folder.file("scene.obj", "mtllib m.mtl\n" + std::string{triangle} + "f 1 2 3\n");
  folder.file("m.mtl", "newmtl a\npattern plaid\n");
  CHECK(error_of(path).find("unknown pattern 'plaid'") != std::string::npos);
  folder.file("m.mtl", "newmtl a\nillum 7\nNi -1\n");
  CHECK(error_of(path).find("not a refractive index") != std::string::npos);
}

TEST_CASE("without a camera in the file the whole model is in view") {
  const test::Folder folder;
  const Model model = read_model(folder.file("scene.obj", test::unit_sphere()));
  const Camera& camera = model.camera;
  const Vec forward = normalize(camera.at - camera.from);
  for (const Vec p : model.positions) {
    CHECK(dot(normalize(p - camera.from), forward) >= std::cos(camera.fov_degrees / 2 * pi / 180) - 1e-4F);
  }
}

TEST_CASE("faces with more than three corners and negative indices are read") {
  const test::Folder folder;
  CHECK(read_model(folder.file("scene.obj", test::level_square(1, 0))).triangles.size() == 2);
}

}  // namespace
}  // namespace raytracer
