#include "manyhands/base/elf.hpp"

#include <doctest/doctest.h>
#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace manyhands {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() {
    char name[] = "/tmp/manyhands-elf-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

template <class T>
void put(std::vector<std::byte>& bytes, std::size_t at, const T& value) {
  bytes.resize(std::max(bytes.size(), at + sizeof value));
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

struct Library {
  std::string soname;
  std::vector<std::string> needed;
  std::string rpath;
  std::string runpath;
};

// A library without code: header, one PT_LOAD over everything, PT_DYNAMIC, PT_NOTE with the build-id 01 02
// ab.
std::vector<std::byte> make(const Library& library) {
  constexpr std::size_t dynamic_at = 256, strings_at = 1024, notes_at = 2048;
  std::string strings(1, '\0');
  std::vector<Elf64_Dyn> dynamic;
  const auto add = [&](Elf64_Sxword tag, const std::string& text) {
    if (text.empty()) return;
    dynamic.push_back({tag, {strings.size()}});
    strings += text + '\0';
  };
  for (const auto& name : library.needed) add(DT_NEEDED, name);
  add(DT_SONAME, library.soname);
  add(DT_RPATH, library.rpath);
  add(DT_RUNPATH, library.runpath);
  dynamic.push_back({DT_STRTAB, {strings_at}});
  dynamic.push_back({DT_STRSZ, {strings.size()}});
  dynamic.push_back({DT_NULL, {0}});

  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_DYN;
  header.e_machine = EM_X86_64;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 3;
  std::vector<std::byte> bytes(4096);
  put(bytes, 0, header);
  Elf64_Phdr load{};
  load.p_type = PT_LOAD;
  load.p_filesz = load.p_memsz = bytes.size();
  Elf64_Phdr table{};
  table.p_type = PT_DYNAMIC;
  table.p_offset = table.p_vaddr = dynamic_at;
  table.p_filesz = dynamic.size() * sizeof(Elf64_Dyn);
  Elf64_Phdr notes{};
  notes.p_type = PT_NOTE;
  notes.p_offset = notes_at;
  notes.p_filesz = sizeof(Elf64_Nhdr) + 4 + 4;
  notes.p_align = 4;
  std::size_t at = sizeof header;
  for (const auto& segment : {load, table, notes}) {
    put(bytes, at, segment);
    at += sizeof segment;
  }
  for (std::size_t i = 0; i < dynamic.size(); ++i) put(bytes, dynamic_at + i * sizeof(Elf64_Dyn), dynamic[i]);
  std::memcpy(bytes.data() + strings_at, strings.data(), strings.size());
  put(bytes, notes_at, Elf64_Nhdr{4, 3, NT_GNU_BUILD_ID});
  std::memcpy(bytes.data() + notes_at + sizeof(Elf64_Nhdr), "GNU\0\x01\x02\xab", 7);
  return bytes;
}

void write(const fs::path& path, const Library& library) {
  fs::create_directories(path.parent_path());
  const auto bytes = make(library);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

std::vector<std::string> paths_of(const std::vector<NeededLibrary>& libraries) {
  std::vector<std::string> paths;
  for (const auto& library : libraries) paths.push_back(library.path);
  return paths;
}

TEST_CASE("an ELF file tells its name, its needs, its paths and its build-id") {
  const auto info = parse_elf(make({"libx.so.1", {"liba.so", "libb.so.2"}, "", "$ORIGIN/lib:/opt/lib"}), "x");
  CHECK(info.soname == "libx.so.1");
  CHECK(info.needed == std::vector<std::string>{"liba.so", "libb.so.2"});
  CHECK(info.runpath == std::vector<std::string>{"$ORIGIN/lib", "/opt/lib"});
  CHECK(info.rpath.empty());
  CHECK(info.build_id == "0102ab");
  CHECK_FALSE(info.is_program);
}

TEST_CASE("this program is a program and needs the C library") {
  const auto info = read_elf("/proc/self/exe");
  CHECK(info.is_program);
  CHECK(std::count(info.needed.begin(), info.needed.end(), "libc.so.6") == 1);
  const auto all = needed_libraries("/proc/self/exe", LibrarySearch::of_environment(), Follow::all);
  const auto libc =
      std::find_if(all.begin(), all.end(), [](const auto& library) { return library.name == "libc.so.6"; });
  REQUIRE(libc != all.end());
  CHECK(fs::exists(libc->path));
  CHECK(libc->is_system);
}

TEST_CASE("what is no ELF file is an error that says so") {
  const std::string text = "#!/bin/sh\necho this is a script\n";
  CHECK_THROWS_WITH_AS(parse_elf(as_byte_view(text), "a.sh"), "a.sh: no ELF file", ElfError);
  CHECK_THROWS_WITH_AS(parse_elf({}, "empty"), "empty: no ELF file: it is too short", ElfError);
  CHECK_THROWS_AS(read_elf("/nonexistent"), SystemError);
  CHECK_THROWS_AS(read_elf("/tmp"), SystemError);
  CHECK_FALSE(is_elf("/tmp"));
  CHECK_FALSE(is_elf("/nonexistent"));
  CHECK(is_elf("/proc/self/exe"));
}

TEST_CASE("a 32-bit file is refused") {
  auto bytes = make({"libx.so", {}, "", ""});
  bytes[EI_CLASS] = std::byte{ELFCLASS32};
  CHECK_THROWS_WITH_AS(parse_elf(bytes, "x"), "x: an ELF file, but not a 64-bit little-endian one", ElfError);
}

TEST_CASE("a file that is cut anywhere is read or refused, never more") {
  const auto bytes = make({"libx.so.1", {"liba.so"}, "/a", "/b"});
  for (std::size_t size = 0; size < bytes.size(); size += 7) {
    try {
      static_cast<void>(parse_elf(ByteView(bytes).first(size), "x"));
    } catch (const ElfError&) {
    }
  }
}

TEST_CASE("a file with wrong bytes is read or refused, never more") {
  const auto good = make({"libx.so.1", {"liba.so"}, "/a", "/b"});
  std::mt19937 random(42);
  for (int round = 0; round < 20'000; ++round) {
    auto bytes = good;
    for (int i = 0; i < 3; ++i) {
      const std::size_t at = random() % 3 == 0 ? random() % 64 : random() % 512;
      bytes[at] = std::byte(random());
    }
    try {
      static_cast<void>(parse_elf(bytes, "x"));
    } catch (const ElfError&) {
    }
  }
}

TEST_CASE("libraries are found by RUNPATH with $ORIGIN, in the order dependencies first") {
  const Folder folder;
  write(folder.path / "libtop.so", {"libtop.so", {"libmiddle.so", "libleaf.so"}, "", "$ORIGIN/sub"});
  write(folder.path / "sub/libmiddle.so", {"libmiddle.so", {"libleaf.so"}, "", "${ORIGIN}"});
  write(folder.path / "sub/libleaf.so", {"libleaf.so", {}, "", ""});
  const auto found = needed_libraries(folder.path / "libtop.so", {}, Follow::all);
  REQUIRE(found.size() == 2);
  CHECK(fs::path(found[0].path).filename() == "libleaf.so");
  CHECK(fs::path(found[1].path).filename() == "libmiddle.so");
  CHECK_FALSE(found[0].is_system);
}

TEST_CASE("RPATH is inherited by what a library needs, RUNPATH is not") {
  const Folder folder;
  for (const bool runpath : {false, true}) {
    const std::string sub = "$ORIGIN/sub";
    write(folder.path / "libtop.so", {"libtop.so", {"libmiddle.so"}, runpath ? "" : sub, runpath ? sub : ""});
    write(folder.path / "sub/libmiddle.so", {"libmiddle.so", {"libleaf.so"}, "", ""});
    write(folder.path / "sub/libleaf.so", {"libleaf.so", {}, "", ""});
    const auto found = needed_libraries(folder.path / "libtop.so", {}, Follow::all);
    REQUIRE(found.size() == 2);
    CHECK(found[0].name == "libleaf.so");
    CHECK(found[0].path.empty() == runpath);
  }
}

TEST_CASE("LD_LIBRARY_PATH comes before RUNPATH; what is missing is listed with who needs it") {
  const Folder folder;
  write(folder.path / "libtop.so", {"libtop.so", {"liba.so", "libnone.so"}, "", "$ORIGIN/run"});
  write(folder.path / "run/liba.so", {"liba.so", {}, "", ""});
  write(folder.path / "env/liba.so", {"liba.so", {}, "", ""});
  LibrarySearch search;
  search.library_path = (folder.path / "env").string();
  const auto found = needed_libraries(folder.path / "libtop.so", search, Follow::all);
  CHECK(paths_of(found) == std::vector<std::string>{(folder.path / "env/liba.so").string(), ""});
  CHECK(found[1].name == "libnone.so");
  CHECK(found[1].needed_by == (folder.path / "libtop.so").string());
}

TEST_CASE("libraries that need each other end the search") {
  const Folder folder;
  write(folder.path / "liba.so", {"liba.so", {"libb.so"}, "$ORIGIN", ""});
  write(folder.path / "libb.so", {"libb.so", {"liba.so"}, "$ORIGIN", ""});
  CHECK(needed_libraries(folder.path / "liba.so", {}, Follow::all).size() == 2);
}

TEST_CASE("a damaged loader cache finds nothing") {
  std::string cache = "glibc-ld.so.cache1.1";
  CHECK(detail::find_in_cache(as_byte_view(cache), "libc.so.6", EM_X86_64).empty());
  cache += std::string(28, '\xff');  // says it has four billion entries
  CHECK(detail::find_in_cache(as_byte_view(cache), "libc.so.6", EM_X86_64).empty());
  CHECK(detail::find_in_cache({}, "libc.so.6", EM_X86_64).empty());
}

}  // namespace
}  // namespace manyhands
