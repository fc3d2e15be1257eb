#pragma once
// Function: a place in code as data, (module build-id, offset), so that a task never has to send code.
//
// A process that runs the same executable or library finds the same instructions at the same offset, wherever
// the module was loaded. Each build of a module has its own id (the linker's NT_GNU_BUILD_ID), so that code
// of another build is an error and never a jump into the dark. Source: ld(1) --build-id; dl_iterate_phdr(3).

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

#include "manyhands/wire/codec.hpp"

namespace manyhands::wire {

// Identifies one build of an executable or library. A module linked without a build-id gets one derived from
// its file's path, size and time, which is the same only for the same file.
struct BuildId {
  std::array<std::byte, 20> bytes{};

  std::string hex() const;
  friend bool operator==(const BuildId&, const BuildId&) = default;
};

struct Function {
  BuildId module;
  std::uint64_t offset = 0;  // from the module's load address

  friend bool operator==(const Function&, const Function&) = default;
};

// The function whose code (or data) starts at `address` in this process. Throws WireError if the address lies
// in no loaded module (code made at run time, for example). Any thread; the first call for a module reads its
// headers.
Function function_at(const void* address);

// Where `function` starts in this process. Throws WireError if no loaded module has its build-id, naming both
// builds when the main program differs. Any thread.
const void* address_of(const Function& function);

// The file a loaded module came from; empty if no loaded module has the id.
std::string path_of(const BuildId& id);

// "name(args)+0x12 in path" as far as the symbol tables say.
std::string describe(const Function& function);

template <>
struct Codec<Function> {
  static void pack(Writer& writer, const Function& function);
  static Function unpack(Reader& reader);
};

}  // namespace manyhands::wire
