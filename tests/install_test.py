#!/usr/bin/env python3
"""Installs the package and builds README's program in another folder, as README says.

    install_test.py SOURCE_FOLDER BUILD_FOLDER CXX_COMPILER
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def block(page, language, sign):
    """The code block of the page that contains `sign`."""
    for text in re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if sign in text:
            return text
    sys.exit(f"README.md has no {language} block with {sign}")


def check(program, how):
    printed = run(program)
    if "16 12 25" not in printed:
        sys.exit(f"the program that was built by {how} printed:\n{printed}")


def main():
    source, build, compiler = sys.argv[1:]
    page = (Path(source) / "README.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="install_test_") as folder:
        home, installed = Path(folder) / "program", Path(folder) / "installed"
        home.mkdir()
        (home / "squares.cpp").write_text(block(page, "cpp", "int main"))
        (home / "CMakeLists.txt").write_text(block(page, "cmake", "find_package(manyhands"))
        run("cmake", "--install", build, "--prefix", installed)

        run("cmake", "-S", home, "-B", home / "build", f"-DCMAKE_PREFIX_PATH={installed}", f"-DCMAKE_CXX_COMPILER={compiler}")
        run("cmake", "--build", home / "build")
        check(home / "build" / "squares", "find_package")

        place = next(installed.rglob("manyhands.pc")).parent
        flags = run("pkg-config", "--cflags", "--libs", "manyhands", env={**os.environ, "PKG_CONFIG_PATH": str(place)}).split()
        run(compiler, home / "squares.cpp", *flags, "-o", home / "squares")
        check(home / "squares", "pkg-config")


if __name__ == "__main__":
    main()
