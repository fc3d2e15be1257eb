#!/usr/bin/env python3
"""Checks the format of all sources and runs clang-tidy on those that changed against origin/main.

usage: lint.py [--all] [--fix]
  --all  clang-tidy on every source
  --fix  format in place instead of complaining
Exit status 1 if anything is found.
"""
import argparse
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

BUILD = pathlib.Path("build/tidy")


def git(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True).stdout.split()


def sources():
    return [f for f in git("ls-files", "--cached", "--others", "--exclude-standard", "*.cpp", "*.hpp") if os.path.exists(f)]


def changed():
    base = (git("merge-base", "HEAD", "origin/main") or ["HEAD"])[0]  # without a remote: what is not committed
    names = set(git("diff", "--name-only", base)) | set(git("ls-files", "--others", "--exclude-standard"))
    return [f for f in sources() if f in names]


def check_format(files, fix):
    command = ["clang-format-19", "-i" if fix else "--dry-run", *([] if fix else ["--Werror"]), *files]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        print("\n".join(line for line in result.stderr.splitlines() if "error:" in line)[:4000])
        print("lint: format differs; run tools/lint.py --fix")
    return result.returncode == 0


def tidy_one(file):
    result = subprocess.run(["clang-tidy-19", "--quiet", "-p", str(BUILD), file], capture_output=True, text=True)
    return file, result.returncode, result.stdout


def tidy(files):
    units = [f for f in files if f.endswith(".cpp") and not f.startswith(("examples/", "bench/", "tests/")) and not f.endswith("_test.cpp")]
    if not units:
        return True
    subprocess.run(["cmake", "--preset", "tidy"], check=True, stdout=subprocess.DEVNULL)
    good = True
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for file, code, output in pool.map(tidy_one, units):
            if code != 0:
                good = False
                print(output)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--fix", action="store_true")
    arguments = parser.parse_args()
    good = check_format(sources(), arguments.fix)
    good = tidy(sources() if arguments.all else changed()) and good
    print("lint: clean" if good else "lint: see above")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
