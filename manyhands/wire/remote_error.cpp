#include "manyhands/wire/remote_error.hpp"

#include <cxxabi.h>
#include <fmt/core.h>

#include <algorithm>
#include <any>
#include <array>
#include <filesystem>
#include <functional>
#include <future>
#include <ios>
#include <map>
#include <new>
#include <optional>
#include <regex>
#include <system_error>
#include <variant>

#include "manyhands/base/mutex.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/wire/error.hpp"

namespace manyhands {

// The task was itself one that got a RemoteError: it goes on with its own place.
template <>
struct wire::Codec<RemoteError> {
  static void pack(Writer& writer, const RemoteError& error) {
    wire::pack(writer, error.record());
    wire::pack(writer, error.place());
  }
  static RemoteError unpack(Reader& reader) {
    auto record = wire::unpack<ErrorRecord>(reader);
    return {std::move(record), wire::unpack<Place>(reader)};
  }
};

namespace {

std::string place_text(const Place& place) {
  std::string text = place.task >= 0 ? fmt::format("task {}", place.task) : std::string("a task");
  if (place.attempt > 1) text += fmt::format(" (attempt {})", place.attempt);
  if (place.worker >= 0) text += fmt::format(" in worker {}", place.worker);
  if (place.pid > 0)
    text += fmt::format(" (pid {}{}{})", place.pid, place.host.empty() ? "" : " on ", place.host);
  return text;
}

std::string error_text(const ErrorRecord& record, const Place& place) {
  std::string text = record.message.empty()
                         ? fmt::format("{} threw a {}", place_text(place), record.type)
                         : fmt::format("{} threw {}: {}", place_text(place), record.type, record.message);
  for (const auto& cause : record.causes) text += fmt::format("; caused by {}", cause);
  return text;
}

struct Known {
  wire::PackException pack;
  wire::ThrowException rethrow;
};

// Exceptions without state.
template <class E>
struct PlainCodec {
  static void pack(wire::Writer& writer, const std::exception_ptr&) { writer.nil(); }
  static void rethrow(wire::Reader& reader) {
    reader.nil();
    wire::throw_made([] { return E(); });
  }
};

// The categories that every process has.
const std::array<const std::error_category*, 4> categories{
    &std::generic_category(), &std::system_category(), &std::iostream_category(), &std::future_category()};

void pack_code(wire::Writer& writer, const std::error_code& code) {
  const auto* const found = std::find(categories.begin(), categories.end(), &code.category());
  if (found == categories.end())
    throw WireError(fmt::format("error category {} is not known to other processes", code.category().name()));
  writer.integer(found - categories.begin());
  writer.integer(code.value());
}

std::error_code unpack_code(wire::Reader& reader) {
  const auto category = reader.integral<std::uint32_t>();
  if (category >= categories.size()) throw WireError(fmt::format("error category {} is not known", category));
  return {reader.integral<int>(), *categories[category]};
}

// what() is "context: text of the code", or the latter alone; the context is not accessible, so the text of
// the code is cut off.
std::optional<std::string> context_of(const std::system_error& e) {
  const std::string text = e.what();
  const std::string suffix = ": " + e.code().message();
  if (text == e.code().message()) return std::nullopt;
  return text.ends_with(suffix) ? text.substr(0, text.size() - suffix.size()) : text;
}

// std::system_error and what is made like it.
template <class E>
struct SystemErrorCodec {
  static void pack(wire::Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const E& e) {
      pack_code(writer, e.code());
      wire::pack(writer, context_of(e));
    }
  }
  static void rethrow(wire::Reader& reader) {
    wire::throw_made([&] {
      const auto code = unpack_code(reader);
      const auto context = wire::unpack<std::optional<std::string>>(reader);
      if constexpr (std::is_same_v<E, std::system_error>) {
        return context ? E(code, *context) : E(code);
      } else {
        return E(context.value_or(""), code);
      }
    });
  }
};

// Exceptions that are made from a number; their message follows from it.
template <class E, class Code>
struct NumberedCodec {
  static void pack(wire::Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const std::future_error& e) {
      writer.integer(e.code().value());
    } catch (const std::regex_error& e) {
      writer.integer(static_cast<int>(e.code()));
    }
  }
  static void rethrow(wire::Reader& reader) {
    wire::throw_made([&] { return E(static_cast<Code>(reader.integral<int>())); });
  }
};

struct FilesystemErrorCodec {
  static void pack(wire::Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const std::filesystem::filesystem_error& e) {
      pack_code(writer, e.code());
      std::string what = e.what();  // "filesystem error: context: text [path1] [path2]"
      const std::string prefix = "filesystem error: ";
      if (what.starts_with(prefix)) what.erase(0, prefix.size());
      if (const auto at = what.find(": " + e.code().message()); at != std::string::npos) what.erase(at);
      writer.string(what);
      writer.string(e.path1().native());
      writer.string(e.path2().native());
    }
  }
  static void rethrow(wire::Reader& reader) {
    wire::throw_made([&] {
      const auto code = unpack_code(reader);
      const std::string what(reader.string());
      const std::filesystem::path first = reader.string();
      const std::filesystem::path second = reader.string();
      if (!second.empty()) return std::filesystem::filesystem_error(what, first, second, code);
      return first.empty() ? std::filesystem::filesystem_error(what, code)
                           : std::filesystem::filesystem_error(what, first, code);
    });
  }
};

struct OurSystemErrorCodec {
  static void pack(wire::Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const SystemError& e) {
      const std::string text = e.what();
      writer.string(text.substr(0, text.rfind(": ")));
      writer.integer(e.error());
    }
  }
  static void rethrow(wire::Reader& reader) {
    wire::throw_made([&] {
      const std::string what(reader.string());
      return SystemError(what, reader.integral<int>());
    });
  }
};

// A known type as the process that caught it names it. Types of unnamed namespaces may share their mangled
// name; they differ by the place of the code that throws them.
std::string place_text_of(wire::ThrowException rethrow) {
  const auto place = wire::function_at(reinterpret_cast<const void*>(rethrow));
  return fmt::format("{}+{:x}", place.module.hex(), place.offset);
}

// The types known to this process, by mangled name and type. One table per process, because types are;
// written by add_exception, mostly before main.
class Registry {
 public:
  Registry() {
    add_messages<std::logic_error, std::invalid_argument, std::domain_error, std::length_error,
                 std::out_of_range, std::runtime_error, std::range_error, std::overflow_error,
                 std::underflow_error, Error, Timeout, Cancelled, ResourceExhausted, WireError>();
    add_plain<std::exception, std::bad_exception, std::bad_alloc, std::bad_array_new_length, std::bad_cast,
              std::bad_typeid, std::bad_function_call, std::bad_optional_access, std::bad_variant_access,
              std::bad_weak_ptr, std::bad_any_cast>();
    add(typeid(std::system_error),
        {SystemErrorCodec<std::system_error>::pack, SystemErrorCodec<std::system_error>::rethrow});
    add(typeid(std::ios_base::failure),
        {SystemErrorCodec<std::ios_base::failure>::pack, SystemErrorCodec<std::ios_base::failure>::rethrow});
    using Future = NumberedCodec<std::future_error, std::future_errc>;
    add(typeid(std::future_error), {Future::pack, Future::rethrow});
    using Regex = NumberedCodec<std::regex_error, std::regex_constants::error_type>;
    add(typeid(std::regex_error), {Regex::pack, Regex::rethrow});
    add(typeid(RemoteError),
        {wire::ExceptionCodec<RemoteError>::pack, wire::ExceptionCodec<RemoteError>::rethrow});
    add(typeid(std::filesystem::filesystem_error),
        {FilesystemErrorCodec::pack, FilesystemErrorCodec::rethrow});
    add(typeid(SystemError), {OurSystemErrorCodec::pack, OurSystemErrorCodec::rethrow});
  }

  void add(const std::type_info& type, Known known) MH_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto [first, last] = known_.equal_range(type.name());
    const auto same =
        std::find_if(first, last, [&](const auto& entry) { return *entry.second.type == type; });
    if (same != last) {
      same->second.known = known;
    } else {
      known_.emplace(type.name(), Entry{.type = &type, .known = known});
    }
  }

  // The entry of a type, with its key for a message.
  std::optional<std::pair<Known, std::string>> find(const std::type_info& type) MH_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto [first, last] = known_.equal_range(type.name());
    const auto found =
        std::find_if(first, last, [&](const auto& entry) { return *entry.second.type == type; });
    if (found == last) return std::nullopt;
    std::string key = type.name();
    if (std::next(first) != last) key += separator + place_text_of(found->second.known.rethrow);
    return std::pair(found->second.known, std::move(key));
  }

  // What such a key says; nothing if it fits no type here, or several.
  std::optional<Known> find(const std::string& key) MH_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    const auto name = key.substr(0, key.find(separator));
    const auto [first, last] = known_.equal_range(name);
    if (first == last) return std::nullopt;
    if (key.size() == name.size())
      return std::next(first) == last ? std::optional(first->second.known) : std::nullopt;
    for (auto at = first; at != last; ++at) {
      if (place_text_of(at->second.known.rethrow) == key.substr(name.size() + 1)) return at->second.known;
    }
    return std::nullopt;
  }

 private:
  static constexpr char separator = '@';  // in no mangled name of a type
  struct Entry {
    const std::type_info* type;
    Known known;
  };

  template <class... E>
  void add_messages() {
    (add(typeid(E), {wire::MessageExceptionCodec<E>::pack, wire::MessageExceptionCodec<E>::rethrow}), ...);
  }
  template <class... E>
  void add_plain() {
    (add(typeid(E), {PlainCodec<E>::pack, PlainCodec<E>::rethrow}), ...);
  }

  Mutex mutex_;
  std::multimap<std::string, Entry> known_ MH_GUARDED_BY(mutex_);
};

Registry& registry() {
  static Registry instance;
  return instance;
}

std::string message_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    const char* const text = e.what();
    return text != nullptr ? text : "";
  } catch (const std::string& text) {
    return text;
  } catch (const char* text) {
    return text != nullptr ? text : "";
  } catch (int value) {
    return std::to_string(value);
  } catch (...) {
    return {};
  }
}

// The standard library's own types stand for what they derive from: _Nested_exception<E>, which
// std::throw_with_nested throws, for E, and __ios_failure for ios_base::failure. Null for an exception of
// another language.
const std::type_info* type_of(const std::exception_ptr& exception) {
  const std::type_info* type = exception.__cxa_exception_type();
  if (type == nullptr) return nullptr;
  const std::string name = demangle(type->name());
  if (name.starts_with("std::_")) {
    if (const auto* single = dynamic_cast<const abi::__si_class_type_info*>(type))
      type = single->__base_type;
    else if (const auto* several = dynamic_cast<const abi::__vmi_class_type_info*>(type))
      type = several->__base_info[0].__base_type;
  }
  return type;
}
std::string type_text_of(const std::exception_ptr& exception) {
  const std::type_info* const type = type_of(exception);
  return type == nullptr ? "exception of a foreign language" : demangle(type->name());
}

// What a receiver would throw has the same text. Throws WireError if it has not.
void check_made_again(const Known& known, ByteView payload, const std::string& message) {
  std::string text;
  try {
    wire::Reader reader(payload);
    known.rethrow(reader);
  } catch (const WireError& e) {
    if (e.what() != message) throw WireError(e.what());
    return;
  } catch (const std::exception& e) {
    text = e.what();
  } catch (...) {
    return;
  }
  if (text != message) throw WireError(fmt::format("made again, it would say '{}'", text));
}

// What was nested in it, each as "type: message", outermost first.
std::vector<std::string> causes_of(std::exception_ptr exception) {
  constexpr std::size_t most = 16;
  std::vector<std::string> causes;
  while (causes.size() < most) {
    try {
      std::rethrow_exception(exception);
    } catch (const std::nested_exception& outer) {
      exception = outer.nested_ptr();
    } catch (...) {
      return causes;
    }
    if (exception == nullptr) return causes;
    const std::string message = message_of(exception);
    const std::string type = type_text_of(exception);
    causes.push_back(message.empty() ? type : fmt::format("{}: {}", type, message));
  }
  return causes;
}

}  // namespace

RemoteError::RemoteError(ErrorRecord record, Place place)
    : Error(error_text(record, place)), record_(std::move(record)), place_(std::move(place)) {}

std::string RemoteError::stack() const {
  std::string text;
  for (const auto& frame : record_.stack) {
    try {
      text += fmt::format("  {}\n", describe_address(wire::address_of(frame)));
    } catch (const WireError&) {  // a module that only the worker has loaded
      text += fmt::format("  {}\n", wire::describe(frame));
    }
  }
  return text;
}

const RemoteError* remote_error(const std::exception& error) noexcept {
  if (const auto* remote = dynamic_cast<const RemoteError*>(&error)) return remote;
  const auto* nested = dynamic_cast<const std::nested_exception*>(&error);
  if (nested == nullptr || nested->nested_ptr() == nullptr) return nullptr;
  try {
    nested->rethrow_nested();
  } catch (const std::exception& inner) {
    return remote_error(inner);  // owned by `error`, so it outlives this handler
  } catch (...) {
    return nullptr;
  }
}

namespace wire {

void add_exception(const std::type_info& type, PackException pack, ThrowException rethrow) {
  registry().add(type, {pack, rethrow});
}

ErrorRecord record_of(const std::exception_ptr& exception, std::span<const void* const> stack) {
  ErrorRecord record;
  record.type = type_text_of(exception);
  record.message = message_of(exception);
  record.causes = causes_of(exception);
  for (const void* frame : stack) {
    try {
      record.stack.push_back(function_at(frame));
    } catch (const WireError&) {
      break;  // code made at run time has no place that could travel
    }
  }
  const std::type_info* const type = type_of(exception);
  const auto known = type != nullptr ? registry().find(*type) : std::nullopt;
  if (!known) return record;
  try {
    Writer writer;
    known->first.pack(writer, exception);
    check_made_again(known->first, writer.bytes(), record.message);
    record.payload.assign(writer.bytes().begin(), writer.bytes().end());
    record.key = known->second;
  } catch (const std::exception& e) {
    record.message += fmt::format(" (the exception itself could not be packed: {})", e.what());
  } catch (...) {
    record.message += " (the exception itself could not be packed)";
  }
  return record;
}

std::exception_ptr to_exception(const ErrorRecord& record, const Place& place) {
  try {
    try {
      throw RemoteError(record, place);
    } catch (const RemoteError&) {
      if (record.key.empty()) throw;
      const auto known = registry().find(record.key);
      if (!known) throw;
      Reader reader(record.payload);
      try {
        known->rethrow(reader);  // nests the RemoteError being handled
      } catch (const std::nested_exception&) {
        throw;
      } catch (const WireError&) {
        // a payload that does not fit the type here: the RemoteError below says all that is known
      } catch (...) {
        throw;  // of a type that nothing can be nested in
      }
      throw;
    }
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace wire
}  // namespace manyhands
