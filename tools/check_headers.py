#!/usr/bin/env python3
"""Compiles the examples in the comments of the headers: what a user copies from there must build.

    check_headers.py ROOT --compiler g++ --flags "..."          those of all headers but mpi/'s
    check_headers.py ROOT --mpi --compiler g++ --flags "..."    those of mpi/, and of mpi.hpp

An example is a paragraph of a comment that is indented by three spaces or more and whose first line ends as code does, in
`;`, `{` or `}`, or begins with `#`. `...` between statements stands for what the reader has there. What defines types or
functions at the left margin is compiled at namespace scope; all else of a header in one function, so that a later example
goes on where an earlier one ended. TAKEN_FOR_GRANTED has the names that examples may use without saying so.
"""

import argparse
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from check_docs import FRAGMENT_WARNINGS, MPI_PRELUDE, PRELUDE, WARNINGS, Block, Compiler

TAKEN_FOR_GRANTED = """\
extern double x;
void step_one();
void step_two();
struct MyType {};
struct ParseError : std::runtime_error { using std::runtime_error::runtime_error; };
"""
MPI_TAKEN_FOR_GRANTED = """\
struct Config { std::string title; };
struct Edge { int from, to; };
struct Job { std::string name; };
struct Header { int version; };
struct Part { double score; };
extern Config config;
extern Part part;
extern double x;
extern int n, rank, right, steps;
extern std::size_t nx, ny, rows, columns;
extern double matrix[4][5];
extern std::string name;
extern std::vector<double> numbers, v, histogram, block, edge, memory, temperature, out;
extern std::vector<int> one_per_rank;
extern mpi::Ragged<Edge> edges;
extern std::map<int, std::vector<Edge>> by_rank;
extern mpi::Cart grid;
extern mpi::Port port;
extern mpi::Intercomm kids;
extern std::optional<mpi::Intercomm> parent;
Config load();
void compute();
double work(int rank);
void update_inner_cells();
void write_results();
void update_border_cells();
"""

INDENTED = re.compile(r"\s*//   (.*)$")
CODE_BEGINS = re.compile(r"^#|[;{}]\s*(//.*)?$")
ELLIPSIS = re.compile(r"(?<![\w.>)])\.\.\.(?=\s|$)")  # no pack expansion


def examples_of(header):
    """The examples of a header, as blocks of check_docs.py."""
    found, lines, start = [], [], 0
    for number, line in enumerate([*header.read_text(encoding="utf-8").splitlines(), ""], 1):
        if match := INDENTED.match(line):
            start = start if lines else number
            lines.append(match.group(1))
            continue
        if lines and CODE_BEGINS.search(lines[0]):
            found.append(Block(str(header), start, ELLIPSIS.sub("", "\n".join(lines)) + "\n", ""))
        lines = []
    return found


def source_of(headers, prelude):
    """One source file with the examples of all headers."""
    includes, globals_, parts, count = [], [], [], 0
    for number, header in enumerate(headers):
        at_namespace_scope, in_function = [], []
        for block in examples_of(header):
            count += 1
            block.text = re.sub(r"^#include.*$", lambda line: includes.append(line.group()) or "", block.text, flags=re.MULTILINE)
            block.text = re.sub(r"^namespace \w+ = manyhands(::mpi)?;$", "", block.text, flags=re.MULTILINE)
            block.text = block.text.replace("int main(", "void program(")
            if block.text.startswith("template <> struct manyhands::"):
                globals_.append(block.code())
            else:
                (in_function if block.kind == "statements" else at_namespace_scope).append(block.code())
        if at_namespace_scope or in_function:
            body = "".join(at_namespace_scope) + ("[[maybe_unused]] void examples() {\n" + "".join(in_function) + "}\n" if in_function else "")
            parts.append(f"namespace header_{number} {{\n{body}}}\n")
    return prelude + "\n".join(dict.fromkeys(includes)) + "\n" + "".join(globals_ + parts), count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--mpi", action="store_true")
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--flags", default="", help="for compiling, as one string")
    arguments = parser.parse_args()

    headers = []
    for header in sorted((arguments.root / "manyhands").rglob("*.hpp")):
        of_mpi = header.parent.name == "mpi" or header.name == "mpi.hpp"
        if of_mpi == arguments.mpi and header.parent.name != "cli":
            headers.append(header)
    prelude = MPI_PRELUDE + MPI_TAKEN_FOR_GRANTED if arguments.mpi else PRELUDE + TAKEN_FOR_GRANTED
    source, count = source_of(headers, prelude)
    folder = Path(tempfile.mkdtemp(prefix="check_headers_"))
    try:
        compiler = Compiler(arguments.compiler, shlex.split(arguments.flags), [], folder)
        done = compiler.run([*compiler.flags, *WARNINGS, *FRAGMENT_WARNINGS, "-fsyntax-only", compiler.source("examples", source)])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(done.stdout, end="")
    print(f"{count} examples in {len(headers)} headers {'compile' if done.returncode == 0 else 'do not all compile'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
