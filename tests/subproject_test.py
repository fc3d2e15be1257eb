#!/usr/bin/env python3
"""manyhands as a part of another project (FetchContent, add_subdirectory): what is built, and what it leaves alone.

usage: subproject_test.py SOURCE_DIR CXX
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile


def run(*command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=500)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def main():
    source, compiler = pathlib.Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="manyhands-subproject-") as folder:
        build = pathlib.Path(folder, "build")
        launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        run("cmake", "-S", source / "tests/install", "-B", build, "-G", "Ninja", f"-DMANYHANDS_SOURCE={source}", "-DWITH_MPI=OFF",
            f"-DCMAKE_CXX_COMPILER={compiler}", "-DCMAKE_CXX_STANDARD=20", *launcher)
        steps = run("ninja", "-C", build, "-t", "commands", "all")
        if "/manyhands/process/pool.cpp" not in steps:
            sys.exit("the library is not built for who links it")
        for step in steps.splitlines():
            if any(part in step for part in ("_test.cpp", "/manyhands/cli/", "/manyhands/mpi/", "/bench/", "/examples/", "/fuzz/")):
                sys.exit(f"this is built, and was not asked for: {step}")
        if "Test #" in (tests := run("ctest", "--test-dir", build, "-N")):
            sys.exit(f"tests that were not asked for:\n{tests}")
        run("cmake", "--build", build)
        if (printed := run(build / "installed")) != "Bern is mild\nOslo freezes\n":
            sys.exit(f"it printed {printed!r}")
        prefix = pathlib.Path(folder, "prefix")
        run("cmake", "--install", build, "--prefix", prefix)
        if prefix.exists() and (installed := list(prefix.rglob("*"))):
            sys.exit(f"installed, and not asked for: {installed}")


if __name__ == "__main__":
    main()
