#include <cstdio>
#include <manyhands/multicore.hpp>
#include <string>
#include <vector>

namespace mh = manyhands;

struct Reading {
  std::string station;
  double celsius;
};

int main(int argc, char** argv) {
  mh::init(argc, argv);
  mh::Pool pool{2};
  const std::vector<Reading> readings{{"Bern", 12.5}, {"Oslo", -3.0}};
  for (const auto& text :
       pool.map([](const Reading& r) { return r.station + (r.celsius < 0 ? " freezes" : " is mild"); },
                readings)) {
    std::puts(text.c_str());
  }
  mh::ThreadPool threads{2};
  return threads.apply([](int x) { return x - 42; }, 42);
}
