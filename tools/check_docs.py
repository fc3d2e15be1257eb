#!/usr/bin/env python3
"""Compiles and runs the C++ in the documentation, and follows its links.

    check_docs.py PAGE.md --compiler g++ --flags "..." --link "..."     code and links of one page
    check_docs.py PAGE.md                                               links only

Every fenced block that begins with ```cpp is checked, by what it is:

  program       it has `int main`: compiled with warnings as errors, linked, and run in an empty folder; it must exit with
                0 within 30 s. Lines `// output: TEXT` in it must appear in what it prints on standard output, whole and
                in this order; `...` in TEXT stands for anything.
  declarations  it defines functions or types at the left margin: compiled at namespace scope. Later blocks of the page
                see them, as a reader does.
  statements    anything else: compiled in a function of its own, not run. See PRELUDE for what it may use.

All declarations and statements of a page are one translation unit, in the order of the page. A comment in the line before
a block changes what is done with it:

  <!-- no-test: REASON -->           nothing
  <!-- must-not-compile: TEXT -->    it must be refused, with TEXT in the compiler's message

Links to other places of the repository must lead to a file that exists, and #anchors to a heading.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What declarations and statements may use without saying so. A page may define names of its own over these.
PRELUDE = """\
#include <manyhands/multicore.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <unistd.h>

namespace mh = manyhands;
using namespace std::chrono_literals;

double f(double x);                  // any function that can be mapped
double g(double x, double y);        // and one of two arguments
extern std::vector<double> xs;       // items for f
extern std::vector<std::tuple<double, double>> pairs;  // items for g
extern mh::Pool pool;
extern mh::ThreadPool threads;
extern mh::AsyncResult<double> result;               // of a pool.apply_async(f, x)
extern mh::AsyncResult<std::vector<double>> results;  // of a pool.map_async(f, xs)
"""

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# A fragment names results that it does not go on to use.
FRAGMENT_WARNINGS = ["-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Wno-unused-function", "-Wno-unused-parameter"]
RUN_SECONDS = 30

DEFINITION = re.compile(
    r"^(template\b|struct\b|class\b|enum\b|namespace\s+\w+\s*\{|(?!else\b|return\b|co_)[\w:<>,&* ]+\s[&*]?\w+\([^;]*\)( const| noexcept)*\s*\{)",
    re.MULTILINE)
CONTROL = re.compile(r"^(if|for|while|switch|do|try|catch|else)\b")


class Block:
    def __init__(self, page, line, text, directive):
        self.page, self.line, self.text = page, line, text  # line: of the first line of code, from 1
        self.skip = directive.startswith("no-test:")
        self.refused = directive.removeprefix("must-not-compile:").strip() if directive.startswith("must-not-compile:") else None
        if re.search(r"\bint main\(", text):
            self.kind = "program"
        elif any(not CONTROL.match(match.group()) for match in DEFINITION.finditer(text)):
            self.kind = "declarations"
        else:
            self.kind = "statements"

    def place(self):
        return f"{self.page}:{self.line}"

    def code(self):
        """The block as it goes into a source file: the compiler's messages name the page."""
        return f'#line {self.line} "{self.page}"\n{self.text}'


def blocks_of(page):
    """The ```cpp blocks of a page."""
    blocks, problems = [], []
    directive, fence, start, lines, language = "", None, 0, [], ""
    for number, line in enumerate(Path(page).read_text(encoding="utf-8").splitlines(), 1):
        if fence is not None:
            if line.strip() == fence:
                if language == "cpp":
                    blocks.append(Block(page, start, "\n".join(lines) + "\n", directive))
                directive, fence = "", None
            else:
                lines.append(line)
        elif match := re.match(r"\s*(```+|~~~+)\s*(\S*)", line):
            fence, language, start, lines = match.group(1), match.group(2), number + 1, []
        elif match := re.match(r"<!--\s*((?:no-test|must-not-compile):.*?)\s*-->\s*$", line):
            directive = match.group(1)
            if directive in ("no-test:", "must-not-compile:"):
                problems.append(f"{page}:{number}: {directive} says no {'reason' if directive[0] == 'n' else 'text'}")
        elif line.strip():
            if directive:
                problems.append(f"{page}:{number}: a code block was expected after '{directive}'")
            directive = ""
    if fence is not None:
        problems.append(f"{page}:{start}: this code block has no end")
    return blocks, problems


def fragments(blocks):
    """Declarations and statements as one source file."""
    includes, body = [], []
    for block in blocks:
        text = re.sub(r"^#include.*$", lambda include: includes.append(include.group()) or "", block.text, flags=re.MULTILINE)
        text = re.sub(r"^namespace mh = manyhands;$", "", text, flags=re.MULTILINE)
        where = f'#line {block.line} "{block.page}"\n'
        if block.kind == "declarations":
            body.append(where + text)
        else:
            body.append(f"[[maybe_unused]] static void line_{block.line}() {{\n{where}{text}}}\n")
    return PRELUDE + "\n".join(includes) + "\nnamespace page {\n" + "\n".join(body) + "\n}  // namespace page\n"


class Compiler:
    def __init__(self, command, flags, link, folder):
        self.command, self.flags, self.link, self.folder = command, flags, link, folder
        self.precompiled = []

    def precompile(self):
        """The library's header, for pages with many programs. They still include what else they use."""
        header = self.folder / "precompiled.hpp"
        header.write_text("#include <manyhands/multicore.hpp>\n")
        done = self.run([*self.flags, *WARNINGS, "-x", "c++-header", str(header), "-o", f"{header}.gch"])
        if done.returncode == 0:
            self.precompiled = ["-include", str(header)]

    def run(self, arguments):
        return subprocess.run([self.command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def source(self, name, text):
        path = self.folder / f"{name}.cpp"
        path.write_text(text)
        return str(path)


def expected_output(text):
    return [match.group(1) for match in re.finditer(r"//\s*output:\s*(.*?)\s*$", text, re.MULTILINE)]


def missing_output(expected, printed):
    """The first expected line that is not among the printed ones, in order; None if all are."""
    lines = iter(printed.splitlines())
    for wanted in expected:
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        if not any(re.fullmatch(pattern, line.strip()) for line in lines):
            return wanted
    return None


def check_program(compiler, block):
    if not re.search(r"#include [<\"]manyhands/multicore.hpp[>\"]", block.text):
        return f"{block.place()}: the program does not include <manyhands/multicore.hpp>"
    name = f"program_{block.line}"
    program = compiler.folder / name
    built = compiler.run([*compiler.flags, *WARNINGS, *compiler.precompiled, compiler.source(name, block.code()), "-o", str(program),
                          *compiler.link])
    if built.returncode != 0:
        return f"{block.place()}: the program does not build:\n{built.stdout}"
    home = compiler.folder / f"{name}.run"
    home.mkdir()
    try:
        ran = subprocess.run([str(program)], cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, timeout=RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"{block.place()}: the program did not end within {RUN_SECONDS} s"
    said = f"\nit printed:\n{ran.stdout}\nand on standard error:\n{ran.stderr}"
    if ran.returncode != 0:
        return f"{block.place()}: the program ended with status {ran.returncode}{said}"
    wanted = missing_output(expected_output(block.text), ran.stdout)
    if wanted is not None:
        return f"{block.place()}: the program does not print (in this order): {wanted}{said}"
    return None


def check_fragments(compiler, blocks):
    if not blocks:
        return None
    done = compiler.run([*compiler.flags, *WARNINGS, *FRAGMENT_WARNINGS, "-fsyntax-only",
                         compiler.source("fragments", fragments(blocks))])
    return f"{blocks[0].page}: a fragment does not compile:\n{done.stdout}" if done.returncode != 0 else None


def check_refused(compiler, block, before):
    text = block.code() if block.kind == "program" else fragments([*before, block])
    done = compiler.run([*compiler.flags, "-fsyntax-only", compiler.source(f"refused_{block.line}", text)])
    if done.returncode == 0:
        return f"{block.place()}: this compiles, but should be refused with: {block.refused}"
    if " ".join(block.refused.split()) not in " ".join(done.stdout.split()):
        return f"{block.place()}: the compiler's message does not contain '{block.refused}':\n{done.stdout}"
    return None


def check_code(blocks, compiler, jobs):
    blocks = [block for block in blocks if not block.skip]
    good = [block for block in blocks if block.refused is None]
    programs = [block for block in good if block.kind == "program"]
    if len(programs) > 2:
        compiler.precompile()
    with ThreadPoolExecutor(jobs) as pool:
        checks = [pool.submit(check_fragments, compiler, [b for b in good if b.kind != "program"])]
        checks += [pool.submit(check_program, compiler, block) for block in programs]
        for block in blocks:
            if block.refused is not None:
                before = [b for b in good if b.line < block.line and b.kind == "declarations"]
                checks.append(pool.submit(check_refused, compiler, block, before))
        return [problem for problem in (check.result() for check in checks) if problem]


def headings_of(page):
    """Anchors as the usual viewers make them from headings."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+\s+(.*?)\s*#*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check_links(page):
    text = re.sub(r"^(```|~~~).*?^\1", lambda code: "\n" * code.group().count("\n"), Path(page).read_text(encoding="utf-8"),
                  flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    problems = []
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    targets += re.findall(r"<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if re.match(r"[a-z][a-z+.-]*:", target):  # another site
            continue
        name, _, anchor = target.partition("#")
        place = Path(page).parent / name if name else Path(page)
        if not place.exists():
            problems.append(f"{page}: the link to {target} leads nowhere")
        elif anchor and place.suffix == ".md" and anchor not in headings_of(place):
            problems.append(f"{page}: {place} has no heading for the link to #{anchor}")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page")
    parser.add_argument("--compiler")
    parser.add_argument("--flags", default="", help="for compiling, as one string")
    parser.add_argument("--link", default="", help="for linking, as one string")
    parser.add_argument("--jobs", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--keep", action="store_true", help="leave the folder with the sources and say where it is")
    arguments = parser.parse_args()

    blocks, problems = blocks_of(arguments.page)
    problems += check_links(arguments.page)
    if arguments.compiler:
        folder = Path(tempfile.mkdtemp(prefix="check_docs_"))
        try:
            compiler = Compiler(arguments.compiler, shlex.split(arguments.flags), shlex.split(arguments.link), folder)
            problems += check_code(blocks, compiler, arguments.jobs)
        finally:
            if arguments.keep:
                print(f"sources in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    kinds = [block.kind for block in blocks if not block.skip and block.refused is None]
    print(f"{arguments.page}: {kinds.count('program')} programs, {kinds.count('declarations') + kinds.count('statements')} fragments, "
          f"{sum(block.refused is not None for block in blocks)} refused, {sum(block.skip for block in blocks)} not tested; "
          f"{len(problems)} problem{'s' * (len(problems) != 1)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
