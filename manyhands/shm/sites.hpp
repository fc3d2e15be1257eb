#pragma once
// Sites: places in the source, interned in the program's shared memory, so that any of its processes, and
// `manyhands locks`, can say where another one took a lock.
//
// A site costs a few nanoseconds after its first use by a thread. The table is bounded: when it is full, new
// sites have no name. Any process, any thread.

#include <cstdint>
#include <source_location>
#include <string>

#include "manyhands/shm/heap.hpp"

namespace manyhands::shm {

using Site = std::uint32_t;  // an index; 0: unknown

namespace detail {
struct CachedSite {
  const char* file;
  std::uint32_t line;
  Site site;
};
inline constexpr std::size_t site_cache_size = 64;
inline constinit thread_local CachedSite site_cache[site_cache_size] = {};
Site intern_slowly(const std::source_location& where, CachedSite& cached) noexcept;
}  // namespace detail

// The site of `where`. Requires ensure_heap().
inline Site intern(const std::source_location& where) noexcept {
  detail::CachedSite& cached = detail::site_cache[where.line() % detail::site_cache_size];
  if (cached.line == where.line() && cached.file == where.file_name()) return cached.site;
  return detail::intern_slowly(where, cached);
}

// The site of a return address: the text is made now, from debug information. Slow.
Site intern_address(const void* address) noexcept;
// The same; looked up once per thread.
Site site_of_caller(const void* return_address) noexcept;

// "file:line (function)", or "an unknown line".
std::string describe(Site site);
std::string describe(Site site, const Tables& tables);

}  // namespace manyhands::shm
