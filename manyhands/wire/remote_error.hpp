#pragma once
// Exceptions that travel: how a task's exception leaves its process as data and is thrown again in the
// caller's.
//
// ErrorRecord is the data, made once where the exception was caught. to_exception() turns it into what get()
// throws:
//   a known type (std's, manyhands', registered ones)
//     -> that type again, with the RemoteError nested inside; also if it was thrown by
//        std::throw_with_nested: what it carried is named in the RemoteError's message
//   anything else
//     -> RemoteError, with type name, message, remote stack and place
//
//   try { pool.apply(f, x); }
//   catch (const std::out_of_range& e) {
//     if (const auto* remote = mh::remote_error(e)) std::cerr << remote->stack();
//   }

#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "manyhands/base/error.hpp"
#include "manyhands/wire/codec.hpp"
#include "manyhands/wire/error.hpp"
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
  std::string key;                 // of the type if it is known and could be packed, else empty: its mangled
                                   // name, and a place in the code if several types have that name
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
// Unpacks and throws it, with the exception now being handled nested inside. WireError if it cannot be made.
using ThrowException = void (*)(Reader& reader);
void add_exception(const std::type_info& type, PackException pack, ThrowException rethrow);

// E as `make` makes it, thrown with the exception now being handled nested inside.
template <class Make>
[[noreturn]] void throw_made(Make make) {
  using E = decltype(make());
  std::optional<E> made;
  try {
    made.emplace(make());
  } catch (const std::exception& e) {
    throw WireError(std::string("the exception cannot be made again: ") + e.what());
  } catch (...) {
    throw WireError("the exception cannot be made again: its constructor throws");
  }
  std::throw_with_nested(std::move(*made));
}

// The exception as data. `stack`: return addresses of the throw in this process. Does not throw for any
// exception: what cannot be packed, or made again with the same what(), is described, and the description
// says so. Throws and catches by the way, which a ThrowTracer notes: ask it before.
ErrorRecord record_of(const std::exception_ptr& exception, std::span<const void* const> stack = {});

std::exception_ptr to_exception(const ErrorRecord& record, const Place& place);

// The part of E that holds its message and can be set: std::runtime_error or std::logic_error; void if none.
template <class E>
using MessageBase =
    std::conditional_t<std::is_base_of_v<std::runtime_error, E>, std::runtime_error,
                       std::conditional_t<std::is_base_of_v<std::logic_error, E>, std::logic_error, void>>;

// By its size E holds its message and nothing else: as its base does, or a std::exception in a std::string.
template <class E>
consteval bool holds_only_message() {
  if constexpr (std::is_void_v<MessageBase<E>>) {
    return sizeof(E) == sizeof(std::exception) || sizeof(E) == sizeof(std::exception) + sizeof(std::string);
  } else {
    return sizeof(E) == sizeof(MessageBase<E>);
  }
}

// E is made again from its message: the exceptions of std::runtime_error's kind.
template <class E>
concept MessageException = std::is_base_of_v<std::exception, E> && std::is_constructible_v<E, std::string>;
// And nothing is lost by that.
template <class E>
concept OnlyMessage = MessageException<E> && holds_only_message<E>();

// E is made from its message, which is then set, in case the constructor added to it; what the constructor
// cannot know are `members`, pointers to members of E (or of its bases).
template <class E, auto... members>
struct MessageExceptionCodec {
  static void pack(Writer& writer, const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const E& e) {
      writer.string(e.what());
      (wire::pack(writer, e.*members), ...);
    }
  }
  static void rethrow(Reader& reader) {
    throw_made([&] {
      const std::string message(reader.string());
      E made(message);
      if constexpr (!std::is_void_v<MessageBase<E>>) {
        if (message != made.what()) static_cast<MessageBase<E>&>(made) = MessageBase<E>(message);
      }
      (unpack_member(reader, made.*members), ...);
      return made;
    });
  }

 private:
  template <class M>
  static void unpack_member(Reader& reader, M& member) {
    member = wire::unpack<M>(reader);
  }
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
  static void rethrow(Reader& reader) {
    throw_made([&] { return wire::unpack<E>(reader); });
  }
};

}  // namespace wire

// Lets exceptions of exactly type E travel as themselves. E is packable (an aggregate, or with a
// wire::Codec<E>), or derives from std::exception and can be made from a std::string: struct ParseError :
// std::runtime_error {...}. If such an E has members of its own, name those that its constructor does not
// set:
//   struct CodedError : std::runtime_error {
//     using runtime_error::runtime_error;
//     int code = 0;
//   };
//   const bool known = mh::register_exception<CodedError, &CodedError::code>();
// An exception whose what() would be another one when it is made again arrives as a RemoteError with the
// right text. Call this in every process before the first task, best as above through a namespace-scope
// constant. Returns true. Any thread.
template <class E, auto... members>
bool register_exception() {
  static_assert(
      wire::Packable<E> || wire::MessageException<E>,
      "this exception cannot travel: make it an aggregate of packable members, specialise "
      "manyhands::wire::Codec<E>, or derive it from std::runtime_error with a constructor from its message");
  if constexpr (sizeof...(members) == 0 && wire::Packable<E>) {
    wire::add_exception(typeid(E), &wire::ExceptionCodec<E>::pack, &wire::ExceptionCodec<E>::rethrow);
  } else if constexpr (wire::MessageException<E>) {
    static_assert(sizeof...(members) > 0 || wire::OnlyMessage<E>,
                  "this exception has members beside its message, which would be lost: name them, "
                  "mh::register_exception<E, &E::member>(), or specialise manyhands::wire::Codec<E>");
    wire::add_exception(typeid(E), &wire::MessageExceptionCodec<E, members...>::pack,
                        &wire::MessageExceptionCodec<E, members...>::rethrow);
  }
  return true;
}

}  // namespace manyhands
