"""Runs the sides: each with a time limit, and with nothing of it left running afterwards."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 2.0  # for helpers that end a little after their program


class SideFailed(Exception):
    """A side could not be measured; the message says why, in a few words."""


@dataclass(frozen=True)
class Finished:
    stdout: str
    seconds: float
    cpu_seconds: float  # of the program and the children it has waited for


def own_all_descendants() -> None:
    """From now on processes that lose their parent become this process's children, so that none gets lost."""
    set_child_subreaper = 36  # PR_SET_CHILD_SUBREAPER
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not be charged with writing a core file


def descendants() -> dict[int, str]:
    """Names of the living processes below this one, by process id."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # it is gone
        name, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
        state, parent = rest[0], int(rest[1])
        if state != "Z":
            children.setdefault(parent, []).append((int(entry.name), name))
    found: dict[int, str] = {}
    ancestors = [os.getpid()]
    while ancestors:
        for pid, name in children.get(ancestors.pop(), []):
            found[pid] = name
            ancestors.append(pid)
    return found


def kill_descendants() -> None:
    while found := descendants():
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        time.sleep(0.01)


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def require_nothing_left() -> None:
    """Requires that no side is running. Kills what is there and throws SideFailed."""
    deadline = time.monotonic() + GRACE_SECONDS
    while left := descendants():
        reap()
        if time.monotonic() > deadline:
            kill_descendants()
            raise SideFailed(f"left processes running: {', '.join(sorted(set(left.values())))}")
        time.sleep(0.01)
    reap()


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "said nothing"


def run_limited(command: list[str], limit_seconds: float, cwd: Path | None = None) -> Finished:
    """Runs the command to its end. Throws SideFailed if that is not exit status 0 within the limit. Not for two threads."""
    cpu_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Files rather than pipes: a forgotten grandchild that holds a pipe open would keep us waiting.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd, start_new_session=True)
        except OSError as error:
            raise SideFailed(f"{Path(command[0]).name}: {error.strerror}") from error
        try:
            status = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            kill_descendants()
            process.wait()
            raise SideFailed(f"took longer than {limit_seconds:.0f} s") from None
        except BaseException:
            kill_descendants()
            raise
        seconds = time.perf_counter() - start
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        err.seek(0)
        if status != 0:
            kill_descendants()
            how = f"exit status {status}" if status > 0 else signal.Signals(-status).name
            raise SideFailed(f"{how}: {last_line(err.read())}")
        require_nothing_left()
        cpu_seconds = cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime
        return Finished(out.read(), seconds, cpu_seconds)
