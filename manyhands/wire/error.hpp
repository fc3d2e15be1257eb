#pragma once
// WireError: bytes that are not what they should be, or a value that cannot be packed.

#include "manyhands/base/error.hpp"

namespace manyhands {

// The message says what was expected, what came, and at which offset.
class WireError : public Error {
 public:
  using Error::Error;
};

}  // namespace manyhands
