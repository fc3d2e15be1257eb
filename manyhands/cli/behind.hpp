#pragma once
// For the libraries that `manyhands run` preloads: the function that one of ours stands in front of. They use
// nothing but the C library, so that they do not decide which libstdc++ a program gets. Compiled with hidden
// visibility: each library needs behind() of its own, where "next" means behind itself.

#include <dlfcn.h>
#include <link.h>

#include <cstddef>
#include <cstring>
#include <iterator>

namespace manyhands::cli {

// The libraries of the process whose file's name begins as wanted; their paths stay while they are loaded.
struct LoadedLibraries {
  const char* wanted;
  const char* paths[16];
  std::size_t count;
};

inline int note_library(dl_phdr_info* library, std::size_t, void* noted) {
  auto& libraries = *static_cast<LoadedLibraries*>(noted);
  const char* const slash = std::strrchr(library->dlpi_name, '/');
  const char* const name = slash == nullptr ? library->dlpi_name : slash + 1;
  if (std::strncmp(name, libraries.wanted, std::strlen(libraries.wanted)) == 0 &&
      libraries.count < std::size(libraries.paths))
    libraries.paths[libraries.count++] = library->dlpi_name;
  return 0;
}

// The next `function` in the order in which symbols are looked for; else that of a library whose file's name
// begins with `library`, which was loaded by dlopen for somebody alone, as Python does with MPI. Null if
// there is none.
inline void* behind(const char* function, const char* library) {
  if (void* const next = ::dlsym(RTLD_NEXT, function)) return next;
  LoadedLibraries libraries{library, {}, 0};
  ::dl_iterate_phdr(note_library, &libraries);
  for (std::size_t i = 0; i < libraries.count; ++i) {
    void* const handle = ::dlopen(libraries.paths[i], RTLD_LAZY | RTLD_NOLOAD);
    void* const found = handle == nullptr ? nullptr : ::dlsym(handle, function);
    if (handle != nullptr) ::dlclose(handle);
    if (found != nullptr) return found;
  }
  return nullptr;
}

}  // namespace manyhands::cli
