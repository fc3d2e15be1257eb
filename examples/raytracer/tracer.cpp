#include "tracer.hpp"

#include <map>
#include <memory>
#include <mutex>

#include "sampler.hpp"
#include "surface.hpp"

namespace raytracer {
namespace {

constexpr std::uint32_t tile_size = 16;  // small enough that all workers end at about the same time
constexpr int longest_path = 28;         // surfaces of any kind
constexpr int most_glass_splits = 4;
constexpr std::uint32_t gloss_paths = 3;
constexpr int most_matte_bounces = 5;    // of these, matte ones
constexpr float brightest_indirect = 2;  // clamps, of one path's radiance: by way of a matte surface,
constexpr float brightest_gloss = 1.5F;  // of metal,
constexpr float brightest_glint = 8;     // and of glass; brighter, a highlight's edge would be jagged

float power_heuristic(float mine, float other) { return mine * mine / (mine * mine + other * other); }

Vec clamped(Vec radiance, float limit) {
  const float brightness = max_component(radiance);
  return brightness > limit ? radiance * (limit / brightness) : radiance;
}

// One camera path under way.
class Path {
 public:
  Path(const Stage& stage, Ray ray, Sampler sampler, std::uint64_t& rays)
      : stage_{stage}, ray_{ray}, sampler_{sampler}, rays_{rays} {}

  Vec trace() {
    for (; length_ < longest_path; ++length_) {
      ++rays_;
      const auto hit = stage_.scene.intersect(ray_);
      if (!hit) {
        add(stage_.scene.model().background);
        break;
      }
      if (!step(*hit)) break;
    }
    return sum_;
  }

 private:
  // Adds what this surface sends back and chooses where to go on; false at the end of the path.
  bool step(const Hit& hit) {
    switch (hit.material->surface) {
      case Surface::light:
        see_light(hit);
        return false;
      case Surface::glass:
        return pass_glass(hit);
      case Surface::metal:
      case Surface::matte:
        break;
    }
    return bounce(hit);
  }

  void add(Vec radiance) {
    const Vec arrived = throughput_ * radiance;
    sum_ += matte_bounces_ > 0   ? clamped(arrived, brightest_indirect)
            : gloss_bounces_ > 0 ? clamped(arrived, brightest_gloss)
            : length_ > 0        ? clamped(arrived, brightest_glint)
                                 : arrived;
  }

  void see_light(const Hit& hit) {
    if (!hit.front || past_caustics_) return;
    float share = 1;
    if (last_density_ > 0) {
      const float cosine = -dot(ray_.direction, hit.face_normal);
      const float density = stage_.scene.lights().density_for(last_place_, hit.triangle) * hit.distance *
                            hit.distance / std::max(cosine, 1e-6F);
      share = power_heuristic(last_density_, density);
    }
    add(hit.material->colour * share);
  }

  bool pass_glass(const Hit& hit) {
    if (!hit.front) throughput_ *= exp(hit.material->absorption * -hit.distance);
    past_caustics_ = matte_bounces_ > 0;
    last_density_ = 0;
    const Vec normal = shading_normal(hit);
    float choice = sampler_.pair().u;
    if (glass_splits_ < most_glass_splits && seen_through_glass_only()) choice = split(hit, normal);
    const auto scatter = scatter_glass(*hit.material, ray_.direction, normal, hit.front, choice);
    throughput_ *= scatter.index_ratio * scatter.index_ratio;  // radiance is denser in the denser medium
    ray_ = {hit.position, scatter.direction};
    return max_component(throughput_) > 1e-4F;
  }

  // The first glass walls that the eye sees are followed both ways: mirrored here, by a path of its own, and
  // refracted by this one. Left to chance, the rare mirrored samples would show as grain on every highlight.
  // Returns the choice for scatter_glass that refracts, if the angle allows it.
  float split(const Hit& hit, Vec normal) {
    ++glass_splits_;
    const float ratio = hit.front ? hit.material->index : 1 / hit.material->index;
    const float mirrored = fresnel(std::min(-dot(ray_.direction, normal), 1.0F), ratio);
    if (mirrored >= 1) return 1;
    Path other = branch(mirrored);
    other.glass_splits_ = most_glass_splits;
    other.ray_ = {hit.position, normalize(reflect(-ray_.direction, normal))};
    ++other.length_;
    sum_ += other.trace();
    throughput_ *= 1 - mirrored;
    return 1;
  }

  // Metal that the eye sees blurs what it mirrors: more paths there, for the same reason.
  void fan_out(const Hit& hit) {
    fanned_out_ = true;
    constexpr float share = 1.0F / gloss_paths;
    for (std::uint32_t i = 1; i < gloss_paths; ++i) {
      Path other = branch(share, i);
      if (other.bounce(hit)) {
        ++other.length_;
        (void)other.trace();
      }
      sum_ += other.sum_;
    }
    throughput_ *= share;
  }

  // A path that goes on from here with a share of this one's light.
  Path branch(float share, std::uint32_t number = 0) const {
    Path other = *this;
    other.sum_ = {};
    other.throughput_ *= share;
    other.sampler_ = sampler_.branch(number);
    return other;
  }

  bool seen_through_glass_only() const { return matte_bounces_ == 0 && gloss_bounces_ == 0; }

  bool bounce(const Hit& hit) {
    const Material material = plain_after_matte(*hit.material);
    if (material.surface == Surface::metal && !fanned_out_ && seen_through_glass_only()) fan_out(hit);
    const Vec normal = shading_normal(hit);
    const Vec face = hit.front ? hit.face_normal : -hit.face_normal;
    const Vec colour = colour_at(material, hit.position);
    const Frame frame{normal};
    const Vec out = frame.to_local(-ray_.direction);
    const bool matte = material.surface == Surface::matte;

    if (matte) {
      ++matte_bounces_;  // what follows counts as indirect only after the direct light
      const Vec caustic = matte_bounces_ == 1 ? stage_.caustics.sharp_irradiance(hit.position, face)
                                              : stage_.caustics.smooth_irradiance(hit.position, face);
      --matte_bounces_;
      add(caustic * colour * ((1 - material.coat) / pi));
    }
    past_caustics_ = !matte && matte_bounces_ > 0;
    if (!stage_.scene.lights().empty() && !past_caustics_)
      add_direct_light(hit, material, colour, frame, out);

    const Pair direction = sampler_.pair(), choice = sampler_.pair();
    const auto sample = sample_surface(material, colour, out, direction, choice.u);
    if (!sample) return false;
    const Vec next = frame.to_world(sample->in);
    if (dot(next, face) <= 0) return false;  // bent below the real surface by the interpolated normal
    throughput_ *= sample->weight;
    if (matte && ++matte_bounces_ > most_matte_bounces) return false;
    if (!matte) ++gloss_bounces_;
    last_density_ = sample->density;
    ray_ = {hit.position, next};
    return survives(choice.v);
  }

  void add_direct_light(const Hit& hit, const Material& material, Vec colour, const Frame& frame, Vec out) {
    last_place_ = {hit.position, frame.z};
    const Pair place = sampler_.pair(), pick = sampler_.pair();
    const LightSample light = stage_.scene.lights().sample_for(last_place_, place.u, place.v, pick.u);
    const Vec way = light.position - hit.position;
    const float distance2 = dot(way, way);
    const Vec in = way / std::sqrt(distance2);
    const float leaving = -dot(in, light.normal);
    if (leaving <= 0 || (dot(in, hit.face_normal) > 0) != hit.front) return;
    const Response response = evaluate_surface(material, colour, out, frame.to_local(in));
    if (!(response.density > 0)) return;
    ++rays_;
    if (stage_.scene.occluded(hit.position, light.position)) return;
    const float density = light.area_density * distance2 / leaving;  // per solid angle
    add(response.value * light.radiance * (power_heuristic(density, response.density) / density));
  }

  Material plain_after_matte(const Material& material) const {
    Material plain = material;
    if (matte_bounces_ > 0) plain.coat = 0;
    return plain;
  }

  Vec shading_normal(const Hit& hit) const {
    const Vec normal = hit.front ? hit.normal : -hit.normal;
    if (dot(normal, ray_.direction) < 0) return normal;
    return hit.front ? hit.face_normal : -hit.face_normal;
  }

  // Russian roulette, once the path has met a matte surface.
  bool survives(float lot) {
    if (matte_bounces_ < 1) return max_component(throughput_) > 1e-4F;
    const float chance = std::min(max_component(throughput_), 0.95F);
    if (lot >= chance) return false;
    throughput_ *= 1 / chance;
    return true;
  }

  const Stage& stage_;
  Ray ray_;
  Sampler sampler_;
  std::uint64_t& rays_;
  Vec sum_;
  Vec throughput_{1, 1, 1};
  float last_density_ = 0;  // of the direction, if direct light was also sampled where it was chosen; else 0
  Place last_place_;        // where direct light was last sampled
  int length_ = 0;
  int matte_bounces_ = 0;
  int gloss_bounces_ = 0;
  // Glass or metal came after the last matte surface, which counted its lamps by photons.
  bool past_caustics_ = false;
  int glass_splits_ = 0;
  bool fanned_out_ = false;
};

// From a point in the picture to a ray.
class Lens {
 public:
  Lens(const Camera& camera, const Picture& picture) : origin_{camera.from} {
    const Vec forward = normalize(camera.at - camera.from);
    const Vec any_up = std::abs(forward.y) > 0.999F ? Vec{0, 0, -1} : Vec{0, 1, 0};
    const Vec right = normalize(cross(forward, any_up));
    const float half_height = std::tan(camera.fov_degrees * pi / 360);
    const float pixel = 2 * half_height / static_cast<float>(picture.height);
    across_ = right * pixel;
    down_ = cross(forward, right) * pixel;
    corner_ = forward - across_ * (static_cast<float>(picture.width) / 2) -
              down_ * (static_cast<float>(picture.height) / 2);
  }

  Ray ray(float x, float y) const { return {origin_, normalize(corner_ + across_ * x + down_ * y)}; }

 private:
  Vec origin_, across_, down_, corner_;
};

// A tent of two pixels' width: smooth edges without samples shared between pixels.
float tent(float u) { return u < 0.5F ? std::sqrt(2 * u) - 1 : 1 - std::sqrt(2 - 2 * u); }

}  // namespace

std::vector<Tile> tiles_of(const Picture& picture) {
  std::vector<Tile> tiles;
  for (std::uint32_t y = 0; y < picture.height; y += tile_size) {
    for (std::uint32_t x = 0; x < picture.width; x += tile_size) {
      tiles.push_back(
          {x, y, std::min(tile_size, picture.width - x), std::min(tile_size, picture.height - y)});
    }
  }
  return tiles;
}

const Stage& stage_of(const std::string& path) {
  // The one mutable static of this program: a worker process has no other place to keep a scene between two
  // tiles.
  static std::mutex mutex;
  // Guarded by mutex; entries never change.
  static std::map<std::string, std::unique_ptr<const Stage>> stages;
  const std::lock_guard lock{mutex};
  auto& stage = stages[path];
  if (!stage) stage = std::make_unique<const Stage>(Scene::load(path));
  return *stage;
}

Vec radiance(const Stage& stage, Ray ray, std::uint32_t seed, std::uint32_t sample, std::uint64_t& rays) {
  return Path{stage, ray, Sampler{seed, sample}, rays}.trace();
}

Pixels render(const Stage& stage, const Picture& picture, const Tile& tile) {
  const Lens lens{stage.scene.model().camera, picture};
  Pixels pixels;
  pixels.rgb.reserve(std::size_t{tile.width} * tile.height * 3);
  for (std::uint32_t y = tile.y; y < tile.y + tile.height; ++y) {
    for (std::uint32_t x = tile.x; x < tile.x + tile.width; ++x) {
      const std::uint32_t seed = hash(x, y);
      Vec sum;
      for (std::uint32_t sample = 0; sample < picture.samples; ++sample) {
        const Pair in_pixel = sobol_pair(sample, hash(seed, 0x6c656e73U));
        const Ray ray = lens.ray(static_cast<float>(x) + 0.5F + tent(in_pixel.u),
                                 static_cast<float>(y) + 0.5F + tent(in_pixel.v));
        sum += radiance(stage, ray, seed, sample, pixels.rays);
      }
      const Vec mean = sum / static_cast<float>(picture.samples);
      pixels.rgb.insert(pixels.rgb.end(), {mean.x, mean.y, mean.z});
    }
  }
  return pixels;
}

}  // namespace raytracer
