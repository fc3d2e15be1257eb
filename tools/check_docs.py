#!/usr/bin/env python3
"""Compiles and runs the C++ in the documentation, and follows its links.

    check_docs.py PAGE.md --compiler g++ --flags "..." --link "..."     code and links of one page
    check_docs.py PAGE.md --mpi openmpi --launch "..." --compiler ...   the same of its MPI programs, and no links
    check_docs.py PAGE.md                                               links only

Every fenced block that begins with ```cpp is checked, by what it is:

  program       it has `int main`: compiled with warnings as errors, linked, and run in an empty folder; it must exit with
                0 within 30 s. Lines `// output: TEXT` in it must appear in what it prints on standard output, whole and
                in this order; `...` in TEXT stands for anything.
  declarations  it defines functions or types at the left margin: compiled at namespace scope. Later blocks of the page
                see them, as a reader does.
  statements    anything else: compiled in a function of its own, not run. See PRELUDE for what it may use.

All declarations and statements of a page are one translation unit, in the order of the page.

A program that includes <manyhands/mpi.hpp> is an MPI program. It says how it is run, as its reader would, and behind each
such line what comes then:

  // manyhands run -n 3 ./NAME ARGUMENTS    by 3 ranks (default: by 1), started by the command --launch; may have
                                            -x VARIABLE=VALUE before the program
  // output: TEXT                           as above
  // output in any order: TEXT              a line that must be there, anywhere
  // output with openmpi: TEXT              as the first, with that MPI only
  // error: TEXT                            the same, on standard error; the job must fail then

A page with MPI programs is an MPI page: its declarations and statements may use MPI_PRELUDE, and are checked with --mpi only.

A comment in the line before a block changes what is done with it:

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

# The same, of an MPI page.
MPI_PRELUDE = """\
#include <manyhands/mpi.hpp>
#include <manyhands/multicore.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <complex>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace mh = manyhands;
namespace mpi = manyhands::mpi;
using namespace std::chrono_literals;

double f(double x);                  // any function that can be mapped
extern const mpi::Comm& world;
extern mpi::Comm comm;               // another communicator
extern std::vector<double> xs;       // data
"""

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# A fragment names results that it does not go on to use.
FRAGMENT_WARNINGS = ["-Wno-unused-variable", "-Wno-unused-but-set-variable", "-Wno-unused-function", "-Wno-unused-parameter"]
RUN_SECONDS = 30
MPI_RUN_SECONDS = 90
MPI_INCLUDE = re.compile(r"#include [<\"]manyhands/mpi.hpp[>\"]")

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
        self.is_mpi = self.kind == "program" and MPI_INCLUDE.search(text) is not None

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


def fragments(blocks, prelude):
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
    return prelude + "\n".join(includes) + "\nnamespace page {\n" + "\n".join(body) + "\n}  // namespace page\n"


class Compiler:
    def __init__(self, command, flags, link, folder):
        self.command, self.flags, self.link, self.folder = command, flags, link, folder
        self.precompiled = []

    def precompile(self, name):
        """The library's header, for pages with many programs. They still include what else they use."""
        header = self.folder / "precompiled.hpp"
        header.write_text(f"#include <{name}>\n")
        done = self.run([*self.flags, *WARNINGS, "-x", "c++-header", str(header), "-o", f"{header}.gch"])
        if done.returncode == 0:
            self.precompiled = ["-include", str(header)]

    def run(self, arguments):
        return subprocess.run([self.command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def source(self, name, text):
        path = self.folder / f"{name}.cpp"
        path.write_text(text)
        return str(path)


class Run:
    """One way in which a program is run, and what comes then."""

    def __init__(self, ranks=1, variables=(), arguments=()):
        self.ranks, self.variables, self.arguments = ranks, list(variables), list(arguments)
        self.output, self.anywhere, self.errors = [], [], []


RUN_LINE = re.compile(r"//\s*manyhands run -n (\d+) ((?:-x \w+=\S+ )*)\./\S+ *(.*?)\s*$")
RESULT_LINE = re.compile(r"//\s*(output|output in any order|error)(?: with (\w+))?: *(.*?)\s*$")


def runs_of(text, mpi):
    runs = []
    for line in text.splitlines():
        if match := RUN_LINE.search(line):
            runs.append(Run(int(match.group(1)), re.findall(r"-x (\S+)", match.group(2)), shlex.split(match.group(3))))
        elif match := RESULT_LINE.search(line):
            runs = runs or [Run()]
            lines = {"output": runs[-1].output, "output in any order": runs[-1].anywhere, "error": runs[-1].errors}
            if match.group(2) in (None, mpi):
                lines[match.group(1)].append(match.group(3))
    return runs or [Run()]


def is_like(line, wanted):
    """Whether the line is the one that is wanted, in which ... stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in wanted.split("...")), line.strip()) is not None


def missing_output(run, printed, errors):
    """The first expected line that did not come; None if all did."""
    lines = iter(printed.splitlines())
    for wanted in run.output:
        if not any(is_like(line, wanted) for line in lines):
            return f"it does not print (in this order): {wanted}"
    left = printed.splitlines()
    for wanted in run.anywhere:
        found = next((line for line in left if is_like(line, wanted)), None)
        if found is None:
            return f"it does not print: {wanted}"
        left.remove(found)
    for wanted in run.errors:
        if not any(is_like(line, wanted) for line in errors.splitlines()):
            return f"it does not print on standard error: {wanted}"
    return None


def run_program(block, program, run, launch):
    """What is wrong with a run of the program; None if nothing."""
    command = [*launch, "-n", str(run.ranks), str(program)] if block.is_mpi else [str(program)]
    environment = os.environ | dict(variable.split("=", 1) for variable in run.variables)
    home = Path(tempfile.mkdtemp(prefix="run_", dir=program.parent))
    seconds = MPI_RUN_SECONDS if block.is_mpi else RUN_SECONDS
    how = f"{block.place()}: with {run.ranks} rank{'s' * (run.ranks != 1)}, the program" if block.is_mpi else f"{block.place()}: the program"
    try:
        ran = subprocess.run([*command, *run.arguments], cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, errors="replace", timeout=seconds, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"{how} did not end within {seconds} s"
    said = f"\nit printed:\n{ran.stdout}\nand on standard error:\n{ran.stderr}"
    if (ran.returncode != 0) != bool(run.errors):
        return f"{how} ended with status {ran.returncode}{said}"
    missing = missing_output(run, ran.stdout, ran.stderr)
    return f"{how} is not as the page says: {missing}{said}" if missing else None


def check_program(compiler, block, launch, mpi):
    if not block.is_mpi and not re.search(r"#include [<\"]manyhands/multicore.hpp[>\"]", block.text):
        return f"{block.place()}: the program includes neither <manyhands/multicore.hpp> nor <manyhands/mpi.hpp>"
    name = f"program_{block.line}"
    program = compiler.folder / name
    built = compiler.run([*compiler.flags, *WARNINGS, *compiler.precompiled, compiler.source(name, block.code()), "-o", str(program),
                          *compiler.link])
    if built.returncode != 0:
        return f"{block.place()}: the program does not build:\n{built.stdout}"
    return next(filter(None, (run_program(block, program, run, launch) for run in runs_of(block.text, mpi))), None)


def check_fragments(compiler, blocks, prelude):
    if not blocks:
        return None
    done = compiler.run([*compiler.flags, *WARNINGS, *FRAGMENT_WARNINGS, "-fsyntax-only",
                         compiler.source("fragments", fragments(blocks, prelude))])
    return f"{blocks[0].page}: a fragment does not compile:\n{done.stdout}" if done.returncode != 0 else None


def check_refused(compiler, block, before, prelude):
    text = block.code() if block.kind == "program" else fragments([*before, block], prelude)
    done = compiler.run([*compiler.flags, "-fsyntax-only", compiler.source(f"refused_{block.line}", text)])
    if done.returncode == 0:
        return f"{block.place()}: this compiles, but should be refused with: {block.refused}"
    if " ".join(block.refused.split()) not in " ".join(done.stdout.split()):
        return f"{block.place()}: the compiler's message does not contain '{block.refused}':\n{done.stdout}"
    return None


def check_code(blocks, compiler, launch, mpi, jobs):
    """The problems of the blocks; `launch`: the command that starts programs of `mpi`, or both nothing."""
    prelude = MPI_PRELUDE if mpi else PRELUDE
    good = [block for block in blocks if block.refused is None]
    programs = [block for block in good if block.kind == "program"]
    if len(programs) > 2:
        compiler.precompile("manyhands/mpi.hpp" if mpi else "manyhands/multicore.hpp")
    with ThreadPoolExecutor(jobs) as pool:
        checks = [pool.submit(check_fragments, compiler, [b for b in good if b.kind != "program"], prelude)]
        checks += [pool.submit(check_program, compiler, block, launch, mpi) for block in programs]
        for block in blocks:
            if block.refused is not None:
                before = [b for b in good if b.line < block.line and b.kind == "declarations"]
                checks.append(pool.submit(check_refused, compiler, block, before, prelude))
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
    parser.add_argument("--mpi", metavar="NAME", help="check what is of MPI, with this MPI, and nothing else")
    parser.add_argument("--launch", default="", help="the command that starts an MPI program, before -n, as one string")
    parser.add_argument("--jobs", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--keep", action="store_true", help="leave the folder with the sources and say where it is")
    arguments = parser.parse_args()

    blocks, problems = blocks_of(arguments.page)
    of_mpi_page = any(block.is_mpi for block in blocks)
    left = [b for b in blocks if not b.skip and (b.is_mpi or (of_mpi_page and b.kind != "program")) == bool(arguments.mpi)]
    if not arguments.mpi:
        problems += check_links(arguments.page)
    if arguments.compiler:
        folder = Path(tempfile.mkdtemp(prefix="check_docs_"))
        try:
            compiler = Compiler(arguments.compiler, shlex.split(arguments.flags), shlex.split(arguments.link), folder)
            problems += check_code(left, compiler, shlex.split(arguments.launch), arguments.mpi, arguments.jobs)
        finally:
            if arguments.keep:
                print(f"sources in {folder}")
            else:
                shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    kinds = [block.kind for block in left if block.refused is None]
    print(f"{arguments.page}{' with ' + arguments.mpi if arguments.mpi else ''}: {kinds.count('program')} programs, "
          f"{kinds.count('declarations') + kinds.count('statements')} fragments, {sum(b.refused is not None for b in left)} refused, "
          f"{len(blocks) - len(left)} not tested here; {len(problems)} problem{'s' * (len(problems) != 1)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
