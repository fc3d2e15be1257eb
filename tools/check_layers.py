#!/usr/bin/env python3
"""Checks that a folder of manyhands/ includes only folders below it (docs/architecture.md shows the order).

usage: check_layers.py [ROOT]; exit status 1 and one line per wrong include, 0 if there is none.
"""
import pathlib
import re
import sys

# folder -> the folders it may include besides itself; what those may include is allowed too.
DIRECT = {
    "base": [],
    "wire": ["base"],
    "task": ["wire"],
    "shm": ["base"],
    "net": ["wire"],
    "threads": ["task"],
    "process": ["task", "shm", "net"],
    "explore": ["process"],
    "mpi": ["task"],
    "cluster": ["task", "net", "process"],
    "interp": ["cluster"],
    "cli": ["mpi", "interp", "threads", "explore"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]manyhands/([^/">]+)/')


def closure(folder):
    seen, todo = set(), [folder]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += DIRECT[current]
    return seen


def violations(root):
    for path in sorted((root / "manyhands").rglob("*")):
        if path.suffix not in (".hpp", ".cpp"):
            continue
        parts = path.relative_to(root / "manyhands").parts
        if len(parts) == 1:  # multicore.hpp and its like: the users' headers, above every folder
            continue
        if parts[0] not in DIRECT:
            yield f"{path}: folder '{parts[0]}' is not in the list of layers (tools/check_layers.py)"
            continue
        allowed = closure(parts[0])
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match.group(1) not in allowed:
                yield f"{path}:{number}: {parts[0]}/ may not include {match.group(1)}/ (only {', '.join(sorted(allowed))})"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    found = list(violations(root))
    print("\n".join(found) if found else "layers: every include goes downward")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
