"""The benchmarks: who runs, what is shown, what must be reached."""

from __future__ import annotations


from runner.model import Benchmark, Context, Measured, Program, Table, Target, cpp_peer, ours, python_peer
from runner.mpi import MPI
from runner.processes import run_limited
from runner.raytracer import render

MS, US, MB = 1e-3, 1e-6, 1e6

CREATE = Benchmark(
    "create",
    "Pool{2}: create and destroy",
    (
        ours("create", "ours", "ours, with a task"),
        ours("create_first", "ours, first in program"),
        python_peer("create_multiprocessing", "multiprocessing", "multiprocessing, with a task"),
        python_peer("create_futures", "concurrent.futures, with a task"),
        python_peer("create_loky", "loky, with a task"),
    ),
    (
        Table(
            "create and destroy a pool of 2 processes",
            "s",
            "ours",
            (
                "ours",
                "multiprocessing",
                "ours, first in program",
                "ours, with a task",
                "multiprocessing, with a task",
                "concurrent.futures, with a task",
                "loky, with a task",
            ),
            {"ours": Target(1 * MS)},
        ),
    ),
)

MAP = Benchmark(
    "map",
    "map(x*x, a million doubles), 2 workers",
    (
        ours("map_processes", "ours, processes"),
        ours("map_threads", "ours, threads"),
        cpp_peer("map_serial", "serial C++", "serial C++, array given"),
        cpp_peer("map_openmp", "OpenMP parallel for", "OpenMP parallel for, array given"),
        cpp_peer("map_onetbb", "oneTBB parallel_for", "oneTBB parallel_for, array given"),
        python_peer("map_multiprocessing", "multiprocessing"),
    ),
    (
        Table(
            "x*x of 1e6 doubles, 2 workers",
            "s",
            "ours, processes",
            (
                "ours, processes",
                "ours, threads",
                "serial C++",
                "OpenMP parallel for",
                "oneTBB parallel_for",
                "serial C++, array given",
                "OpenMP parallel for, array given",
                "oneTBB parallel_for, array given",
                "multiprocessing",
            ),
            {"ours, processes": Target(3.0, versus="oneTBB parallel_for")},
        ),
    ),
)

TASKS = Benchmark(
    "tasks",
    "100k tasks that do nothing in flight, then all results",
    (
        ours("tasks_processes", "ours, processes"),
        ours("tasks_threads", "ours, threads"),
        cpp_peer("tasks_onetbb", "oneTBB task_group (no results)"),
        cpp_peer("tasks_async", "std::async"),
        python_peer("tasks_multiprocessing", "multiprocessing"),
        python_peer("tasks_futures", "concurrent.futures, processes"),
        python_peer("tasks_futures_threads", "concurrent.futures, threads"),
    ),
    (
        Table(
            "one of many tasks in flight, 2 workers, time per task",
            "s",
            "ours, processes",
            (
                "ours, processes",
                "ours, threads",
                "oneTBB task_group (no results)",
                "std::async",
                "multiprocessing",
                "concurrent.futures, processes",
                "concurrent.futures, threads",
            ),
            {"ours, processes": Target(1 * US), "ours, threads": Target(0.6 * US)},
        ),
    ),
)

APPLY = Benchmark(
    "apply",
    "one call on a worker that sleeps, and on one that still spins",
    (
        ours(
            "apply",
            "waiting: ours",
            "waiting: ours, two workers",
            "waiting: futex there and back",
            "waiting: futex there and back, two cores",
            "spinning: ours",
            "spinning: ours, two workers",
            "spinning: futex there and back",
        ),
        python_peer("apply_multiprocessing", "waiting: multiprocessing", "spinning: multiprocessing"),
        python_peer("apply_futures", "waiting: concurrent.futures", "spinning: concurrent.futures"),
    ),
    (
        Table(
            "one call, 2 ms after the last (the worker sleeps)",
            "s",
            "waiting: ours",
            (
                "waiting: ours",
                "waiting: ours, two workers",
                "waiting: futex there and back",
                "waiting: futex there and back, two cores",
                "waiting: multiprocessing",
                "waiting: concurrent.futures",
            ),
            {"waiting: ours": Target(1.5, versus="waiting: futex there and back")},
        ),
        Table(
            "one call, right after the last (our worker spins)",
            "s",
            "spinning: ours",
            (
                "spinning: ours",
                "spinning: ours, two workers",
                "spinning: futex there and back",
                "spinning: multiprocessing",
                "spinning: concurrent.futures",
            ),
            {"spinning: ours": Target(2 * US)},
        ),
    ),
)

BYTES = Benchmark(
    "bytes",
    "100 MB of doubles to a worker and back",
    (
        ours("bytes", "ours"),
        cpp_peer("bytes_memcpy", "two copies on one core"),
        python_peer("bytes_multiprocessing", "multiprocessing (numpy)", rounds=3),
        python_peer("bytes_loky", "loky (numpy)", rounds=3),
        python_peer("bytes_joblib", "joblib.Parallel (numpy)", rounds=3),
    ),
    (
        Table(
            "100 MB of doubles to a worker and back",
            "s",
            "ours",
            ("ours", "two copies on one core", "multiprocessing (numpy)", "loky (numpy)", "joblib.Parallel (numpy)"),
            {"ours": Target(80 * MS)},
        ),
    ),
)


def death_table(signal: str) -> Table:
    return Table(
        f"a task dies by {signal}: time until its caller has the error",
        "s",
        f"{signal}: ours",
        (f"{signal}: ours", f"{signal}: concurrent.futures (pool is broken)", f"{signal}: multiprocessing"),
        {f"{signal}: ours": Target(5 * MS)},
    )


DEATH = Benchmark(
    "death",
    "a worker killed by SIGKILL or SIGSEGV: time until the error in the caller",
    (
        ours("death", "SIGKILL: ours", "SIGSEGV: ours"),
        python_peer(
            "death_futures",
            "SIGKILL: concurrent.futures (pool is broken)",
            "SIGSEGV: concurrent.futures (pool is broken)",
        ),
        python_peer("death_multiprocessing", "SIGKILL: multiprocessing", "SIGSEGV: multiprocessing", rounds=1),
    ),
    (death_table("SIGKILL"), death_table("SIGSEGV")),
)

RAYTRACE_ROWS = tuple(f"{what}: {on}" for what in ("time", "speedup") for on in ("serial", "threads", "processes"))


def raytrace(context: Context) -> Measured:
    return render(context, "raytrace", [], ("serial", "threads", "processes"))


RAYTRACE = Benchmark(
    "raytrace",
    "the ray tracer example with 2 workers",
    (Program("raytrace", raytrace, RAYTRACE_ROWS, rounds=3),),
    (
        Table("render time, 240x160, 16 samples, 2 workers", "s", "time: processes", RAYTRACE_ROWS[:3]),
        Table(
            "speedup over serial",
            "x",
            "",
            RAYTRACE_ROWS[4:],
            {row: Target(1.9, at_least=True) for row in RAYTRACE_ROWS[4:]},
        ),
    ),
)


def compilation(name: str, row: str, *more_rows: str) -> Program:
    """Compiles bench/compile/NAME.cpp, without linking; the launcher ccache is not used."""

    def run(context: Context) -> Measured:
        source = context.root / "bench" / "compile" / f"{name}.cpp"
        command = [context.compiler, "-O2", "-std=c++20", f"-I{context.root}", "-c", str(source), "-o", "/dev/null"]
        finished = run_limited(command, 120.0)
        measured = Measured({row: [finished.seconds]})
        for cpu_row in more_rows:
            measured.samples[cpu_row] = [finished.cpu_seconds]
        return measured

    return Program(name, run, (row, *more_rows))


COMPILE = Benchmark(
    "compile",
    "compiling a program of 10 lines",
    (
        compilation("ours", "<manyhands/multicore.hpp>", "<manyhands/multicore.hpp>, CPU time"),
        compilation("onetbb", "oneTBB"),
        compilation("std_async", "<future>"),
    ),
    (
        Table(
            "g++ -O2 -std=c++20 -c of a program of 10 lines",
            "s",
            "<manyhands/multicore.hpp>",
            ("<manyhands/multicore.hpp>", "<manyhands/multicore.hpp>, CPU time", "oneTBB", "<future>"),
            {"<manyhands/multicore.hpp>": Target(3.0)},
        ),
    ),
)

MEMORY = Benchmark(
    "memory",
    "memory of an idle worker, and of an endless stream",
    (
        ours("idle_worker", "worker: ours", "worker: ours, private pages only"),
        ours("endless_stream", "stream: ours, 100k items", "stream: ours, the next 900k", rounds=3),
        python_peer("idle_multiprocessing", "worker: multiprocessing"),
        python_peer("idle_loky", "worker: loky", rounds=3),
        python_peer("stream_multiprocessing", "stream: multiprocessing, 100k items", rounds=3),
    ),
    (
        Table(
            "an idle worker after a small map (PSS: shared pages count in part)",
            "B",
            "worker: ours",
            ("worker: ours", "worker: ours, private pages only", "worker: multiprocessing", "worker: loky"),
            {"worker: ours": Target(5 * MB)},
        ),
        Table(
            "growth of the parent's peak while so many items come out of imap",
            "B",
            "",
            ("stream: ours, 100k items", "stream: ours, the next 900k", "stream: multiprocessing, 100k items"),
            {"stream: ours, the next 900k": Target(1 * MB)},
        ),
    ),
)

LOCKS = Benchmark(
    "locks",
    "locks between processes: free, fought for, and abandoned",
    (
        ours(
            "locks",
            "free: ours",
            "free: pthread mutex, shared",
            "free: pthread mutex, robust",
            "two: ours",
            "two: pthread mutex, shared",
            "two: pthread mutex, robust",
            "owner killed: ours",
        ),
        python_peer("locks_multiprocessing", "free: multiprocessing.Lock", "two: multiprocessing.Lock"),
    ),
    (
        Table(
            "lock and unlock, nobody else there",
            "s",
            "free: ours",
            ("free: ours", "free: pthread mutex, shared", "free: pthread mutex, robust", "free: multiprocessing.Lock"),
            {"free: ours": Target(10e-9)},
        ),
        Table(
            "lock, increment, unlock: two processes at once, time per increment",
            "s",
            "two: ours",
            ("two: ours", "two: pthread mutex, shared", "two: pthread mutex, robust", "two: multiprocessing.Lock"),
            {"two: ours": Target(60e-9)},
        ),
        Table(
            "the owner of a lock is killed: time until the next taker is told (multiprocessing hangs)",
            "s",
            "",
            ("owner killed: ours",),
            {"owner killed: ours": Target(100 * MS)},
        ),
    ),
)

ARRAY = Benchmark(
    "array",
    "an Array that is shared already: to a task and back, and as the items and results of a map",
    (ours("array", "ours", "map_into: ours"), cpp_peer("map_onetbb", "oneTBB parallel_for", "oneTBB parallel_for, array given")),
    (
        Table("100 MB of doubles to a task, which changes one, and back", "s", "", ("ours",), {"ours": Target(0.1 * MS)}),
        Table(
            "x*x of 1e6 doubles from Array to Array, 2 workers",
            "s",
            "map_into: ours",
            ("map_into: ours", "oneTBB parallel_for, array given"),
        ),
    ),
)

QUEUE = Benchmark(
    "queue",
    "a queue of small values between two processes",
    (
        ours("queue", "through: ours", "there and back: ours"),
        ours("apply", "waiting: futex there and back", "spinning: futex there and back"),
        python_peer("queue_multiprocessing", "through: multiprocessing.Queue", "there and back: multiprocessing.Queue"),
    ),
    (
        Table(
            "one of many values, time per value",
            "s",
            "through: ours",
            ("through: ours", "through: multiprocessing.Queue"),
            {"through: ours": Target(1 * US), "through: multiprocessing.Queue": Target(20.0, versus="through: ours", at_least=True)},
        ),
        Table(
            "a value there, and its echo back",
            "s",
            "there and back: ours",
            ("there and back: ours", "spinning: futex there and back", "there and back: multiprocessing.Queue"),
            {"there and back: ours": Target(2.0, versus="spinning: futex there and back")},
        ),
    ),
)

EXPLORE = Benchmark(
    "explore",
    "mh::explore, exhaustive",
    (ours("explore", "the race of the talk", "two times five increments"),),
    (
        Table(
            "all schedules",
            "s",
            "",
            ("the race of the talk", "two times five increments"),
            {"the race of the talk": Target(1 * MS), "two times five increments": Target(1.0)},
        ),
    ),
)

BENCHMARKS = {
    b.name: b
    for b in (CREATE, MAP, TASKS, APPLY, BYTES, DEATH, LOCKS, ARRAY, QUEUE, EXPLORE, MPI, RAYTRACE, COMPILE, MEMORY)
}
