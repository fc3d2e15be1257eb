#!/usr/bin/env python3
"""tools/show_flaky.py on real output of ctest: which tests it names, and where.

usage: show_flaky_test.py SHOW_FLAKY
"""
import pathlib
import subprocess
import sys
import tempfile

PROJECT = """\
cmake_minimum_required(VERSION 3.25)
project(flaky NONE)
enable_testing()
add_test(NAME good COMMAND true)
add_test(NAME "now: and ... then" COMMAND sh -c "test -e seen || { touch seen; exit 1; }")
add_test(NAME bad COMMAND false)
add_test(NAME skipped COMMAND sh -c "echo skipped:")
set_tests_properties(skipped PROPERTIES SKIP_REGULAR_EXPRESSION "skipped:")
"""


def main():
    tool = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="manyhands-flaky-") as name:
        folder = pathlib.Path(name)
        (folder / "CMakeLists.txt").write_text(PROJECT)
        subprocess.run(["cmake", "-S", folder, "-B", folder / "build"], check=True, stdout=subprocess.DEVNULL)
        outputs = []
        for stage in ("first", "second"):
            ran = subprocess.run(["ctest", "--test-dir", folder / "build", "--repeat", "until-pass:2"], stdout=subprocess.PIPE, text=True)
            assert ran.returncode != 0, "the test that is bad fails in spite of the repetition"
            shown = subprocess.run([sys.executable, tool, stage, folder / "notes"], input=ran.stdout, stdout=subprocess.PIPE, text=True, check=True)
            flaky = [line for line in shown.stdout.splitlines() if line.startswith("flaky")]
            # The second stage has none of its own, and names the first's.
            assert flaky == ["flaky (first): now: and ... then"], shown.stdout
            lines = [line for line in shown.stdout.splitlines() if line]
            assert "75% tests passed" in lines[lines.index(flaky[0]) + 1], "ctest's summary comes last"
            outputs.append((ran.stdout, shown.stdout))
        assert all(line in shown for ran, shown in outputs for line in ran.splitlines()), "all else is passed on"


if __name__ == "__main__":
    main()
