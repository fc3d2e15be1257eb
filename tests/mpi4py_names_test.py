#!/usr/bin/env python3
"""Looks whether the page for those who come from mpi4py names everything that mpi4py has.

    mpi4py_names_test.py NAMES.txt PAGE.md

NAMES.txt has a name per line, as MODULE.NAME or MODULE.CLASS.MEMBER, where MODULE is MPI, futures, util.sync, ...; lines with # are
comments. A name of a class or of a module other than MPI must stand in code in the first column of a table below a heading that
names the class or module; any other name in some first column. A * in the page stands for anything: `ERR_*`. Every row of
these tables must say what there is instead: no empty second cell, and a reason in the third where the second is "none".
"""

import fnmatch
import re
import sys
from collections import defaultdict
from pathlib import Path


def tables_of(page):
    """(line number, words of the headings above, cells) of every row of a table."""
    headings, fence = {}, False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fence = not fence
        elif fence:
            continue
        elif match := re.match(r"(#+) (.*)", line):
            level = len(match.group(1))
            headings = {known: words for known, words in headings.items() if known < level}
            headings[level] = set(re.findall(r"[\w.]+", match.group(2)))
        elif line.startswith("|") and not re.match(r"\|[\s:|-]+$", line):
            yield number, set().union(*headings.values()), [cell.strip() for cell in line.strip("|").replace("\\|", "/").split("|")]


def main():
    names, page = Path(sys.argv[1]), Path(sys.argv[2])
    patterns = defaultdict(set)  # word of a heading, or "" for everywhere -> what first columns name below it
    problems = []
    for number, words, cells in tables_of(page):
        named = set(re.findall(r"[\w*]+", " ".join(re.findall(r"`([^`]+)`", cells[0]))))
        for word in words | {""}:
            patterns[word] |= named
        if not named:
            continue  # a table's head
        if len(cells) < 3 or not cells[1]:
            problems.append(f"{page}:{number}: nothing is said of {cells[0]}")
        elif cells[1] == "none" and not cells[2]:
            problems.append(f"{page}:{number}: no reason is given for {cells[0]}")

    wanted = [line for line in names.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for name in wanted:
        parts = name.split(".")
        place, member = "", parts[-1]
        if parts[0] == "MPI":
            place = parts[1] if len(parts) == 3 else ""
        else:  # the longest module that has a heading
            modules = [".".join(["mpi4py", *parts[:n]]) for n in range(len(parts) - 1, 0, -1)]
            place = next((module for module in modules if module in patterns), modules[-1] if modules else "")
        if not any(fnmatch.fnmatchcase(member, pattern) for pattern in patterns[place]):
            problems.append(f"{page}: {name} is not there{f', below a heading with {place}' if place else ''}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(wanted)} names, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
