#!/usr/bin/env python3
"""Installs a build into a new folder and builds a program against it there, by find_package and by pkg-config.

usage: install_test.py BUILD_DIR SOURCE_DIR CXX [FLAG...]
"""
import os
import pathlib
import subprocess
import sys
import tempfile

EXPECTED = "Bern is mild\nOslo freezes\n"


def run(*command, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def check(program):
    printed = run(program)
    if printed != EXPECTED:
        sys.exit(f"{program} printed {printed!r}, expected {EXPECTED!r}")


def main():
    build, source, compiler, *flags = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="manyhands-install-") as folder:
        prefix = pathlib.Path(folder, "prefix")
        run("cmake", "--install", build, "--prefix", prefix)
        for header in (prefix / "include").rglob("*_test.hpp"):
            sys.exit(f"a test was installed: {header}")

        user = pathlib.Path(folder, "user")
        run("cmake", "-S", pathlib.Path(source, "tests/install"), "-B", user, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_CXX_COMPILER={compiler}", f"-DCMAKE_CXX_FLAGS={' '.join(flags)}")
        run("cmake", "--build", user)
        check(user / "installed")

        if (user / "installed_mpi").exists():  # a job of one process needs no launcher
            root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
            if (printed := run(user / "installed_mpi", env=os.environ | root)) != "42\n":
                sys.exit(f"the installed MPI program printed {printed!r}")

        config = next(prefix.rglob("manyhands.pc")).parent
        environment = os.environ | {"PKG_CONFIG_PATH": str(config)}
        words = run("pkg-config", "--cflags", "--libs", "manyhands", env=environment).split()
        program = pathlib.Path(folder, "by-pkg-config")
        run(compiler, *flags, pathlib.Path(source, "tests/install/main.cpp"), "-o", program, *words)
        check(program)


if __name__ == "__main__":
    main()
