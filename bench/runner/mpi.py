"""`mpi`: ours beside raw C (in one job, by turns), Boost.MPI and mpi4py, on each MPI that was built for."""

from __future__ import annotations

from typing import Callable

from runner.model import Benchmark, Context, Measured, Program, Skipped, Table, Target, parse_side
from runner.processes import SideFailed, run_limited
from runner.raytracer import render

NS, US = 1e-9, 1e-6
LIMIT_SECONDS = 180.0
MPIS = ("openmpi", "mpich")
PEERS_OF = {"openmpi": ("Boost.MPI", "mpi4py"), "mpich": ()}  # Debian builds both for Open MPI only

DOUBLES = ("8 B", "1 KB", "8 KB", "64 KB", "1 MB", "16 MB")
STRUCTS = ("32 B", "8 KB", "64 KB", "1 MB", "16 MB")
OBJECTS = ("64 KB", "1 MB", "16 MB")
COLLECTIVES = ("bcast", "scatter", "gather", "allgather", "alltoall", "reduce", "allreduce", "reduce_scatter", "scan")
PORTS = ("heat", "cg", "histogram", "tickets", "sort", "bfs", "mandelbrot", "files")
FROM_8_KB = ("8 KB", "64 KB", "1 MB", "16 MB")


def job(name: str, mpi: str, ranks: int, program: Callable[[Context], list[str]], rows: tuple[str, ...], rounds: int = 1000) -> Program:
    """An MPI job, started by `manyhands run`; each rank has a core while there are enough."""

    def run(context: Context) -> Measured:
        words = program(context)
        manyhands = context.build / "bin" / "manyhands"
        for path in (manyhands, words[0]):
            if str(path).startswith(str(context.build)) and not manyhands.parent.joinpath(path).exists():
                raise Skipped(f"{path} is not built")
        bind = ["--bind", "core"] if ranks <= 2 else []
        command = [str(manyhands), "run", "--mpi", mpi, "-n", str(ranks), *bind, *words]
        measured = parse_side(run_limited(command, LIMIT_SECONDS).stdout)
        if missing := set(rows) - set(measured.samples):
            raise SideFailed(f"did not report {', '.join(sorted(missing))}")
        return measured

    return Program(name, run, rows, rounds)


def raytracer(mpi: str) -> Program:
    def run(context: Context) -> Measured:
        name = "raytrace" if mpi == MPIS[0] else f"raytrace_{mpi}"
        start = [str(context.build / "bin" / "manyhands"), "run", "--mpi", mpi, "-n", "2", "--bind", "core"]
        return render(context, name, start, ("serial", "mpi"), f"{mpi} ")

    return Program("raytracer", run, rendered(mpi), rounds=3)


def rendered(mpi: str) -> tuple[str, ...]:
    return tuple(f"{mpi} {what}: {on}" for what in ("time", "speedup") for on in ("serial", "mpi"))


def built(name: str, mpi: str, *arguments: str) -> Callable[[Context], list[str]]:
    return lambda context: [str(context.build / "bench" / f"mpi_{name}_{mpi}"), mpi, *arguments]


def python(mpi: str, *arguments: str) -> Callable[[Context], list[str]]:
    return lambda context: [context.python, "-B", str(context.root / "bench" / "mpi" / "peer.py"), mpi, *arguments]


def sides(mpi: str, cases: tuple[str, ...], *names: str) -> tuple[str, ...]:
    return tuple(f"{mpi} {case}: {name}" for case in cases for name in names)


def cases(kind: str, sizes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{kind}, {size}" for size in sizes)


ALL_MESSAGES = (*cases("doubles", DOUBLES), *cases("structs", STRUCTS), *cases("object", OBJECTS), "dict")
ALL_COLLECTIVES = tuple(f"{name}, {size}" for size in ("1 KB", "1 MB") for name in COLLECTIVES)


def programs(mpi: str) -> list[Program]:
    above = (f"{mpi} doubles, 8 B: ours above raw C", f"{mpi} dict: ours above raw C")
    found = [
        job("messages", mpi, 2, built("compare", mpi, "messages"), sides(mpi, ALL_MESSAGES, "raw C", "ours") + above),
        job("collectives", mpi, 4, built("compare", mpi, "collectives"), sides(mpi, ALL_COLLECTIVES, "raw C", "ours")),
        job("ports", mpi, 2, built("ports", mpi), sides(mpi, PORTS, "raw C", "ours")),
        job("pool", mpi, 2, built("pool", mpi), (f"{mpi} task: ours",)),
        raytracer(mpi),
    ]
    if "Boost.MPI" in PEERS_OF[mpi]:
        found.append(job("boost", mpi, 2, built("boost", mpi), sides(mpi, ALL_MESSAGES, "Boost.MPI"), rounds=3))
    if "mpi4py" in PEERS_OF[mpi]:
        rows = sides(mpi, cases("doubles", DOUBLES), "mpi4py Send")
        rows += sides(mpi, (*cases("structs", STRUCTS), *cases("object", OBJECTS), "dict"), "mpi4py send")
        found.append(job("mpi4py", mpi, 2, python(mpi, "messages"), rows, rounds=3))
        found.append(job("mpi4py.futures", mpi, 2, python(mpi, "tasks"), (f"{mpi} task: mpi4py.futures",), rounds=3))
    return found


def table(mpi: str, title: str, of: tuple[str, ...], limits: dict[str, float], peer: str = "", extra: dict[str, Target] | None = None) -> Table:
    names = ["raw C", "ours"] + (["Boost.MPI", peer] if peer and PEERS_OF[mpi] else [])
    rows: list[str] = []
    for case in of:
        rows += [f"{mpi} {case}: {name}" for name in names]
        rows += [row for row in extra or {} if row.startswith(f"{mpi} {case}: ")]
    targets = {f"{mpi} {case}: ours": Target(limit, versus=f"{mpi} {case}: raw C") for case, limit in limits.items()}
    return Table(f"{title} ({mpi})", "s", "", tuple(rows), targets | (extra or {}))


def tables(mpi: str) -> list[Table]:
    small = {f"{mpi} doubles, 8 B: ours above raw C": Target(30 * NS)}
    dict_above = {f"{mpi} dict: ours above raw C": Target(1 * US)}
    tasks = (f"{mpi} task: ours",) + ((f"{mpi} task: mpi4py.futures",) if PEERS_OF[mpi] else ())
    times_ten = {f"{mpi} task: mpi4py.futures": Target(10.0, versus=f"{mpi} task: ours", at_least=True)} if PEERS_OF[mpi] else {}
    return [
        table(mpi, "doubles, half a round trip", cases("doubles", DOUBLES), {f"doubles, {s}": 1.05 for s in FROM_8_KB}, "mpi4py Send", small),
        table(mpi, "plain structs, unregistered", cases("structs", STRUCTS), {f"structs, {s}": 1.1 for s in FROM_8_KB}, "mpi4py send"),
        table(mpi, "an object with strings and nested vectors", cases("object", OBJECTS), {f"object, {s}": 1.5 for s in OBJECTS}, "mpi4py send"),
        table(mpi, "the talk's dict", ("dict",), {}, "mpi4py send", dict_above),
        table(mpi, "collectives, 4 ranks", ALL_COLLECTIVES, {case: 1.05 for case in ALL_COLLECTIVES}),
        table(mpi, "real programs, 2 ranks", PORTS, {case: 1.05 for case in PORTS}),
        Table(f"tasks that do nothing, 2 ranks, time per task ({mpi})", "s", tasks[0], tasks, times_ten),
        Table(f"ray tracer, 240x160, 16 samples, 2 ranks ({mpi})", "s", "", rendered(mpi)[:2]),
        Table(f"ray tracer, speedup over serial ({mpi})", "x", "", rendered(mpi)[3:], {rendered(mpi)[3]: Target(1.9, at_least=True)}),
    ]


MPI = Benchmark(
    "mpi",
    "the MPI layer beside raw C, Boost.MPI and mpi4py",
    tuple(program for mpi in MPIS for program in programs(mpi)),
    tuple(entry for mpi in MPIS for entry in tables(mpi)),
)
