#!/usr/bin/env python3
"""Passes ctest's output on, and names before its summary the tests that passed only when they were run once more.

usage: ctest --repeat until-pass:2 ... | show_flaky.py STAGE NOTES

STAGE is a word for what is run. The names are also added to the file NOTES, and those that it holds already, of earlier
stages, are named again: so the last stage's output ends with the flaky tests of all, and with its own summary.
"""
import pathlib
import re
import sys

RESULT = re.compile(r" *(?:\d+/\d+ )? *Test +#(\d+): (.*?) \.+ *(Passed|\*\*\*\w+)")
SUMMARY = re.compile(r"\d+% tests passed")


def main():
    stage, notes = sys.argv[1], pathlib.Path(sys.argv[2])
    failed = set()
    for line in sys.stdin:
        if match := RESULT.match(line):
            number, name, result = match.groups()
            if result == "Passed" and number in failed:
                with notes.open("a") as file:
                    file.write(f"flaky ({stage}): {name}\n")
            elif result not in ("Passed", "***Skipped"):
                failed.add(number)
        elif SUMMARY.match(line) and notes.exists() and (flaky := notes.read_text()):
            print(f"These failed first and passed when they were run once more:\n{flaky}")
        print(line, end="", flush=True)


if __name__ == "__main__":
    main()
