#include "manyhands/shm/slices.hpp"

#include "manyhands/base/cores.hpp"

namespace manyhands::shm {

int spins_before_sleep() noexcept {
  static const int spins = [] {
    try {
      return cpu_count() > 1 ? 200 : 0;
    } catch (...) {
      return 0;
    }
  }();
  return spins;
}

}  // namespace manyhands::shm
