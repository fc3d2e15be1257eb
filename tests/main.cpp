// The entry of every test program: manyhands first, so that worker processes are forked before any thread
// exists.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include "manyhands/process/init.hpp"

int main(int argc, char** argv) {
  manyhands::init(argc, argv);
  doctest::Context context(argc, argv);
  return context.run();
}
