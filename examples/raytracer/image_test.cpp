#include "image.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>

#include "test_scenes.hpp"

namespace raytracer {
namespace {

TEST_CASE("a PNG begins with its signature and its size, and nothing unfinished is left") {
  const test::Folder folder;
  const std::vector<std::uint8_t> rgb(300 * 2 * 3, 128);
  write_png(folder.path("a.png"), 300, 2, rgb);
  std::ifstream file{folder.path("a.png"), std::ios::binary};
  const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
  REQUIRE(bytes.size() > 24);
  CHECK(bytes.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  CHECK(bytes.substr(12, 12) == std::string("IHDR\0\0\x01\x2c\0\0\0\x02", 12));
  CHECK(bytes.substr(bytes.size() - 8, 4) == "IEND");
  CHECK(std::distance(std::filesystem::directory_iterator{folder.path()}, {}) == 1);
}

TEST_CASE("an output that cannot be written is known beforehand, with the reason") {
  const test::Folder folder;
  CHECK_THROWS_WITH_AS(check_writable("/no/such/folder/a.png"),
                       "/no/such/folder/a.png: cannot be written: No such file or directory", OutputError);
  CHECK_THROWS_AS(check_writable(folder.path().string()), OutputError);
  CHECK_THROWS_AS(check_writable(""), OutputError);
  CHECK_THROWS_AS(write_file("/no/such/folder/a.png", {}), OutputError);
  check_writable(folder.path("a.png"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("an existing picture stays as it is while the output is checked") {
  const test::Folder folder;
  const auto path = folder.file("a.png", "old");
  check_writable(path);
  CHECK(std::filesystem::file_size(path) == 3);
}

TEST_CASE("what is no regular file is written into, not replaced") {
  const test::Folder folder;
  const auto target = folder.file("target.png", "old");
  std::filesystem::create_symlink(target, folder.path("link.png"));
  check_writable(folder.path("link.png"));
  write_file(folder.path("link.png"), std::string("new!"));
  CHECK(std::filesystem::is_symlink(folder.path("link.png")));
  CHECK(std::filesystem::file_size(target) == 4);
  std::filesystem::create_symlink("/dev/full", folder.path("full"));
  check_writable(folder.path("full"));
  CHECK_THROWS_WITH_AS(write_file(folder.path("full"), std::string("new")),
                       doctest::Contains("full: cannot be written: No space left on device"), OutputError);
  CHECK(std::filesystem::is_symlink(folder.path("full")));
}

TEST_CASE("tone mapping keeps order, black and white") {
  const std::vector<float> rgb{0, 0.1F, 0.5F, 1, 3, 1000};
  const auto bytes = tone_map(rgb);
  CHECK(bytes.front() == 0);
  CHECK(bytes.back() == 255);
  CHECK(std::is_sorted(bytes.begin(), bytes.end()));
}

TEST_CASE("despeckling dims a lone bright pixel and leaves a line alone") {
  std::vector<float> rgb(5 * 5 * 3, 1);
  const auto pixel = [&rgb](std::size_t x, std::size_t y) { return &rgb[(y * 5 + x) * 3]; };
  std::fill_n(pixel(2, 2), 3, 100.0F);
  despeckle(rgb, 5, 5);
  CHECK(*pixel(2, 2) == doctest::Approx(1));
  for (std::size_t y = 0; y < 5; ++y) std::fill_n(pixel(2, y), 3, 100.0F);
  despeckle(rgb, 5, 5);
  CHECK(*pixel(2, 2) == 100);
}

TEST_CASE("softening takes grain out of an even ground and keeps an edge") {
  constexpr std::uint32_t size = 16;
  std::vector<float> rgb(size * size * 3);
  for (std::size_t i = 0; i < rgb.size(); ++i) {
    const float ground = (i / 3) % size < size / 2 ? 0.2F : 0.6F;
    rgb[i] = ground * (i / 3 % 5 == 0 ? 1.03F : 1);
  }
  soften_grain(rgb, size, size);
  const auto row = [&rgb](std::size_t x) { return rgb[(8 * size + x) * 3]; };
  CHECK(std::abs(row(2) - row(3)) < 0.003F);
  CHECK(row(7) < 0.22F);
  CHECK(row(8) > 0.58F);
}

}  // namespace
}  // namespace raytracer
