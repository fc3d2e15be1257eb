#!/usr/bin/env python3
"""Checks the two-thread tests: puts one bug at a time into a copy of a source and expects ThreadSanitizer, or the
test itself, to find it.

usage: seed_bugs.py [--build DIR] [NAME...]
  --build DIR  a tree built with the preset tsan (default: build/tsan)
  NAME         only the bugs whose structure's name begins so
Exit status 1 if a bug stays unseen.
"""
import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUNDS = 5  # runs of a test before its bug counts as unseen
OPTIONS = f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tests/tsan_suppressions.txt"

# Structure; source; what stands there; the bug; the test's source; its case.
BUGS = [
    ("MessageRing: publish", "shm/message_ring.hpp",
     "reserved_, std::memory_order_release", "reserved_, std::memory_order_relaxed",
     "shm/message_ring_test.cpp", "a consumer thread sees every message once*"),
    ("MessageRing: pop", "shm/message_ring.hpp",
     "round_up(frame.size, 8), std::memory_order_release", "round_up(frame.size, 8), std::memory_order_relaxed",
     "shm/message_ring_test.cpp", "a consumer thread sees every message once*"),
    ("Arena: release", "shm/arena.cpp",
     "compare_exchange_weak(top, block, std::memory_order_release,",
     "compare_exchange_weak(top, block, std::memory_order_relaxed,",
     "shm/arena_test.cpp", "another thread releases while the owner allocates"),
    ("Heap: free list", "shm/heap.cpp",
     "(payload / 64), std::memory_order_release)", "(payload / 64), std::memory_order_relaxed)",
     "shm/heap_test.cpp", "two threads that allocate and release*"),
    ("Heap: last reference", "shm/heap.cpp",
     "block.refs.fetch_sub(1, std::memory_order_acq_rel)", "block.refs.fetch_sub(1, std::memory_order_relaxed)",
     "shm/heap_test.cpp", "two threads that share a block*"),
    ("ClaimQueue: push", "shm/claim_queue.hpp",
     "                std::memory_order_release);", "                std::memory_order_relaxed);",
     "shm/claim_queue_test.cpp", "two consumers and a producer*"),
    ("ShortLock: unlock", "shm/short_lock.hpp",
     "word_.exchange(0, std::memory_order_release)", "word_.exchange(0, std::memory_order_relaxed)",
     "shm/short_lock_test.cpp", "two threads under the lock never meet"),
    ("Lock: unlock", "shm/lock.hpp",
     "state_->word.exchange(0, std::memory_order_release);\n    if (before == 0",
     "state_->word.exchange(0, std::memory_order_relaxed);\n    if (before == 0",
     "shm/lock_test.cpp", "threads exclude each other by Lock"),
    ("Lock: lock", "shm/lock.hpp",
     "compare_exchange_strong(expected, this_thread_token(), std::memory_order_acquire,",
     "compare_exchange_strong(expected, this_thread_token(), std::memory_order_relaxed,",
     "shm/lock_test.cpp", "threads exclude each other by Lock"),
    ("RLock: release", "shm/lock.cpp",
     "const std::uint32_t before = state_->word.exchange(0, std::memory_order_release);",
     "const std::uint32_t before = state_->word.exchange(0, std::memory_order_relaxed);",
     "shm/lock_test.cpp", "threads exclude each other by RLock"),
    ("TwoCopies: no second look", "shm/two_copies.cpp",
     "    if (version_.load(std::memory_order_relaxed) == version) return version;", "    return version;",
     "shm/value_test.cpp", "plain loads and stores of two threads are whole*"),
    ("Semaphore: release", "shm/semaphore.cpp",
     "compare_exchange_weak(before, after, std::memory_order_release,",
     "compare_exchange_weak(before, after, std::memory_order_relaxed,",
     "shm/semaphore_test.cpp", "two threads pass a word back and forth*"),
    ("Event: set", "shm/event.cpp",
     "compare_exchange_weak(word, next, std::memory_order_acq_rel,",
     "compare_exchange_weak(word, next, std::memory_order_relaxed,",
     "shm/event_test.cpp", "what was written before set is seen after*"),
    ("Condition: enters too late", "shm/condition.cpp",
     "  Waiter* mine = &enter();\n  const std::uint32_t depth = any_lock().release_all(where);",
     "  const std::uint32_t depth = any_lock().release_all(where);\n  Waiter* mine = &enter();",
     "shm/condition_test.cpp", "two threads hand a word to each other*"),
    ("Condition: returns without the lock", "shm/condition.cpp",
     "    lock_again(depth, where);\n    if (end", "    static_cast<void>(depth);\n    if (end",
     "shm/condition_test.cpp", "two threads hand a word to each other*"),
    ("Barrier: come", "shm/barrier.cpp",
     "compare_exchange_weak(word, next, std::memory_order_acq_rel, std::memory_order_acquire)",
     "compare_exchange_weak(word, next, std::memory_order_relaxed, std::memory_order_relaxed)",
     "shm/barrier_test.cpp", "what was written before the barrier is seen*"),
    ("Barrier: action", "shm/barrier.cpp",
     "next_round(word, false), std::memory_order_acq_rel)", "next_round(word, false), std::memory_order_relaxed)",
     "shm/barrier_test.cpp", "what the action writes is seen*"),
    ("Queue: put", "process/queue.cpp",
     "state.tail.position.store(tail + 1, std::memory_order_release)",
     "state.tail.position.store(tail + 1, std::memory_order_relaxed)",
     "process/queue_test.cpp", "two threads* one queue*"),
]


class Tree:
    def __init__(self, build):
        self.build = build
        commands = json.loads((build / "compile_commands.json").read_text())
        self.commands = {pathlib.Path(entry["file"]): shlex.split(entry["command"]) for entry in commands}

    def compile(self, source, overlay, to):
        """`source` with the changed file before its own; the object's path."""
        command = [word for word in self.commands[ROOT / source] if word != "ccache"]
        command[command.index("-o") + 1] = str(to)
        changed = overlay / source
        command[command.index("-c") + 1] = str(changed if changed.exists() else ROOT / source)
        run([command[0], f"-I{overlay}", *command[1:]], self.build)
        return to

    def link(self, test_source, objects, to):
        """The test program with these objects in place of all tests' own."""
        target = f"tests/test_{test_source.parts[0]}"
        lines = subprocess.run(["ninja", "-C", self.build, "-t", "commands", target], capture_output=True, text=True,
                               check=True).stdout.splitlines()
        line = next(line for line in reversed(lines) if f"-o {target} " in line)
        command = shlex.split(line.replace(": && ", "").split(" && ")[0])
        kept = [word for word in command if not word.endswith("_test.cpp.o")]
        at = kept.index("-o")
        kept[at + 1] = str(to)
        first = next(i for i, word in enumerate(kept) if word.endswith(".o"))
        run(kept[:first] + [str(o) for o in objects] + kept[first:], self.build)


def run(command, where):
    result = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"seed_bugs: {' '.join(command[:3])} ... failed:\n{result.stderr[-2000:]}")


def outcome(program, case):
    """What a run of one test case says: "race", "test failed", "hangs" or "passes"."""
    environment = {**os.environ, "TSAN_OPTIONS": OPTIONS}
    try:
        result = subprocess.run([program, f"--test-case={case}"], capture_output=True, text=True, timeout=20, env=environment)
    except subprocess.TimeoutExpired:
        return "hangs"
    said = result.stdout + result.stderr
    if "test cases: 0 " in said.replace("  ", " "):
        sys.exit(f"seed_bugs: no test case is named '{case}'")
    if result.returncode == 0:
        return "passes"
    return "race" if "ThreadSanitizer: data race" in said else "test failed"


def seen(tree, bug, folder):
    _, source, right, wrong, test, case = bug
    source, test = pathlib.Path("manyhands") / source, pathlib.Path(test)
    text = (ROOT / source).read_text()
    if text.count(right) < 1:
        sys.exit(f"seed_bugs: {source} does not contain '{right}' any more")
    overlay = folder / "overlay"
    (overlay / source).parent.mkdir(parents=True, exist_ok=True)
    (overlay / source).write_text(text.replace(right, wrong))
    objects = [tree.compile(pathlib.Path("manyhands") / test, overlay, folder / "test.o")]
    if source.suffix == ".cpp":
        objects.append(tree.compile(source, overlay, folder / "changed.o"))
    program = folder / "program"
    tree.link(test, objects, program)
    for _ in range(ROUNDS):
        found = outcome(program, case)
        if found != "passes":
            return found
    return None


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/tsan")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    tree = Tree(arguments.build.resolve())
    unseen = 0
    for bug in BUGS:
        if arguments.names and not any(bug[0].startswith(name) for name in arguments.names):
            continue
        with tempfile.TemporaryDirectory(prefix="manyhands-seed-") as folder:
            found = seen(tree, bug, pathlib.Path(folder))
        unseen += found is None
        print(f"{bug[0]:36} {found or 'UNSEEN'}", flush=True)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
