#!/usr/bin/env python3
"""Runs the talk's programs (examples/talk) and checks what they print.

    talk_test.py FOLDER_OF_THE_PROGRAMS PROGRAM

Results are compared exactly; times only with each other and with wide margins, because the machine may be busy.
"""

import os
import pty
import re
import subprocess
import sys

TIMEOUT = 90  # seconds; the longest program takes about 10 on a quiet machine


def fail(message, output):
    sys.exit(f"{message}\n--- printed:\n{output}")


def run(program):
    """Standard output and standard error of a run without a terminal."""
    done = subprocess.run([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    if done.returncode != 0:
        fail(f"{program} ended with status {done.returncode}", out + err)
    return out, err


def run_on_terminal(program):
    """What a run shows on a terminal, both streams."""
    parent, child = pty.openpty()
    with subprocess.Popen([program], stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                read = os.read(parent, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            if not read:
                break
            shown += read
        status = process.wait(timeout=TIMEOUT)
    os.close(parent)
    if status != 0:
        fail(f"{program} ended with status {status}", shown.decode())
    return shown.decode()


def check_pool(program):
    out, _ = run(program)
    squares = " ".join(str(x * x) for x in range(10))
    seconds = {}
    for line in out.splitlines():
        if row := re.fullmatch(r"Pool\( *(\d+)\)\.map\(f, nums\) +[\d.]+ s +([\d.]+) s +([\d ]+)", line):
            seconds[int(row.group(1))] = float(row.group(2))
            if row.group(3) != squares:
                fail(f"pool of {row.group(1)}: the squares should be {squares}", out)
        elif row := re.fullmatch(r" +map\(f, nums\) +[\d.]+ s +([\d.]+) s", line):
            seconds[0] = float(row.group(1))
    if sorted(seconds) != [0, 1, 6, 10, 16]:
        fail("rows are missing", out)
    # Ten waits of at least 0.1 s: one after the other, in two rounds of six, all at once. The waits of 6 and 10 workers
    # end within 0.4 and 0.2 s; what a busy machine adds may be as much again.
    if seconds[0] < 1 or seconds[1] < 1 or seconds[6] < 0.2 or seconds[10] < 0.1 or seconds[16] < 0.1:
        fail("faster than f can be", out)
    if not (seconds[6] < 0.8 * seconds[1] and seconds[10] < 0.6 * seconds[1] and seconds[16] < 0.6 * seconds[1]):
        fail("more workers are not faster", out)


def check_amdahl(program):
    out, _ = run(program)
    if "speedup limited to 20\n" not in out:
        fail("the 20-hour program has the limit 20", out)
    rows = {int(workers): float(seconds) for workers, seconds in re.findall(r"^ +(\d+) +([\d.]+) +[\d.]+ +[\d.]+$", out, re.MULTILINE)}
    if sorted(rows) != [1, 2, 4, 8, 16]:
        fail("rows are missing", out)
    if rows[1] < 1.2 or rows[16] < 0.06:
        fail("faster than the law allows", out)
    if not (rows[2] < 0.9 * rows[1] and rows[16] < 0.6 * rows[1]):
        fail("more workers are not faster", out)
    fitted = re.search(r"serial fraction: ([\d.]+) % fitted, 5 % built in; speedup limited to ([\d.]+)", out)
    if not fitted or not 1 <= float(fitted.group(1)) <= 50 or not 2 <= float(fitted.group(2)) <= 100:
        fail("the fitted serial fraction is not between 1 and 50 %", out)


def check_progress(program):
    total = "the sum of 100 squares is 328350"
    out, err = run(program)
    if out != total + "\n":
        fail("standard output has the sum and nothing else", out)
    if re.search(r"[^\n -~]", err):
        fail("control characters without a terminal", repr(err))
    lines = err.splitlines()
    if not lines or not re.fullmatch(r"squares: 100 of 100 \(100%\) in [\d.]+ s, [\d.]+/s", lines[-1]):
        fail("no plain line at the end", err)
    if not all(re.fullmatch(r"squares: \d+ of 100 \(\d+%\), .*left", line) for line in lines[:-1]):
        fail("a line is no progress line", err)

    shown = run_on_terminal(program)
    bars = re.findall(r"\rsquares +(\d+)% \|([# ]+)\| (\d+)/100 \[[\d:]+<[-\d:]+, [-\d.]+/s\]\x1b\[K", shown)
    if len(bars) < 3:
        fail("no bar that is drawn over itself on a terminal", repr(shown))
    done = [int(bar[2]) for bar in bars]
    if done != sorted(done) or done[-1] != 100 or set(bars[-1][1]) != {"#"}:
        fail("the bar does not grow to its end", repr(shown))
    if total not in shown.splitlines():
        fail("the sum does not follow the bar on a line of its own", repr(shown))


def check_race(program):
    out, _ = run(program)
    first = re.search(r"at once:((?: \d+){5})$", out, re.MULTILINE)
    second = re.search(r"in one step: +((?: ?\d+){5})$", out, re.MULTILINE)
    if not first or not second:
        fail("rows are missing", out)
    if not set(first.group(1).split()) <= {"0", "10", "100"}:
        fail("the race has the results 0, 10 and 100", out)
    if not set(second.group(1).split()) <= {"10", "100"}:
        fail("in one step, no update is lost", out)
    unsafe, safe = out.split("all that the second can do:")
    for part, outcomes in ((unsafe, ["0", "10", "100"]), (safe, ["10", "100"])):
        if re.findall(r"^\[\d+\] (\d+)$", part, re.MULTILINE) != outcomes:
            fail(f"the outcomes should be {outcomes}", out)


def check_deadlock(program):
    out, _ = run(program)
    waiting, reporting, crossing = out.split("\n\n")
    if waiting.splitlines()[1:] != ["p2 alive: yes, value 10", "p2 alive: no, value 20"]:
        fail("p2 waits until the program releases the lock", out)
    if not re.search(r"^LockAbandoned: .*'?lock'?.*p1 .*deadlock\.cpp:\d+", reporting, re.MULTILINE):
        fail("LockAbandoned names p1 and the line", out)
    if crossing.count("DeadlockError") != 1 or crossing.count("has both locks") != 1:
        fail("exactly one of the two gets the error, the other goes on", out)
    for text in ("p1", "p2", "A", "B"):
        if text not in crossing.split("DeadlockError")[1]:
            fail(f"the DeadlockError does not name {text}", out)
    if len(set(re.findall(r"deadlock\.cpp:(\d+)", crossing))) != 2:
        fail("the DeadlockError names both lines", out)


def check_shared_array(program):
    out, _ = run(program)
    expected = ["0 1 2 ... 999999", "499999500000 1 2 ... 999999", "the rest is untouched: yes", "after eight tasks in place, the sum is 1000000"]
    if out.splitlines() != expected:
        fail("expected:\n" + "\n".join(expected), out)


def check_threads_and_processes(program):
    out, _ = run(program)
    costs = re.search(r"^start and join, us +(\d+) +(\d+)$", out, re.MULTILINE)
    if not costs or int(costs.group(1)) == 0 or int(costs.group(2)) == 0:
        fail("no costs", out)
    if not re.search(r"that it set +1 +0$", out, re.MULTILINE) or not re.search(r"mh::Value that it set +- +1$", out, re.MULTILINE):
        fail("threads share variables, processes share an mh::Value", out)
    if "exit code -6; the program goes on" not in out:
        fail("a crashed process is seen and survived", out)


def main():
    if len(sys.argv) != 3 or f"check_{sys.argv[2]}" not in globals():
        sys.exit(__doc__)
    globals()[f"check_{sys.argv[2]}"](os.path.join(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()
