#pragma once
// From linear radiance to a PNG file.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace raytracer {

// A file cannot be written. One line: "PATH: REASON".
class OutputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Dims every pixel that outshines all its eight neighbours to the brightest of them: a lone sample that found
// a lamp by a rare way. Modifies [height, width, 3] in place.
void despeckle(std::span<float> rgb, std::uint32_t width, std::uint32_t height);

// Averages each pixel with those around it whose neighbourhood looks the same, up to differences as small as
// the grain of a few samples; edges and textures stay. Modifies [height, width, 3] in place. Source: Buades,
// Coll, Morel, "A non-local algorithm for image denoising" (CVPR 2005).
void soften_grain(std::span<float> rgb, std::uint32_t width, std::uint32_t height);

// Linear RGB to sRGB bytes, through a filmic curve that keeps highlights from burning out. `exposure` scales
// first. Source: Narkowicz, "ACES Filmic Tone Mapping Curve" (2015).
std::vector<std::uint8_t> tone_map(std::span<const float> rgb, float exposure = 1);

// Writes [height, width, 3] bytes as PNG, first beside the path and then renamed onto it: the file is whole
// or absent.
void write_png(const std::string& path, std::uint32_t width, std::uint32_t height,
               std::span<const std::uint8_t> rgb);

// The same for any bytes.
void write_file(const std::string& path, std::span<const char> bytes);

// Throws OutputError if write_file would fail for a reason that can be known now. Leaves nothing behind.
void check_writable(const std::string& path);

}  // namespace raytracer
