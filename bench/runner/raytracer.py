"""The ray tracer example as a side."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from runner.model import Context, Measured, Skipped
from runner.processes import SideFailed, run_limited


def render(context: Context, name: str, start: list[str], executors: tuple[str, ...], prefix: str = "") -> Measured:
    """Rows `time: EXECUTOR` and `speedup: EXECUTOR` of the program `name`, which the words `start` start."""
    program = context.build / "examples" / "raytracer" / name
    if not program.exists():
        raise Skipped(f"examples/raytracer/{name} is not built")
    scene = context.root / "examples" / "raytracer" / "still_life.obj"
    with tempfile.TemporaryDirectory(prefix="manyhands-bench-") as folder:
        options = ["-o", str(Path(folder) / "out.png"), "--on", ",".join(executors), "--workers", "2"]
        size = ["--size", "240x160", "--samples", "16"]
        table = run_limited([*start, str(program), str(scene), *options, *size], 120.0).stdout
    measured = Measured()
    # "threads             2    0.00 s    0.59 s      1.61      1.90": executor, workers, ready, render, speedup, Mrays/s
    for match in re.finditer(r"^(\w+) +\d+ +[\d.]+ s +([\d.]+) s +([\d.]+) ", table, re.MULTILINE):
        executor, seconds, speedup = match.groups()
        measured.samples[f"{prefix}time: {executor}"] = [float(seconds)]
        measured.samples[f"{prefix}speedup: {executor}"] = [float(speedup)]
    if set(measured.samples) != {f"{prefix}{what}: {on}" for what in ("time", "speedup") for on in executors}:
        raise SideFailed("its table was not understood")
    return measured
