"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import time
from pathlib import Path


def first_match(path: str, pattern: str) -> str:
    try:
        match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else "unknown"


def said_by(command: list[str]) -> str:
    """The first line that the command prints, or "not found"."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return "not found"
    return (result.stdout.strip().splitlines() or ["unknown"])[0]


def load_average() -> str:
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def own_cpu_seconds() -> float:
    """Of this process and of all descendants that have ended and been waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def busy_cpu_seconds() -> float:
    """Of all cores since the machine started, what a hypervisor took from us included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Usage:
    """Since it was made: how busy the machine was with what is not ours. Needs own_all_descendants()."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.busy = busy_cpu_seconds()
        self.own = own_cpu_seconds()

    def taken_by_others(self) -> float:
        """Share of the cores' time, 0 to 1."""
        others = (busy_cpu_seconds() - self.busy) - (own_cpu_seconds() - self.own)
        available = (time.monotonic() - self.start) * (os.cpu_count() or 1)
        return min(max(others / available, 0.0), 1.0)


def wait_until_quiet(limit_seconds: float) -> None:
    """Returns when other programs use less than a tenth of the cores, or after the limit."""
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        usage = Usage()
        time.sleep(0.3)
        if usage.taken_by_others() < 0.1:
            return


def module_version(python: str, module: str) -> str:
    return said_by([python, "-c", f"import {module}; print({module}.__version__)"])


def describe(build: Path, compiler: str, python: str) -> dict[str, str]:
    """Name -> text, in the order in which it is printed."""
    memory_gb = int(first_match("/proc/meminfo", r"MemTotal:\s+(\d+) kB")) * 1024 / 1e9
    hypervisor = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "CPU": first_match("/proc/cpuinfo", r"model name\s*: (.+)") + (" (virtual machine)" if hypervisor else ""),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_gb:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average": load_average(),
        "compiler": said_by([compiler, "--version"]),
        "build type": first_match(str(build / "CMakeCache.txt"), r"^CMAKE_BUILD_TYPE:\w+=(.*)$"),
        "oneTBB": said_by([str(build / "bench" / "peers_bench"), "versions"]),
        "CPython": said_by([python, "--version"]),
        "joblib": module_version(python, "joblib"),
        "numpy": module_version(python, "numpy"),
    }
