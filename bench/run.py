#!/usr/bin/env python3
"""The benchmarks of manyhands beside its peers: same work, same machine, same run. `./dev bench` is the way in."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import sys
from pathlib import Path

from runner import machine
from runner.benchmarks import BENCHMARKS
from runner.model import Benchmark, Context, Results, Skipped
from runner.processes import SideFailed, kill_descendants, own_all_descendants
from runner.show import table_text, verdict

ROUNDS, QUICK_ROUNDS = 5, 2
PYTHON = "/usr/bin/python3"  # Debian's, which finds Debian's joblib and numpy


def parse_arguments() -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how often each side runs (default: {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    wait_help = "before each side wait until others leave the cores alone, at most so long"
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help=wait_help)
    parser.add_argument("--check", action="store_true", help="exit status 1 if a target is missed")
    parser.add_argument("--build-dir", type=Path, default=root / "build" / "optimized", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        parser.error(f"--json {arguments.json}: there is no such folder")
    arguments.root = root
    return arguments


def compiler_of(build: Path) -> str:
    """The compiler that the build folder was configured with."""
    cache = build / "CMakeCache.txt"
    if not cache.exists():
        sys.exit(f"bench: {cache.parent.name} is not built; ./dev bench does that")
    match = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.+)$", cache.read_text(), re.MULTILINE)
    return shutil.which(match.group(1) if match else "c++") or "c++"


def say_on_terminal(text: str) -> None:
    """What runs now, on one line that is overwritten; nothing if nobody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run_benchmark(benchmark: Benchmark, context: Context, rounds: int, wait_seconds: float) -> Results:
    """All rounds; every other one backwards, so that no side always follows the same one. A side that fails is out."""
    results = Results()
    usages: list[float] = []
    for number in range(rounds):
        order = benchmark.programs if number % 2 == 0 else benchmark.programs[::-1]
        for program in order:
            if number >= program.rounds or any(row in results.failures or row in results.skipped for row in program.rows):
                continue
            say_on_terminal(f"{benchmark.name}: round {number + 1} of {rounds}, {program.name}")
            machine.wait_until_quiet(wait_seconds)
            usage = machine.Usage()
            try:
                results.add(number, program.run(context))
            except SideFailed as failure:
                results.failures.update(dict.fromkeys(program.rows, str(failure)))
            except Skipped as skipped:
                results.skipped.update(dict.fromkeys(program.rows, str(skipped)))
            usages.append(usage.taken_by_others())
    results.taken_by_others = statistics.mean(usages) if usages else 0.0
    say_on_terminal("")
    return results


def as_json(results: Results) -> dict[str, object]:
    return {
        "taken_by_others": results.taken_by_others,
        "samples": {row: list(by_round.values()) for row, by_round in results.samples.items()},
        "texts": results.texts,
        "failed": results.failures,
        "skipped": results.skipped,
    }


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        for benchmark in BENCHMARKS.values():
            print(f"{benchmark.name:<10} {benchmark.what}")
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    own_all_descendants()
    context = Context(arguments.root, arguments.build_dir, compiler_of(arguments.build_dir), PYTHON)
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    description = machine.describe(context.build, context.compiler, context.python)
    for name, text in description.items():
        print(f"{name + ':':<14} {text}")

    written: dict[str, object] = {}
    failed: list[str] = []
    missed: list[str] = []
    try:
        for name in arguments.names or BENCHMARKS:
            benchmark = BENCHMARKS[name]
            results = run_benchmark(benchmark, context, rounds, arguments.wait)
            print(f"\n== {name} (others took {results.taken_by_others:.0%} of the cores)")
            for table in benchmark.tables:
                print("\n" + table_text(table, results), flush=True)
                missed += [f"{name}: {row}" for row in table.targets if verdict(row, table, results).startswith("missed")]
            failed += [f"{name}: {row}" for row in results.failures]
            written[name] = as_json(results)
    except KeyboardInterrupt:
        print("\nbench: interrupted", file=sys.stderr)
        return 130
    finally:
        kill_descendants()
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": description, "benchmarks": written}, indent=1) + "\n")

    print()
    if failed:
        print(f"failed: {'; '.join(failed)}")
    print(f"missed targets: {'; '.join(missed)}" if missed else "no target that was measured is missed")
    return 1 if failed or (missed and arguments.check) else 0


if __name__ == "__main__":
    sys.exit(main())
