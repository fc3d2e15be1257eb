"""mpi4py's side of `./dev bench mpi`; rows as compare.cpp.

usage: peer.py MPI messages [BLOCKS]     2 ranks: Send/Recv of arrays, send/recv (pickled) of a dict and of an object
       peer.py MPI tasks [REPEATS]       MPICommExecutor: tasks that do nothing
"""

from __future__ import annotations

import json
import sys
import time

import numpy
from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

WORLD = MPI.COMM_WORLD
TASKS = 500


def report(row: str, samples: list[float]) -> None:
    if WORLD.rank == 0:
        print(json.dumps({"row": row, "samples": samples}), flush=True)


def size_name(size: int) -> str:
    if size >= 1 << 20:
        return f"{size >> 20} MB"
    return f"{size >> 10} KB" if size >= 1 << 10 else f"{size} B"


def measure(row: str, there_and_back, times: int, blocks: int) -> None:
    samples = []
    for block in range(blocks + 1):  # the first warms up
        WORLD.Barrier()
        start = time.perf_counter()
        for _ in range(times):
            there_and_back()
        if block > 0:
            samples.append((time.perf_counter() - start) / times / 2)
    report(row, samples)


def messages(prefix: str, blocks: int) -> None:
    def buffers(array):
        def first():
            WORLD.Send(array, dest=1, tag=11)
            WORLD.Recv(array, source=1, tag=11)

        def second():
            WORLD.Recv(array, source=0, tag=11)
            WORLD.Send(array, dest=0, tag=11)

        return first if WORLD.rank == 0 else second

    def objects(value):
        def first():
            WORLD.send(value, dest=1, tag=11)
            WORLD.recv(source=1, tag=11)

        def second():
            WORLD.send(WORLD.recv(source=0, tag=11), dest=0, tag=11)

        return first if WORLD.rank == 0 else second

    for size in (8, 1 << 10, 8 << 10, 64 << 10, 1 << 20, 16 << 20):
        times = 1000 if size <= 8 << 10 else 30 if size <= 1 << 20 else 2
        measure(f"{prefix}doubles, {size_name(size)}: mpi4py Send", buffers(numpy.ones(size // 8)), times, blocks)
    record = numpy.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("id", "i4"), ("kind", "i4")])
    for size in (32, 8 << 10, 64 << 10, 1 << 20, 16 << 20):
        times = 300 if size <= 8 << 10 else 20 if size <= 1 << 20 else 2
        measure(f"{prefix}structs, {size_name(size)}: mpi4py send", objects(numpy.zeros(size // 32, record)), times, blocks)
    for size in (64 << 10, 1 << 20, 16 << 20):
        rows = [[1.5] * (size // 32 // 8) for _ in range(32)]
        value = {"name": "an object", "options": {"a": 7, "b": 3.14}, "rows": rows}
        measure(f"{prefix}object, {size_name(size)}: mpi4py send", objects(value), 5 if size <= 1 << 20 else 1, blocks)
    measure(f"{prefix}dict: mpi4py send", objects({"a": 7, "b": 3.14}), 1000, blocks)


def nothing(x: int) -> int:
    return x


def tasks(prefix: str, repeats: int) -> None:
    with MPICommExecutor(WORLD, root=0) as executor:
        if executor is None:
            return
        samples = []
        for repeat in range(repeats + 1):
            start = time.perf_counter()
            for future in [executor.submit(nothing, i) for i in range(TASKS)]:
                future.result()
            if repeat > 0:
                samples.append((time.perf_counter() - start) / TASKS)
        report(f"{prefix}task: mpi4py.futures", samples)


def main() -> None:
    mpi, what, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 5
    {"messages": messages, "tasks": tasks}[what](f"{mpi} ", count)


if __name__ == "__main__":
    main()
