#include "manyhands/wire/callable.hpp"

#include <fmt/core.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/base/stack_space.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands::wire {
namespace {

bool is_mapped(std::uintptr_t address) {
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  unsigned char resident = 0;
  return ::mincore(reinterpret_cast<void*>(address & ~(page - 1)), 1, &resident) == 0 || errno != ENOMEM;
}

// ---- Words of a closure that are addresses.

constexpr std::uintptr_t lowest = 65536;                     // nothing is mapped below
constexpr std::uintptr_t highest = std::uintptr_t{1} << 48;  // nothing of a program's from here on

enum class Memory : std::uint8_t { place, shared, stack, other };  // what a word refers to
constexpr std::size_t max_words = 64;  // whose numbers a faulting address can tell

// Addresses that no process can ever have mapped (the kernel's half), so that any use of one faults, by which
// is told what it stands for: [ faults_from | Memory : 1 | word : 6 | 2^36 + what was added to it : 37 ].
constexpr std::uint64_t faults_from = 0xffff'a000'0000'0000;
constexpr int word_bit = 37;
constexpr int memory_bit = 43;
constexpr std::uint64_t faults_end = faults_from + (std::uint64_t{2} << memory_bit);

std::uint64_t faulting_address(Memory memory, std::size_t word) {
  return faults_from + (std::uint64_t{memory == Memory::stack ? 0U : 1U} << memory_bit) +
         (std::uint64_t{std::min(word, max_words - 1)} << word_bit) + (std::uint64_t{1} << (word_bit - 1));
}

std::string capture_text(std::size_t word, bool on_stack) {
  return fmt::format(
      "the function captures something by reference or pointer (bytes {}-{} of its captures point {}), which "
      "a worker process does not share; capture it by value (a copy, *this, a std::vector for a span, a "
      "std::string for a string_view), give it as an argument or by mh::bind(f, state...), or use a pool "
      "with Start::fork and mh::snapshot(f)",
      word * 8, word * 8 + 7,
      on_stack ? "into the caller's stack" : "into the caller's heap or other memory of its own");
}

const SharedMemory* shared_memory = nullptr;  // set once, before the first task

std::atomic<bool> reports_faults{false};
std::atomic<bool> handles_faults{false};
struct sigaction handler_before;  // written once, before ours is installed

// Says what it was, if it was a capture, and lets the fault happen again, for whoever handled it before.
void on_fault(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
  if (address >= faults_from && address < faults_end) {
    const std::size_t word = (address >> word_bit) & (max_words - 1);
    char text[] =
        "manyhands: the function used a pointer or reference that it captured at byte ### of its captures; "
        "it is the caller's own memory, which this process does not share: capture it by value, or give it as "
        "an argument or by mh::bind\n";
    char* digits = std::strstr(text, "###");
    for (std::size_t i = 0, value = word * 8; i < 3; ++i, value /= 10)
      digits[2 - i] = static_cast<char>('0' + value % 10);
    static_cast<void>(!::write(STDERR_FILENO, text, sizeof text - 1));
  }
  ::sigaction(signal, &handler_before, nullptr);
}

void explain_faults() {
  if (reports_faults.load() || handles_faults.exchange(true)) return;
  struct sigaction action{};
  ::sigaction(SIGSEGV, nullptr, &handler_before);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace

namespace detail {

void pack_closure(Writer& writer, MutableByteView closure, Surety surety, Reach reach) {
  struct Reference {
    std::size_t word;
    Memory memory;
    Function place;
    std::uint64_t offset;
  };
  std::vector<Reference> references;
  thread_local const StackBounds stack = bounds_of_thread();
  const auto live_from = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  for (std::size_t word = 0; (word + 1) * sizeof(std::uintptr_t) <= closure.size(); ++word) {
    std::uintptr_t value;
    std::memcpy(&value, &closure[word * sizeof value], sizeof value);
    if (value < lowest || value >= highest || !is_mapped(value)) continue;
    const auto* const address = reinterpret_cast<const void*>(value);
    const bool on_stack = value >= stack.low && value < stack.high;
    Reference reference{
        .word = word, .memory = on_stack ? Memory::stack : Memory::other, .place = {}, .offset = 0};
    const bool is_ours = reach == Reach::same_program || reach == Reach::forked_before;
    if (!on_stack && is_ours && shared_memory != nullptr)
      reference.offset = shared_memory->offset_of(address);
    if (reference.offset != 0) {
      reference.memory = Memory::shared;
    } else if (!on_stack) {
      try {
        reference.place = function_at(address);
        reference.memory = Memory::place;
      } catch (const WireError&) {
        // in no module
      }
    }
    if (reference.memory == Memory::other && reach == Reach::forked_before && shared_memory != nullptr &&
        shared_memory->is_inherited(address))
      continue;
    const bool is_own = reference.memory == Memory::stack || reference.memory == Memory::other;
    const bool is_live = on_stack && value >= live_from;
    if (is_own && (surety == Surety::certain || (surety == Surety::if_on_live_stack && is_live)))
      throw Error(capture_text(word, on_stack));
    references.push_back(reference);
  }
  if (references.empty()) return writer.binary(closure);
  for (const auto& reference : references)
    std::memset(&closure[reference.word * sizeof(std::uintptr_t)], 0, sizeof(std::uintptr_t));
  writer.array(1 + references.size());
  writer.binary(closure);
  for (const auto& reference : references) {
    writer.array(3);
    writer.unsigned_integer(reference.word);
    writer.unsigned_integer(static_cast<std::uint64_t>(reference.memory));
    if (reference.memory == Memory::place) {
      pack(writer, reference.place);
    } else {
      writer.unsigned_integer(reference.offset);
    }
  }
}

void unpack_closure(Reader& reader, MutableByteView closure) {
  const std::size_t parts = reader.peek() == Type::array ? reader.array() : 1;
  const ByteView bytes = reader.binary();
  if (bytes.size() != closure.size()) reader.reject("a closure of another size than this build's");
  std::memcpy(closure.data(), bytes.data(), bytes.size());
  for (std::size_t part = 1; part < parts; ++part) {
    reader.array_of(3);
    const std::size_t word = reader.unsigned_integer();
    if (word >= closure.size() / sizeof(std::uint64_t))
      reader.reject("a capture beyond the end of its closure");
    const auto memory = static_cast<Memory>(reader.integral<std::uint8_t>());
    std::uint64_t value = 0;
    if (memory == Memory::place) {
      value = reinterpret_cast<std::uint64_t>(address_of(unpack<Function>(reader)));
    } else {
      const std::uint64_t offset = reader.unsigned_integer();
      if (memory == Memory::shared && shared_memory != nullptr) {
        value = reinterpret_cast<std::uint64_t>(shared_memory->address_of(offset));
      } else {
        value = faulting_address(memory, word);
        explain_faults();
      }
    }
    std::memcpy(&closure[word * sizeof value], &value, sizeof value);
  }
}

}  // namespace detail

bool register_shared_memory(const SharedMemory& memory) noexcept {
  shared_memory = &memory;
  return true;
}

std::string captured_pointer_text(std::uint64_t address) {
  if (address < faults_from || address >= faults_end) return {};
  return capture_text((address >> word_bit) & (max_words - 1), ((address >> memory_bit) & 1) == 0);
}

void faults_are_reported() noexcept { reports_faults.store(true); }

void refuse_snapshot() {
  throw Error(
      "mh::snapshot(f) needs workers that are forked at the call: use a pool with .start = Start::fork, or "
      "mh::bind(f, state...) here");
}

}  // namespace manyhands::wire
