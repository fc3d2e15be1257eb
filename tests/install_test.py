#!/usr/bin/env python3
"""Installs a build into a new folder and builds programs against it there, by find_package and by pkg-config.

usage: install_test.py BUILD_DIR SOURCE_DIR CXX

Of a build of type Release, also that nothing of it needs what only developers have, and that it has no debug information.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

EXPECTED = "Bern is mild\nOslo freezes\n"


def run(*command, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **options)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def check(program, expected=EXPECTED):
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}  # a job of one process needs no launcher
    printed = run(program, env=os.environ | root)
    if printed != expected:
        sys.exit(f"{program} printed {printed!r}, expected {expected!r}")


def check_release(build, prefix, program):
    cache = (build / "CMakeCache.txt").read_text()
    for word in ("ccache", "mold", "doctest", "rapidcheck", "embree"):
        if re.search(rf"\b{word}\b", cache):
            sys.exit(f"the release looks for {word}")
    for file in (prefix / "lib/libmanyhands.a", prefix / "bin/manyhands", program):
        if ".debug_info" in run("readelf", "-SW", file):
            sys.exit(f"{file} has debug information")


def main():
    build, source, compiler = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    with tempfile.TemporaryDirectory(prefix="manyhands-install-") as folder:
        prefix = pathlib.Path(folder, "prefix")
        run("cmake", "--install", build, "--prefix", prefix)
        for header in (prefix / "include").rglob("*_test.hpp"):
            sys.exit(f"a test was installed: {header}")

        user = pathlib.Path(folder, "user")
        run("cmake", "-S", source / "tests/install", "-B", user, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}",
            f"-DCMAKE_CXX_COMPILER={compiler}")
        run("cmake", "--build", user)
        check(user / "installed")
        for program in user.glob("installed_*"):
            check(program, "42\n")

        config = next(prefix.rglob("manyhands.pc")).parent
        environment = os.environ | {"PKG_CONFIG_PATH": str(config)}
        packages = sorted(file.stem for file in config.glob("*.pc"))
        mpis = sorted(file.name.removeprefix("installed_") for file in user.glob("installed_*"))
        if packages != ["manyhands"] + [f"manyhands-mpi-{mpi}" for mpi in mpis if mpi != "mpi"]:
            sys.exit(f"packages for pkg-config: {packages}, of the MPIs {mpis}")
        for package in packages:
            words = run("pkg-config", "--cflags", "--libs", package, env=environment).split()
            if forced := [word for word in words if word.startswith(("-std", "-D", "-O", "-W")) and not word.startswith("-Wl,")]:
                sys.exit(f"{package}.pc sets what the user decides: {forced}")
            program = pathlib.Path(folder, package)
            main_file = source / "tests/install" / ("main.cpp" if package == "manyhands" else "mpi.cpp")
            run(compiler, "-std=c++20", main_file, "-o", program, *words)
            check(program, EXPECTED if package == "manyhands" else "42\n")

        if "CMAKE_BUILD_TYPE:STRING=Release\n" in (build / "CMakeCache.txt").read_text():
            check_release(build, prefix, pathlib.Path(folder, "manyhands"))


if __name__ == "__main__":
    main()
