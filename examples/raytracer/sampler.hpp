#pragma once
// Sampler: the random numbers of one camera path, a pure function of (seed, sample, how many pairs were
// drawn).
//
// Nothing is carried from pixel to pixel, so a picture has the same bits in whatever order and on whatever
// worker its tiles are rendered. Pairs come from the two-dimensional Sobol sequence, so that the samples of a
// pixel are stratified in every pair; each pair is shuffled and scrambled on its own (Owen scrambling by
// hashing). Sources: Burley, "Practical Hash-based Owen Scrambling" (JCGT 2020); Laine and Karras 2011, with
// the constants of Vegdahl 2021; the Pascal-matrix form of Sobol's second dimension: Ahmed, "An
// Implementation Algorithm of 2D Sobol Sequence" (2024).

#include <cstdint>

namespace raytracer {

struct Pair {
  float u = 0, v = 0;  // each in [0, 1)
};

constexpr std::uint32_t hash(std::uint32_t x) noexcept {  // lowbias32, Wellons 2018
  x ^= x >> 16;
  x *= 0x21f0aaadU;
  x ^= x >> 15;
  x *= 0xd35a2d97U;
  return x ^ (x >> 15);
}
constexpr std::uint32_t hash(std::uint32_t x, std::uint32_t y) noexcept {
  return hash(x ^ (hash(y) + 0x9e3779b9U));
}

constexpr std::uint32_t reverse_bits(std::uint32_t x) noexcept {
  x = ((x >> 1) & 0x55555555U) | ((x & 0x55555555U) << 1);
  x = ((x >> 2) & 0x33333333U) | ((x & 0x33333333U) << 2);
  x = ((x >> 4) & 0x0f0f0f0fU) | ((x & 0x0f0f0f0fU) << 4);
  x = ((x >> 8) & 0x00ff00ffU) | ((x & 0x00ff00ffU) << 8);
  return (x >> 16) | (x << 16);
}

// Element `index` of Sobol's second dimension, its bits reversed (the first dimension is the index itself).
constexpr std::uint32_t reversed_sobol_1(std::uint32_t index) noexcept {
  index ^= index >> 16;
  index ^= (index & 0xff00ff00U) >> 8;
  index ^= (index & 0xf0f0f0f0U) >> 4;
  index ^= (index & 0xccccccccU) >> 2;
  return index ^ ((index & 0xaaaaaaaaU) >> 1);
}

// Owen scrambling of a number whose bits are reversed.
constexpr std::uint32_t scramble_reversed(std::uint32_t x, std::uint32_t seed) noexcept {
  x ^= x * 0x3d20adeaU;
  x += seed;
  x *= (seed >> 16) | 1;
  x ^= x * 0x05526c56U;
  return x ^ (x * 0x53a22864U);
}

constexpr float to_unit_float(std::uint32_t x) noexcept { return static_cast<float>(x >> 8) * 0x1p-24F; }

// Pair `index` of the scrambled sequence that `seed` names.
constexpr Pair sobol_pair(std::uint32_t index, std::uint32_t seed) noexcept {
  const std::uint32_t shuffled = reverse_bits(scramble_reversed(reverse_bits(index), hash(seed)));
  return {
      to_unit_float(reverse_bits(scramble_reversed(shuffled, hash(seed ^ 0x5bd1e995U)))),
      to_unit_float(reverse_bits(scramble_reversed(reversed_sobol_1(shuffled), hash(seed ^ 0x85ebca6bU))))};
}

// One thread.
class Sampler {
 public:
  constexpr Sampler(std::uint32_t seed, std::uint32_t sample) noexcept : seed_{seed}, sample_{sample} {}

  // Numbers of their own for a path that branches off; `branch` tells several of them apart.
  constexpr Sampler branch(std::uint32_t branch) const noexcept {
    return {hash(hash(seed_, drawn_), branch + 1), sample_};
  }

  constexpr Pair pair() noexcept { return sobol_pair(sample_, hash(seed_, drawn_++)); }

 private:
  std::uint32_t seed_;
  std::uint32_t sample_;
  std::uint32_t drawn_ = 0;
};

}  // namespace raytracer
