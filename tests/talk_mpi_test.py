#!/usr/bin/env python3
"""Runs the talk's MPI programs with `manyhands run` and checks what they print.

    talk_mpi_test.py COMMAND FOLDER_OF_THE_PROGRAMS PROGRAM PLUGIN

COMMAND: the command `manyhands`, PLUGIN: the library that mpi_import loads.
"""

import re
import subprocess
import sys

TIMEOUT = 90  # seconds


def fail(message, output):
    sys.exit(f"{message}\n--- printed:\n{output}")


def run(command, program, ranks, *arguments):
    """The lines that a job of `ranks` ranks printed."""
    done = subprocess.run([command, "run", "-n", str(ranks), program, *arguments], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False, text=True)
    if done.returncode != 0:
        fail(f"{program} with {ranks} ranks ended with status {done.returncode}", done.stdout + done.stderr)
    return done.stdout.splitlines()


def expect(lines, expected):
    if lines != expected:
        fail("expected\n" + "\n".join(expected), "\n".join(lines))


def check_hello(command, program):
    for ranks in (1, 4, 16, 64):
        lines = run(command, program, ranks)
        places = set()
        for rank, line in enumerate(lines):
            row = re.fullmatch(rf"Hello from \S+, {rank} of {ranks}, at <(\d+,\d+,\d+,\d+)>", line)
            if not row:
                fail(f"no greeting of rank {rank} of {ranks} in line {rank + 1}", "\n".join(lines))
            places.add(row.group(1))
        if len(places) != ranks:
            fail(f"{ranks} ranks stand in {len(places)} places", "\n".join(lines))


def check_p2p(command, program):
    for ranks in (2, 3):
        expect(run(command, program, ranks),
               ["rank 1 got {'a': 7, 'b': 3.14, 'c': 'text'}", "rank 1 got copper: 2 values, quality 3"])


def check_p2p_array(command, program):
    expect(run(command, program, 2), ["rank 1 got 23 and 23 ints: " + " ".join(str(i) for i in range(23))])


def check_scatter_gather(command, program):
    expect(run(command, program, 2), ["Answer from rank 0: [10, 35]", "Answer from rank 1: []"])
    expect(run(command, program, 3, "11"),
           ["Answer from rank 0: [6, 22, 27]", "Answer from rank 1: []", "Answer from rank 2: []"])
    expect(run(command, program, 4, "2")[:1], ["Answer from rank 0: [0, 1, 0, 0]"])


def check_bcast_barrier(command, program):
    lines = run(command, program, 3)
    expect(lines[:3], [f"rank {rank} knows 'waves': 3 weights, 100 steps" for rank in range(3)])
    if not re.fullmatch(r"all 3 ranks met after \d+\.\d{3} s", lines[3]):
        fail("the barrier was not passed", "\n".join(lines))


def check_nonblocking(command, program):
    for ranks in (1, 2, 3):
        expect(run(command, program, ranks),
               [f"rank {rank} sent 1000000 numbers to {(rank + 1) % ranks} and got 1000000 times {(rank - 1) % ranks} "
                f"from {(rank - 1) % ranks}" for rank in range(ranks)])


def check_import(command, program):
    for ranks in (1, 4):
        lines = run(command, program, ranks, sys.argv[4])
        lines.sort()  # the last line is of another rank, and may come earlier
        opens = []
        for how, line in zip(("each for itself", "together"), (lines[0], lines[2])):
            row = re.fullmatch(rf"{how}: area 12\.566, 13 bytes; library opened (\d+) times, file (\d+) times", line)
            if not row:
                fail(f"no line for {how}", "\n".join(lines))
            opens.append([int(number) for number in row.groups()])
        alone, together = opens
        if alone[0] < ranks or alone[1] < ranks or together[0] > 2 or together[1] > 1:
            fail(f"{ranks} ranks opened the library and the file {alone} times alone, {together} together", "\n".join(lines))
        if lines[1] != "the last rank, too: no such file: no_such_file":
            fail("the missing file was not reported by the last rank", "\n".join(lines))


def check_interop(command, program):
    lines = run(command, program, 4)
    fortran = ["Fortran: the largest is 4"] if any(line.startswith("Fortran") for line in lines) else []
    expect(lines, ["C: the sum over 4 ranks is 10", *fortran, "adopted: 2 of 4 ranks are even, their sum is 4",
                   "viewed: 4 ranks; duplicated: congruent, 4 ranks",
                   "released: C has freed our communicator of 2 ranks", "and ours is empty"])


def main():
    command, folder, program = sys.argv[1:4]
    globals()["check_" + program.removeprefix("mpi_")](command, f"{folder}/{program}")


if __name__ == "__main__":
    main()
