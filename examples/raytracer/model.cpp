#include "model.hpp"

#include <fmt/format.h>
#include <tiny_obj_loader.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>

namespace raytracer {
namespace {

std::string read_text(const std::string& path) {
  if (std::filesystem::is_directory(path))
    throw SceneError(fmt::format("{}: is a folder, not a scene file", path));
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path))
    throw SceneError(fmt::format("{}: is a device or a pipe, not a scene file", path));
  std::ifstream file{path, std::ios::binary};
  if (!file) throw SceneError(fmt::format("{}: cannot be read: {}", path, std::strerror(errno)));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

// The words of one line.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  constexpr std::string_view blanks = " \t\r";
  for (auto at = line.find_first_not_of(blanks); at != line.npos; at = line.find_first_not_of(blanks, at)) {
    const auto end = std::min(line.find_first_of(blanks, at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

std::optional<float> number(std::string_view word) {
  if (word.starts_with('+')) word.remove_prefix(1);
  float value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error == std::errc::result_out_of_range) {
    return std::strtof(std::string{word}.c_str(), nullptr);  // 0 or infinite
  }
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

// tinyobjloader reads what is no number as 0 and drops faces that point nowhere. A scene that was damaged on
// its way should say so, so each line is checked here, before it.
class Checker {
 public:
  Checker(const std::string& path, Model& model) : path_{path}, model_{model} {}

  void check(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      ++line_;
      check_line(text.substr(at, end - at));
      at = end + 1;
    }
    if (furthest_index_ > vertices_) {
      line_ = furthest_line_;
      fail(fmt::format("the face needs vertex {}, but the file has {}", furthest_index_, vertices_));
    }
    if (faces_ == 0) throw SceneError(fmt::format("{}: there is no triangle in it", path_));
  }

  // Throws if a face is painted with a material that no MTL of the file describes.
  void check_materials(const std::map<std::string, int>& known) {
    for (const auto& [name, line] : used_materials_) {
      if (known.contains(name)) continue;
      line_ = line;
      fail(fmt::format("material '{}' is in no MTL file that the scene names", name));
    }
  }

  bool has_camera() const noexcept { return has_camera_; }

 private:
  [[noreturn]] void fail(std::string_view reason) const {
    throw SceneError(fmt::format("{}:{}: {}", path_, line_, reason));
  }

  void check_line(std::string_view line) {
    if (line.find('\0') != line.npos) fail("the line holds binary data; this is not an OBJ file");
    const auto words = words_of(line);
    if (words.empty()) return;
    if (words[0] == "v" || words[0] == "vn") {
      (void)vector(words, 1);
      vertices_ += words[0] == "v" ? 1 : 0;
    } else if (words[0] == "f") {
      check_face(words);
    } else if (words[0] == "usemtl" && words.size() > 1) {
      used_materials_.try_emplace(std::string{words[1]}, line_);
    } else if (words[0] == "#" && words.size() > 1 && words[1] == "camera") {
      read_camera(words);
    } else if (words[0] == "#" && words.size() > 1 && words[1] == "background") {
      model_.background = vector(words, 2);
    }
  }

  Vec vector(const std::vector<std::string_view>& words, std::size_t first) const {
    if (words.size() < first + 3) fail(fmt::format("'{}' needs three numbers", words[first - 1]));
    return {finite(words[first]), finite(words[first + 1]), finite(words[first + 2])};
  }

  float finite(std::string_view word) const {
    const auto value = number(word);
    if (!value || !std::isfinite(*value) || std::abs(*value) > 1e9F) {
      fail(fmt::format("'{}' is not a usable number", word.substr(0, 40)));
    }
    return *value;
  }

  void check_face(const std::vector<std::string_view>& words) {
    if (words.size() < 4) fail("a face needs at least three corners");
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto corner = words[i].substr(0, words[i].find('/'));
      long long index = 0;
      const auto [end, error] = std::from_chars(corner.data(), corner.data() + corner.size(), index);
      if (error != std::errc{} || end != corner.data() + corner.size() || index == 0 || -index > vertices_) {
        fail(fmt::format("'{}' names no vertex", words[i].substr(0, 40)));
      }
      if (index > furthest_index_) {
        furthest_index_ = index;
        furthest_line_ = line_;
      }
    }
    ++faces_;
  }

  void read_camera(const std::vector<std::string_view>& words) {
    if (words.size() != 12 || words[2] != "from" || words[6] != "at" || words[10] != "fov") {
      fail("a camera is written '# camera from X Y Z at X Y Z fov DEGREES'");
    }
    model_.camera = {vector(words, 3), vector(words, 7), finite(words[11])};
    if (model_.camera.fov_degrees <= 0 || model_.camera.fov_degrees >= 180)
      fail("fov must lie between 0 and 180");
    const Vec view = model_.camera.at - model_.camera.from;
    if (length(view) < 1e-6F) fail("the camera looks at the place where it stands");
    has_camera_ = true;
  }

  const std::string& path_;
  Model& model_;
  long long line_ = 0, vertices_ = 0, faces_ = 0, furthest_index_ = 0, furthest_line_ = 0;
  std::map<std::string, long long> used_materials_;  // and the line of the first use
  bool has_camera_ = false;
};

Vec colour(const tinyobj::real_t (&c)[3], const std::string& path, const std::string& material) {
  const Vec value{static_cast<float>(c[0]), static_cast<float>(c[1]), static_cast<float>(c[2])};
  if (!std::isfinite(value.x + value.y + value.z) || std::min({value.x, value.y, value.z}) < 0) {
    throw SceneError(
        fmt::format("{}: material '{}' has a colour that is negative or not finite", path, material));
  }
  return value;
}

Material material_from(const tinyobj::material_t& from, const std::string& path) {
  Material m{.name = from.name};
  const Vec diffuse = colour(from.diffuse, path, m.name);
  const Vec specular = colour(from.specular, path, m.name);
  const Vec emission = colour(from.emission, path, m.name);
  const auto shininess = static_cast<float>(std::clamp<double>(from.shininess, 1, 100'000));
  m.roughness = std::max(std::sqrt(2 / (shininess + 2)), 0.005F);  // the GGX lobe as wide as Phong's
  const auto index = static_cast<float>(from.ior);
  if (max_component(emission) > 0) {
    m.surface = Surface::light;
    m.colour = emission;
  } else if (from.illum == 3 || from.illum == 5) {
    m.surface = Surface::metal;
    m.colour = {std::min(specular.x, 1.0F), std::min(specular.y, 1.0F), std::min(specular.z, 1.0F)};
  } else if (from.illum == 4 || from.illum == 6 || from.illum == 7 || from.illum == 9) {
    if (!(index > 0.2F && index < 5)) {
      throw SceneError(
          fmt::format("{}: material '{}' has Ni {}, not a refractive index", path, m.name, index));
    }
    m.surface = Surface::glass;
    m.index = index;
    const Vec left = colour(from.transmittance, path, m.name);
    const auto per_unit = [](float c) { return c <= 0 ? 20.0F : std::max(-std::log(c), 0.0F); };
    // tinyobjloader says black where the file says nothing; glass without Tf is clear
    if (max_component(left) > 0) m.absorption = {per_unit(left.x), per_unit(left.y), per_unit(left.z)};
  } else {
    m.colour = {std::min(diffuse.x, 1.0F), std::min(diffuse.y, 1.0F), std::min(diffuse.z, 1.0F)};
    if (max_component(specular) > 0) {
      const float ior = index > 1.01F ? index : 1.5F;
      m.coat = (ior - 1) * (ior - 1) / ((ior + 1) * (ior + 1));
    }
  }
  if (const auto pattern = from.unknown_parameter.find("pattern"); pattern != from.unknown_parameter.end()) {
    if (pattern->second != "wood" && pattern->second != "checker") {
      throw SceneError(
          fmt::format("{}: material '{}' has the unknown pattern '{}'; there are wood and checker", path,
                      m.name, pattern->second));
    }
    m.pattern = pattern->second == "wood" ? Pattern::wood : Pattern::checker;
  }
  return m;
}

// Reads the MTL beside the OBJ. tinyobjloader takes a missing MTL for a warning; here it is an error.
class MtlReader : public tinyobj::MaterialReader {
 public:
  explicit MtlReader(const std::string& obj_path) : obj_path_{obj_path} {}

  bool operator()(const std::string& name, std::vector<tinyobj::material_t>* materials,
                  std::map<std::string, int>* ids, std::string* warnings, std::string* errors) override {
    const auto path = (std::filesystem::path{obj_path_}.parent_path() / name).string();
    std::ifstream file{path};
    if (!file) {
      throw SceneError(
          fmt::format("{}: its material file {} cannot be read: {}", obj_path_, path, std::strerror(errno)));
    }
    tinyobj::LoadMtl(ids, materials, &file, warnings, errors);
    return true;
  }

 private:
  const std::string& obj_path_;
};

Camera camera_that_sees(const std::vector<Vec>& positions) {
  Vec low = positions.front(), high = low;
  for (const Vec p : positions) {
    low = {std::min(low.x, p.x), std::min(low.y, p.y), std::min(low.z, p.z)};
    high = {std::max(high.x, p.x), std::max(high.y, p.y), std::max(high.z, p.z)};
  }
  const Vec centre = (low + high) / 2;
  const float radius = std::max(length(high - low) / 2, 1e-3F);
  Camera camera{.at = centre, .fov_degrees = 40};
  camera.from = centre + normalize({0.25F, 0.35F, 1}) * (radius / std::sin(20 * pi / 180));
  return camera;
}

void add_shape(const tinyobj::shape_t& shape, std::uint32_t number, const tinyobj::attrib_t& attrib,
               Model& model) {
  for (std::size_t face = 0; face * 3 + 2 < shape.mesh.indices.size(); ++face) {
    Triangle triangle;
    const auto* corner = &shape.mesh.indices[face * 3];
    for (std::size_t i = 0; i < 3; ++i)
      triangle.vertex[i] = static_cast<std::uint32_t>(corner[i].vertex_index);
    const Vec origin = model.positions[triangle.vertex[0]];
    const Vec across =
        cross(model.positions[triangle.vertex[1]] - origin, model.positions[triangle.vertex[2]] - origin);
    if (!(length(across) > 1e-12F)) continue;
    for (std::size_t i = 0; i < 3; ++i) {
      triangle.normal[i] = normalize(across);
      const auto at = static_cast<std::size_t>(corner[i].normal_index) * 3;
      if (corner[i].normal_index < 0 || at + 2 >= attrib.normals.size()) continue;
      const Vec given{static_cast<float>(attrib.normals[at]), static_cast<float>(attrib.normals[at + 1]),
                      static_cast<float>(attrib.normals[at + 2])};
      if (dot(given, given) > 1e-6F) triangle.normal[i] = normalize(given);
    }
    const int material = shape.mesh.material_ids[face];
    triangle.face_normal = normalize(across);
    if (dot(across, triangle.normal[0] + triangle.normal[1] + triangle.normal[2]) < 0) {
      triangle.face_normal = -triangle.face_normal;
    }
    triangle.material = material < 0 ? static_cast<std::uint32_t>(model.materials.size() - 1)
                                     : static_cast<std::uint32_t>(material);
    triangle.shape = number;
    model.triangles.push_back(triangle);
  }
}

}  // namespace

Model read_model(const std::string& path) {
  Model model;
  const std::string text = read_text(path);
  Checker checker{path, model};
  checker.check(text);

  tinyobj::attrib_t attrib;
  std::vector<tinyobj::shape_t> shapes;
  std::vector<tinyobj::material_t> materials;
  std::string warnings, errors;
  std::istringstream stream{text};
  MtlReader mtl{path};
  if (!tinyobj::LoadObj(&attrib, &shapes, &materials, &warnings, &errors, &stream, &mtl)) {
    throw SceneError(fmt::format("{}: {}", path, errors.substr(0, errors.find('\n'))));
  }
  std::map<std::string, int> known;
  for (const auto& material : materials) known.emplace(material.name, 0);
  checker.check_materials(known);
  for (const auto& material : materials) model.materials.push_back(material_from(material, path));
  model.materials.push_back({.name = "(none)"});
  for (std::size_t i = 0; i + 2 < attrib.vertices.size(); i += 3) {
    model.positions.push_back({static_cast<float>(attrib.vertices[i]),
                               static_cast<float>(attrib.vertices[i + 1]),
                               static_cast<float>(attrib.vertices[i + 2])});
  }
  for (std::size_t i = 0; i < shapes.size(); ++i)
    add_shape(shapes[i], static_cast<std::uint32_t>(i), attrib, model);
  if (model.triangles.empty())
    throw SceneError(fmt::format("{}: there is no triangle with an area in it", path));
  if (!checker.has_camera()) model.camera = camera_that_sees(model.positions);
  return model;
}

}  // namespace raytracer
