#!/usr/bin/env python3
"""What cannot travel must not compile, and the message must name the remedy. One program per case.

usage: compile_errors_test.py CXX INCLUDE_DIR [FLAG...]
"""
import subprocess
import sys

PRELUDE = """
#include <manyhands/multicore.hpp>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
namespace mh = manyhands;
struct HasPointer { int* p; };
class Opaque { public: explicit Opaque(int v) : v_(v) {} Opaque(const Opaque& o) : v_(o.v_) {} int v() const { return v_; } private: int v_; };
int take(int) { return 0; }
"""

# name: (statements, text that the compiler must print; empty: it must compile)
CASES = {
    "a good program": ("pool.map([](int x) { return x; }, std::vector<int>{1}); pool.apply(take, 1);", []),
    "a closure that owns a string": (
        'pool.apply([s = std::string("x")] { return s.size(); });', ["cannot travel to another process", "mh::bind(f, state...)"]),
    "a closure that captures a lock": (
        "mh::Lock lock; mh::Process p{[lock] { lock.lock(); }};", ["Handles to shared memory", "give them as arguments"]),
    "a lock as an argument": ("mh::Lock lock; mh::Process p{[](mh::Lock l) { l.lock(); }, lock};", []),
    "an array of what is not plain": ("mh::Array<std::string> a(3);", ["must be trivially copyable"]),
    "a queue of what cannot travel": ("mh::Queue<HasPointer> q;", ["cannot travel between processes"]),
    "a value that is a pointer": ("mh::Value<int*> v(nullptr);", ["a pointer means nothing in another process"]),
    "a process whose function does not take its arguments": (
        "mh::Process p{take, 1, 2};", ["the process's function cannot be called with these arguments"]),
    "results of map_into of another type": (
        "mh::Array<int> out(1); pool.map_into([](double x) { return x; }, std::vector<double>{1}, out);",
        ["the Array's elements must be of the type that the function returns"]),
    "a std::function": ("std::function<int(int)> f = take; pool.map(f, std::vector<int>{1});", ["cannot travel to another process"]),
    "an argument with a pointer": (
        "pool.apply([](HasPointer) {}, HasPointer{});", ["cannot travel between processes", "HasPointer", "manyhands::wire::Codec<T>"]),
    "an argument of an opaque class": ("pool.apply([](const Opaque&) {}, Opaque(1));", ["cannot travel between processes", "Opaque"]),
    "items that are mutexes' kin": (
        "std::vector<std::unique_ptr<std::mutex>> xs; pool.map([](const std::unique_ptr<std::mutex>&) {}, xs);",
        ["the items of this map cannot travel between processes"]),
    "a result that is a stream": (
        "pool.apply([] { return std::ofstream(); });", ["the function's result cannot travel between processes", "Codec<R>"]),
    "a result with a pointer in a map": ("pool.map([](int) { return HasPointer{}; }, std::vector<int>{1});", ["the function's result cannot travel between processes"]),
    "a call with the wrong arguments": ('pool.apply(take, std::string("x"));', ["the function cannot be called with these arguments"]),
    "an exception that cannot travel": ("mh::register_exception<Opaque>();", ["this exception cannot travel"]),
}


def main():
    compiler, include, *flags = sys.argv[1:]
    failed = False
    for name, (statements, expected) in CASES.items():
        program = f"{PRELUDE}\nint main() {{ mh::Pool pool{{1}}; {statements} }}\n"
        result = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", f"-I{include}", *flags, "-x", "c++", "-"],
                                input=program, capture_output=True, text=True, timeout=120)
        if not expected and result.returncode != 0:
            print(f"'{name}' does not compile:\n{result.stderr[:3000]}")
            failed = True
        if expected and result.returncode == 0:
            print(f"'{name}' compiles")
            failed = True
        for text in expected:
            if result.returncode != 0 and text not in result.stderr:
                print(f"'{name}': the compiler does not say {text!r}:\n{result.stderr[:3000]}")
                failed = True
    print(f"{len(CASES)} cases" + (", some failed" if failed else ", all as they should be"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
