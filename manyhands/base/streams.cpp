#include "manyhands/base/streams.hpp"

#include <stdio_ext.h>

#include <cstdio>
#include <iostream>

namespace manyhands {
namespace {

// The buffer itself: a stream that has failed is not asked, and its exceptions() are not thrown.
template <class Stream>
void flush(Stream& stream) noexcept {
  try {
    if (auto* const buffer = stream.rdbuf(); buffer != nullptr) buffer->pubsync();
  } catch (...) {
    // the user's own buffer, which nobody could be told of here
  }
}

}  // namespace

void flush_streams() noexcept {
  flush(std::cout);
  flush(std::cerr);
  flush(std::clog);
  flush(std::wcout);
  flush(std::wcerr);
  flush(std::wclog);
  std::fflush(nullptr);
}

void flush_standard_output() noexcept {
  flush(std::cout);
  flush(std::clog);
  if (__fpending(stdout) > 0) std::fflush(stdout);
}

}  // namespace manyhands
