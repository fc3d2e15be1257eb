"""What a benchmark is: programs that measure rows, and tables that show rows."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from runner.processes import SideFailed, run_limited

SIDE_LIMIT_SECONDS = 60.0


class Skipped(Exception):
    """A program is not there to be run, and that is allowed; the message says what is missing."""


@dataclass(frozen=True)
class Context:
    root: Path  # of the source tree
    build: Path
    compiler: str
    python: str


@dataclass
class Measured:
    """What one run of a program said: samples or a text for each of its rows."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    name: str
    run: Callable[[Context], Measured]
    rows: tuple[str, ...]
    rounds: int = 1000  # at most; for the slow ones


def parse_side(stdout: str) -> Measured:
    measured = Measured()
    for line in stdout.splitlines():
        said = json.loads(line)
        if "text" in said:
            measured.texts[said["row"]] = said["text"]
        else:
            measured.samples[said["row"]] = said["samples"]
    return measured


def side(name: str, command: Callable[[Context], list[str]], rows: tuple[str, ...], rounds: int) -> Program:
    def run(context: Context) -> Measured:
        measured = parse_side(run_limited(command(context), SIDE_LIMIT_SECONDS).stdout)
        if missing := set(rows) - set(measured.samples) - set(measured.texts):
            raise SideFailed(f"did not report {', '.join(sorted(missing))}")
        return measured

    return Program(name, run, rows, rounds)


def ours(name: str, *rows: str, rounds: int = 1000) -> Program:
    return side(name, lambda context: [str(context.build / "bench" / "manyhands_bench"), name], rows, rounds)


def cpp_peer(name: str, *rows: str, rounds: int = 1000) -> Program:
    return side(name, lambda context: [str(context.build / "bench" / "peers_bench"), name], rows, rounds)


def python_peer(name: str, *rows: str, rounds: int = 1000) -> Program:
    def command(context: Context) -> list[str]:
        return [context.python, "-B", str(context.root / "bench" / "peers" / "python_peers.py"), name]

    return side(name, command, rows, rounds)


@dataclass(frozen=True)
class Target:
    """A row's median, or its ratio to the row `versus`, must be at most (or at least) `limit`."""

    limit: float
    versus: str = ""
    at_least: bool = False

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Table:
    title: str
    unit: str  # of all its rows: "s", "B" or "x"
    reference: str  # the row that others are compared with: ours; "" for none
    rows: tuple[str, ...]
    targets: dict[str, Target] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    name: str
    what: str
    programs: tuple[Program, ...]
    tables: tuple[Table, ...]


class Results:
    """All that was measured of one benchmark."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[int, list[float]]] = {}  # by row and round
        self.texts: dict[str, str] = {}  # by row
        self.failures: dict[str, str] = {}  # by row: why it could not be measured
        self.skipped: dict[str, str] = {}  # by row: what is missing
        self.taken_by_others = 0.0  # share of the cores' time that other programs had while a side ran

    def add(self, round_number: int, measured: Measured) -> None:
        for row, samples in measured.samples.items():
            self.samples.setdefault(row, {})[round_number] = samples
        self.texts.update(measured.texts)

    def round_values(self, row: str) -> dict[int, float]:
        """The median of each round's samples."""
        return {n: statistics.median(samples) for n, samples in self.samples.get(row, {}).items() if samples}

    def ratio(self, row: str, reference: str) -> float | None:
        """The median of the ratios of the rounds in which both were measured."""
        values, others = self.round_values(row), self.round_values(reference)
        ratios = [values[n] / others[n] for n in values if others.get(n)]
        return statistics.median(ratios) if ratios else None

    def checked_value(self, row: str, target: Target) -> float | None:
        """What the target is about; None if it was not measured."""
        if target.versus:
            return self.ratio(row, target.versus)
        values = self.round_values(row)
        return statistics.median(values.values()) if values else None
