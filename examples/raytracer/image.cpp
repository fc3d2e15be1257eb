#include "image.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>

namespace raytracer {
namespace {

float filmic(float x) {
  x = std::max(x * 0.6F, 0.0F);
  return std::clamp(x * (2.51F * x + 0.03F) / (x * (2.43F * x + 0.59F) + 0.14F), 0.0F, 1.0F);
}

float to_srgb(float x) { return x <= 0.0031308F ? 12.92F * x : 1.055F * std::pow(x, 1 / 2.4F) - 0.055F; }

std::string beside(const std::string& path) { return fmt::format("{}.{}.part", path, ::getpid()); }

[[noreturn]] void fail(const std::string& path, int error) {
  throw OutputError(fmt::format("{}: cannot be written: {}", path, std::strerror(error)));
}

// Removes the unfinished file unless it was renamed.
struct Unfinished {
  std::string path;
  ~Unfinished() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

}  // namespace

void despeckle(std::span<float> rgb, std::uint32_t width, std::uint32_t height) {
  const std::vector<float> before(rgb.begin(), rgb.end());
  const auto brightness = [&](std::uint32_t x, std::uint32_t y) {
    const float* p = &before[(std::size_t{y} * width + x) * 3];
    return 0.2126F * p[0] + 0.7152F * p[1] + 0.0722F * p[2];
  };
  for (std::uint32_t y = 0; y < height; ++y) {
    for (std::uint32_t x = 0; x < width; ++x) {
      float brightest = 0;
      for (std::uint32_t v = y - (y > 0 ? 1 : 0); v <= std::min(y + 1, height - 1); ++v) {
        for (std::uint32_t u = x - (x > 0 ? 1 : 0); u <= std::min(x + 1, width - 1); ++u) {
          if (u != x || v != y) brightest = std::max(brightest, brightness(u, v));
        }
      }
      const float own = brightness(x, y);
      if (own <= brightest || width * height == 1) continue;
      for (std::size_t c = 0; c < 3; ++c) rgb[(std::size_t{y} * width + x) * 3 + c] *= brightest / own;
    }
  }
}

void soften_grain(std::span<float> rgb, std::uint32_t width, std::uint32_t height) {
  constexpr int reach = 3, patch = 1;  // pixels to each side
  // Root mean square of a difference that counts as grain, as the eye sees it.
  constexpr float grain = 0.022F;
  const int w = static_cast<int>(width), h = static_cast<int>(height);
  const std::vector<float> before(rgb.begin(), rgb.end());
  std::vector<float> seen(rgb.size());
  std::transform(rgb.begin(), rgb.end(), seen.begin(), [](float c) { return to_srgb(filmic(c)); });
  const auto pixel = [w, h](const std::vector<float>& from, int x, int y) {
    return &from[(static_cast<std::size_t>(std::clamp(y, 0, h - 1)) * static_cast<std::size_t>(w) +
                  static_cast<std::size_t>(std::clamp(x, 0, w - 1))) *
                 3];
  };
  const auto difference = [&](int x, int y, int u, int v) {
    float sum = 0;
    for (int dy = -patch; dy <= patch; ++dy) {
      for (int dx = -patch; dx <= patch; ++dx) {
        const float *p = pixel(seen, x + dx, y + dy), *q = pixel(seen, u + dx, v + dy);
        for (int c = 0; c < 3; ++c) sum += (p[c] - q[c]) * (p[c] - q[c]);
      }
    }
    return sum / (3 * (2 * patch + 1) * (2 * patch + 1));
  };
  for (int y = 0; y < h; ++y) {
    for (int x = 0; x < w; ++x) {
      float sum[3] = {}, weights = 0;
      for (int v = std::max(y - reach, 0); v <= std::min(y + reach, h - 1); ++v) {
        for (int u = std::max(x - reach, 0); u <= std::min(x + reach, w - 1); ++u) {
          const float weight = std::exp(-difference(x, y, u, v) / (grain * grain));
          const float* p = pixel(before, u, v);
          for (int c = 0; c < 3; ++c) sum[c] += weight * p[c];
          weights += weight;
        }
      }
      const auto at = (static_cast<std::size_t>(y) * width + static_cast<std::size_t>(x)) * 3;
      for (std::size_t c = 0; c < 3; ++c) rgb[at + c] = sum[c] / weights;
    }
  }
}

std::vector<std::uint8_t> tone_map(std::span<const float> rgb, float exposure) {
  std::vector<std::uint8_t> bytes(rgb.size());
  std::transform(rgb.begin(), rgb.end(), bytes.begin(), [exposure](float c) {
    return static_cast<std::uint8_t>(std::lround(255 * to_srgb(filmic(c * exposure))));
  });
  return bytes;
}

// What is there already and no regular file (a device, a pipe, a link) is written into, not replaced.
bool is_replaceable(const std::string& path) {
  const auto status = std::filesystem::symlink_status(path);
  return !std::filesystem::exists(status) || std::filesystem::is_regular_file(status);
}

// `path` stands in the message.
void write_into(const std::string& place, const std::string& path, std::span<const char> bytes) {
  errno = 0;
  std::ofstream file{place, std::ios::binary};
  if (!file) fail(path, errno);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) fail(path, errno != 0 ? errno : EIO);
}

void write_file(const std::string& path, std::span<const char> bytes) {
  if (!is_replaceable(path)) {
    write_into(path, path, bytes);
    return;
  }
  const Unfinished part{beside(path)};
  write_into(part.path, path, bytes);
  std::error_code error;
  std::filesystem::rename(part.path, path, error);
  if (error) fail(path, error.value());
}

void check_writable(const std::string& path) {
  if (path.empty()) throw OutputError("an empty name: cannot be written");
  if (std::filesystem::is_directory(path)) fail(path, EISDIR);
  if (!is_replaceable(path)) {
    if (::access(path.c_str(), W_OK) != 0 && errno != ENOENT) fail(path, errno);
    return;
  }
  const Unfinished part{beside(path)};
  errno = 0;
  std::ofstream file{part.path, std::ios::binary};
  if (!file) fail(path, errno);
}

void write_png(const std::string& path, std::uint32_t width, std::uint32_t height,
               std::span<const std::uint8_t> rgb) {
  std::string png;
  const auto append = [](void* to, void* data, int size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(data), static_cast<std::size_t>(size));
  };
  if (stbi_write_png_to_func(append, &png, static_cast<int>(width), static_cast<int>(height), 3, rgb.data(),
                             static_cast<int>(width * 3)) == 0) {
    throw OutputError(fmt::format("{}: a picture of {}x{} cannot be encoded", path, width, height));
  }
  write_file(path, png);
}

}  // namespace raytracer
