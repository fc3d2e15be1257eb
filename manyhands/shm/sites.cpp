#include "manyhands/shm/sites.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string_view>

#include "manyhands/base/stack_trace.hpp"

namespace manyhands::shm {
namespace {

constexpr std::size_t text_words = (site_size - 16) / 8;

struct SiteSlot {
  std::atomic<std::uint64_t> key;  // a hash of the text; 0: unused. Written once
  // 1: the text is whole. Whoever finds it 0 writes it again: always the same.
  std::atomic<std::uint32_t> written;
  std::uint32_t padding;
  std::array<std::atomic<std::uint64_t>, text_words> text;  // zero-terminated
};
static_assert(sizeof(SiteSlot) == site_size);

SiteSlot* slots_in(const Tables& tables) noexcept { return reinterpret_cast<SiteSlot*>(tables.sites); }

std::uint64_t hash(std::string_view text) noexcept {  // FNV-1a
  std::uint64_t value = 0xcbf2'9ce4'8422'2325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  return value | 1;
}

Site intern_text(std::string_view text) noexcept {
  SiteSlot* const slots = slots_in(tables());
  const std::uint64_t key = hash(text);
  for (std::uint32_t probe = 0; probe < max_sites; ++probe) {
    const auto index = static_cast<Site>((key + probe) % max_sites);
    if (index == 0) continue;  // "unknown"
    SiteSlot& slot = slots[index];
    std::uint64_t found = slot.key.load(std::memory_order_relaxed);
    if (found == 0 && slot.key.compare_exchange_strong(found, key, std::memory_order_relaxed)) found = key;
    if (found != key) continue;
    if (slot.written.load(std::memory_order_acquire) == 0) {
      std::array<char, text_words * 8> padded{};
      std::copy_n(text.data(), std::min(text.size(), padded.size() - 1), padded.data());
      for (std::size_t i = 0; i < text_words; ++i) {
        std::uint64_t word = 0;
        std::memcpy(&word, padded.data() + i * 8, 8);
        slot.text[i].store(word, std::memory_order_relaxed);
      }
      slot.written.store(1, std::memory_order_release);
    }
    return index;
  }
  return 0;
}

}  // namespace

Site detail::intern_slowly(const std::source_location& where, CachedSite& cached) noexcept {
  try {
    // The end of a path tells more than its beginning.
    std::string_view file = where.file_name();
    if (file.size() > 120) file.remove_prefix(file.size() - 120);
    std::string_view function = where.function_name();
    if (function.size() > 90) function = function.substr(0, 90);
    cached = {where.file_name(), where.line(),
              intern_text(fmt::format("{}:{} ({})", file, where.line(), function))};
    return cached.site;
  } catch (...) {
    return 0;
  }
}

Site intern_address(const void* address) noexcept {
  try {
    return intern_text(describe_address(address));
  } catch (...) {
    return 0;
  }
}

Site site_of_caller(const void* return_address) noexcept {
  struct Cached {
    const void* address;
    Site site;
  };
  static constinit thread_local Cached cache[64] = {};
  Cached& cached = cache[reinterpret_cast<std::uintptr_t>(return_address) / 4 % 64];
  if (cached.address != return_address) cached = {return_address, intern_address(return_address)};
  return cached.site;
}

std::string describe(Site site) { return describe(site, tables()); }

std::string describe(Site site, const Tables& tables) {
  if (site == 0 || site >= max_sites) return "an unknown line";
  const SiteSlot& slot = slots_in(tables)[site];
  if (slot.written.load(std::memory_order_acquire) == 0) return "an unknown line";
  std::array<char, text_words * 8> text{};
  for (std::size_t i = 0; i < text_words; ++i) {
    const std::uint64_t word = slot.text[i].load(std::memory_order_relaxed);
    std::memcpy(text.data() + i * 8, &word, 8);
  }
  text.back() = '\0';
  return text.data();
}

}  // namespace manyhands::shm
