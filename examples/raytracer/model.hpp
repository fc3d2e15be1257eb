#pragma once
// Model: what a scene file says, checked and in plain arrays. scene.hpp builds what is traced from it.
//
// Read from OBJ and MTL by tinyobjloader. Materials by `illum`: 0-2 matte, with a clear coat if Ks is not
// black; 3, 5 metal (Ks is its colour, Ns its polish); 4, 6, 7, 9 glass (Ni: index of the inside relative to
// the outside; Tf: colour left after one unit of way inside). Ke not black: a light that shines from the
// front of its triangles. Beyond OBJ: comments `# camera from X Y Z at X Y Z fov DEGREES` and `# background R
// G B`, and the MTL keyword `pattern wood|checker`.

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "vec.hpp"

namespace raytracer {

// The scene cannot be used. One line: "PATH: REASON" or "PATH:LINE: REASON".
class SceneError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Surface : std::uint8_t { matte, metal, glass, light };
enum class Pattern : std::uint8_t { plain, wood, checker };

struct Material {
  std::string name;
  Surface surface = Surface::matte;
  Pattern pattern = Pattern::plain;
  Vec colour{0.7F, 0.7F,
             0.7F};         // albedo of matte, reflectance at normal incidence of metal, radiance of a light
  float coat = 0;           // matte only: reflectance of the clear coat at normal incidence; 0: none
  float roughness = 0.01F;  // alpha of GGX, for metal and coat
  float index = 1.5F;       // glass only: refractive index inside / outside
  Vec absorption{};         // glass only: per unit of way inside
};

struct Triangle {
  std::array<std::uint32_t, 3> vertex;  // indices into Model::positions
  std::array<Vec, 3> normal;            // unit, one for each corner; face_normal where the file has none
  Vec face_normal;  // unit, on the front: where the corners' normals point, else by winding
  std::uint32_t material = 0;
  std::uint32_t shape = 0;  // number of its `o` or `g` in the file
};

struct Camera {
  Vec from{}, at{};
  float fov_degrees = 40;  // of the picture's height
};

struct Model {
  std::vector<Vec> positions;
  std::vector<Triangle> triangles;  // never empty, none of them without area
  std::vector<Material> materials;
  Camera camera;  // the file's, or one that sees all from the front and a little above
  Vec background;
};

// Throws SceneError: the file or its MTL cannot be read, a line is malformed, a coordinate is not finite, an
// index points nowhere, or there is no triangle.
Model read_model(const std::string& path);

}  // namespace raytracer
