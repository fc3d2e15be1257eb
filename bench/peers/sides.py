"""What the Python sides of the benchmarks share.

A side is one subcommand of python_peers.py. It prints a line of JSON for each series of samples; run.py does the
statistics. All times are in seconds, all sizes in bytes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable

WORKERS = 2  # of every pool, as sides.hpp
MAP_ITEMS = 1_000_000
ARRAY_ITEMS = 12_500_000  # doubles: 100 MB


def report(row: str, samples: list[float]) -> None:
    print(json.dumps({"row": row, "samples": samples}), flush=True)


def report_text(row: str, text: str) -> None:
    """For what cannot be measured: says so in the row instead."""
    print(json.dumps({"row": row, "text": text}), flush=True)


def seconds_of(f: Callable[[], Any]) -> float:
    """Seconds of one f(). What f returns dies after the clock has stopped."""
    start = time.perf_counter()
    result = f()
    seconds = time.perf_counter() - start
    del result
    return seconds


def repeated(repeats: int, f: Callable[[], Any]) -> list[float]:
    """One f() to warm up, then the seconds of each of `repeats`."""
    seconds_of(f)
    return [seconds_of(f) for _ in range(repeats)]


def require(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"wrong: {what}")


def resident_peak_bytes() -> float:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return float(line.split()[1]) * 1024


def pss_bytes(pid: int) -> float:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        line = next(line for line in rollup if line.startswith("Pss:"))
    return float(line.split()[1]) * 1024
