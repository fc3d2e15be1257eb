#pragma once
// Exceptions that travel: how a task's exception leaves its process as data and is thrown again in the
// caller's.
//
// ErrorRecord is the data, made once where the exception was caught. to_exception() turns it into what get()
// throws:
//   a known type (std's, manyhands', registered ones)  -> that type again, with the RemoteError nested
//   inside;
//                                                         also if it was thrown by std::throw_with_nested:
//                                                         what it carried is named in the RemoteError's
//                                                         message
//   anything else                                      -> RemoteError, with type name, message, remote stack
//   and place
//
//   try { pool.apply(f, x); }
//   catch (const std::out_of_range& e) { if (const auto* remote = mh::remote_error(e)) std::cerr <<
//   remote->stack(); }

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <typeinfo>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/wire/codec.hpp"
#include "manyhands/wire/function.hpp"

namespace manyhands {

// Where a task ran.
struct Place {
  std::int64_t task = -1;     // index in its map, or the number of the apply; -1: not known
  std::uint32_t attempt = 1;  // 1 the first time
  std::int32_t worker = -1;   // number of the worker in its pool
  std::int32_t pid = 0;
  std::string host;
};

// An exception as data. Packable.
struct ErrorRecord {
  std::string type;                // demangled: "std::out_of_range"; "int" for throw 42
  std::string message;             // what(); empty if the exception is no std::exception
  std::string key;                 // mangled type name if the type is known and could be packed, else empty
  std::vector<std::byte> payload;  // the packed exception, for `key`
  std::vector<wire::Function> stack;  // return addresses at the throw, innermost first
  std::vector<std::string> causes;    // "type: message" of the exceptions nested inside, outermost first
};

// A task's exception of a type that cannot be thrown again here, or the remote part of one that can.
class RemoteError : public Error {
 public:
  RemoteError(ErrorRecord record, Place place);

  const std::string& type() const noexcept { return record_.type; }
  const std::string& message() const noexcept { return record_.message; }
  const ErrorRecord& record() const noexcept { return record_; }
  const Place& place() const noexcept { return place_; }
  // The stack of the throw, a line per frame, innermost first; empty if it could not be taken. Reads debug
  // information.
  std::string stack() const;

 private:
  ErrorRecord record_;
  Place place_;
};

// The RemoteError that `error` is or carries nested, with place and stack of what happened remotely; nullptr
// if none.
const RemoteError* remote_error(const std::exception& error) noexcept;

namespace wire {

// Packs the exception of type E that `exception` holds; made by mh::register_exception.
using PackException = void (*)(Writer& writer, const std::exception_ptr& exception);
// Unpacks and throws it, with the exception now being handled nested inside.
using ThrowException = void (*)(Reader& reader);
void add_exception(const std::type_info& type, PackException pack, ThrowException rethrow);

// The exception as data. `stack`: return addresses of the throw in this process. Does not throw for any
// exception: what cannot be packed is described, and the description says so.
ErrorRecord record_of(const std::exception_ptr& exception, std::span<const void* const> stack = {});

std::exception_ptr to_exception(const ErrorRecord& record, const Place& place);

// E is made again from its message: the exceptions of std::runtime_error's kind.
template <class E>
concept MessageException = std::is_base_of_v<std::exception, E> && std::is_constructible_v<E, std::string>;

template <class E>
struct MessageExceptionCodec {
  static void pack(Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const E& e) {
      writer.string(e.what());
    }
  }
  static void rethrow(Reader& reader) { std::throw_with_nested(E(std::string(reader.string()))); }
};

template <class E>
struct ExceptionCodec {
  static void pack(Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const E& e) {
      wire::pack(writer, e);
    }
  }
  static void rethrow(Reader& reader) { std::throw_with_nested(wire::unpack<E>(reader)); }
};

}  // namespace wire

// Lets exceptions of exactly type E travel as themselves. E is packable (an aggregate, or with a
// wire::Codec<E>), or derives from std::exception and can be made from its message: struct ParseError :
// std::runtime_error {...}. Call it in every process before the first task, best through a namespace-scope
// constant:
//   const bool known = mh::register_exception<ParseError>();
// Returns true. Any thread.
template <class E>
bool register_exception() {
  static_assert(
      wire::Packable<E> || wire::MessageException<E>,
      "this exception cannot travel: make it an aggregate of packable members, specialise "
      "manyhands::wire::Codec<E>, or derive it from std::runtime_error with a constructor from its message");
  if constexpr (wire::Packable<E>) {
    wire::add_exception(typeid(E), &wire::ExceptionCodec<E>::pack, &wire::ExceptionCodec<E>::rethrow);
  } else {
    wire::add_exception(typeid(E), &wire::MessageExceptionCodec<E>::pack,
                        &wire::MessageExceptionCodec<E>::rethrow);
  }
  return true;
}

}  // namespace manyhands
