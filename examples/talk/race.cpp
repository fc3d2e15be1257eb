// A race: two processes change one number without asking each other, and the order in which they come
// decides. Then the same where each change is one step, and every result that either program can have.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <manyhands/multicore.hpp>
#include <random>

namespace mh = manyhands;

// The talk waits for 1 to 5 seconds; a hundredth of that shows the same.
void wait_a_while() {
  std::random_device seed;
  mh::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution(10, 50)(seed)));
}

void mult(mh::Value<double> arg) {
  wait_a_while();
  arg *= 10;  // reads it, and then writes it
}
void add(mh::Value<double> arg) {
  wait_a_while();
  arg += 10;
}

void mult_in_one_step(mh::Value<double> arg) {
  wait_a_while();
  arg.update([](double x) { return x * 10; });
}
void add_in_one_step(mh::Value<double> arg) {
  wait_a_while();
  arg.update([](double x) { return x + 10; });
}

using Function = void (*)(mh::Value<double>);
double run(Function first, Function second) {
  mh::Value<double> arg(0.0);
  mh::Process p1{{.name = "mult"}, first, arg};
  mh::Process p2{{.name = "add"}, second, arg};
  p1.join();
  p2.join();
  return arg.get();
}

int main(int argc, char** argv) {
  mh::init(argc, argv);
  std::printf("*= 10 and += 10 at once:");
  for (int i = 0; i < 5; ++i) std::printf(" %g", run(mult, add));
  std::printf("\neach in one step:       ");
  for (int i = 0; i < 5; ++i) std::printf(" %g", run(mult_in_one_step, add_in_one_step));

  // Waiting shows what happens often. Trying every order shows what can happen.
  std::printf("\n\nall that the first can do:\n");
  std::cout << mh::explore([] { return run(mult, add); });
  std::printf("\nall that the second can do:\n");
  std::cout << mh::explore([] { return run(mult_in_one_step, add_in_one_step); });
}
