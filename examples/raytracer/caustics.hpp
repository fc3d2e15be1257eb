#pragma once
// CausticMap: light that reached a matte surface by way of glass or metal, as photons.
//
// A path tracer finds such light only by luck (a path from the table through the glass must end on a small
// lamp), which is what makes its pictures grainy. So it is traced the other way: photons from the lamps
// towards the glass and metal things, kept where they fall on something matte; the tracer looks them up and
// leaves these paths out of its own sum. Source: Jensen, "Global Illumination using Photon Maps" (1996).

#include <array>
#include <cstdint>
#include <vector>

#include "scene.hpp"
#include "vec.hpp"

namespace raytracer {

struct Photon {
  Vec position;
  Vec normal;  // of the face, on the side where the photon arrived
  Vec power;   // already divided by the number of photons sent
};

// Photons in a grid of cells, for lookups within a fixed radius. Const is shareable.
class PhotonGrid {
 public:
  struct Estimate {
    Vec irradiance;   // power per area
    float found = 0;  // photons that it rests on
  };

  PhotonGrid() = default;
  // `radius` of the disc over which a place gathers, in units of the scene.
  PhotonGrid(std::vector<Photon> photons, float radius);

  // What falls on the side of `normal` at a place.
  Estimate gather(Vec position, Vec normal) const;

  const std::vector<Photon>& photons() const noexcept { return photons_; }

 private:
  std::uint32_t bucket_of(std::int32_t x, std::int32_t y, std::int32_t z) const;

  std::vector<Photon> photons_;              // sorted by bucket
  std::vector<std::uint32_t> bucket_begin_;  // into photons_; a power of two buckets, and the end
  float radius_ = 0;                         // a cell is twice as wide
};

// Const is shareable.
class CausticMap {
 public:
  // Sends `count` photons; the same ones in every process. Empty if the scene has no lamp, no glass and no
  // metal.
  CausticMap(const Scene& scene, std::uint32_t count);

  // Power per area that falls on the side of `normal` at a place. The first is sharp where photons are many
  // and smooth where they are few; the second is smooth everywhere and cheaper, for places that are seen by
  // way of others.
  Vec sharp_irradiance(Vec position, Vec normal) const;
  Vec smooth_irradiance(Vec position, Vec normal) const {
    return coarse_.gather(position, normal).irradiance;
  }

  const std::vector<Photon>& photons() const noexcept { return fine_.photons(); }

 private:
  PhotonGrid fine_;    // all photons
  PhotonGrid coarse_;  // every eighth, eight times as strong, over a disc of nine times the area
};

}  // namespace raytracer
