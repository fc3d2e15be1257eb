"""The Python peers' sides: multiprocessing, concurrent.futures, joblib with its executor loky.

usage: python_peers.py NAME [REPEATS]

Pools are made with the start method that is the default (fork on Linux, up to Python 3.13), as most programs do.
"""

from __future__ import annotations

import concurrent.futures
import mmap
import multiprocessing
import multiprocessing.pool
import os
import signal
import struct
import sys
import time
from typing import Any, Callable

from sides import (ARRAY_ITEMS, MAP_ITEMS, WORKERS, pss_bytes, repeated, report, report_text, require,
                   resident_peak_bytes, seconds_of)

# ---- Tasks.


def nothing() -> None:
    pass


def square(x: float) -> float:
    return x * x


def half(x: int) -> float:
    return 0.5 * x


def same(value: Any) -> Any:
    return value


died_at = mmap.mmap(-1, 8)  # shared with forked workers: when the last task died, in ns of CLOCK_MONOTONIC


def die(signal_number: int) -> None:
    died_at[:8] = struct.pack("q", time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    os.kill(os.getpid(), signal_number)


# ---- create


def create_multiprocessing(repeats: int) -> None:
    def create_and_join(use: bool) -> None:
        pool = multiprocessing.Pool(WORKERS)
        if use:
            pool.apply(nothing)
        pool.close()
        pool.join()

    report("multiprocessing", repeated(repeats, lambda: create_and_join(False)))
    report("multiprocessing, with a task", repeated(repeats, lambda: create_and_join(True)))


def create_futures(repeats: int) -> None:
    def create_use_shutdown() -> None:
        with concurrent.futures.ProcessPoolExecutor(WORKERS) as executor:
            executor.submit(nothing).result()

    report("concurrent.futures, with a task", repeated(repeats, create_use_shutdown))


def create_loky(repeats: int) -> None:
    from joblib.externals.loky import ProcessPoolExecutor

    def create_use_shutdown() -> None:
        with ProcessPoolExecutor(WORKERS) as executor:
            executor.submit(nothing).result()

    report("loky, with a task", repeated(repeats, create_use_shutdown))


# ---- map


def map_multiprocessing(repeats: int) -> None:
    items = [float(i) for i in range(MAP_ITEMS)]
    with multiprocessing.Pool(WORKERS) as pool:
        require(pool.map(square, items) == [x * x for x in items], "the squares")
        report("multiprocessing", repeated(repeats, lambda: pool.map(square, items)))


# ---- tasks


def per_task(samples: list[float], tasks: int) -> list[float]:
    return [seconds / tasks for seconds in samples]


def tasks_multiprocessing(repeats: int) -> None:
    tasks = 20_000
    with multiprocessing.Pool(WORKERS) as pool:

        def submit_and_get() -> Any:
            results = [pool.apply_async(nothing) for _ in range(tasks)]
            for result in results:
                result.get()
            return results

        report("multiprocessing", per_task(repeated(repeats, submit_and_get), tasks))


def tasks_on_futures(executor: concurrent.futures.Executor, row: str, tasks: int, repeats: int) -> None:
    def submit_and_get() -> Any:
        futures = [executor.submit(nothing) for _ in range(tasks)]
        for future in futures:
            future.result()
        return futures

    with executor:
        report(row, per_task(repeated(repeats, submit_and_get), tasks))


def tasks_futures(repeats: int) -> None:
    executor = concurrent.futures.ProcessPoolExecutor(WORKERS)
    tasks_on_futures(executor, "concurrent.futures, processes", 5_000, repeats)


def tasks_futures_threads(repeats: int) -> None:
    executor = concurrent.futures.ThreadPoolExecutor(WORKERS)
    tasks_on_futures(executor, "concurrent.futures, threads", 20_000, repeats)


# ---- apply


def waiting_and_back_to_back(peer: str, call: Callable[[], Any], repeats: int) -> None:
    for _ in range(10):
        call()
    samples = []
    for _ in range(repeats):
        time.sleep(0.002)
        samples.append(seconds_of(call))
    report(f"waiting: {peer}", samples)
    report(f"spinning: {peer}", repeated(repeats * 5, call))


def apply_multiprocessing(repeats: int) -> None:
    with multiprocessing.Pool(1) as pool:
        waiting_and_back_to_back("multiprocessing", lambda: pool.apply(same, (1,)), repeats)


def apply_futures(repeats: int) -> None:
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        waiting_and_back_to_back("concurrent.futures", lambda: executor.submit(same, 1).result(), repeats)


# ---- bytes


def bytes_through(row: str, call: Callable[[Any], Any], repeats: int) -> None:
    import numpy

    array = numpy.arange(ARRAY_ITEMS, dtype=numpy.float64)
    require(bool((call(array) == array).all()), "the array that came back")
    report(row, repeated(repeats, lambda: call(array)))


def bytes_multiprocessing(repeats: int) -> None:
    with multiprocessing.Pool(WORKERS) as pool:
        bytes_through("multiprocessing (numpy)", lambda array: pool.apply(same, (array,)), repeats)


def bytes_loky(repeats: int) -> None:
    from joblib.externals.loky import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        bytes_through("loky (numpy)", lambda array: executor.submit(same, array).result(), repeats)


def bytes_joblib(repeats: int) -> None:
    import joblib

    with joblib.Parallel(n_jobs=WORKERS) as parallel:
        bytes_through("joblib.Parallel (numpy)", lambda array: parallel([joblib.delayed(same)(array)])[0], repeats)


# ---- death


def death_futures(repeats: int) -> None:
    for name in ("SIGKILL", "SIGSEGV"):
        samples = []
        for _ in range(repeats):
            with concurrent.futures.ProcessPoolExecutor(WORKERS) as executor:  # a new one each: it is broken afterwards
                executor.submit(nothing).result()
                try:
                    executor.submit(die, getattr(signal, name)).result()
                    require(False, "a task that killed its worker returned")
                except concurrent.futures.process.BrokenProcessPool:
                    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                    samples.append((now - struct.unpack("q", died_at[:8])[0]) * 1e-9)
        report(f"{name}: concurrent.futures (pool is broken)", samples)


def death_multiprocessing(_: int) -> None:
    patience_seconds = 2.0
    for name in ("SIGKILL", "SIGSEGV"):
        with multiprocessing.Pool(WORKERS) as pool:
            result = pool.apply_async(die, (getattr(signal, name),))
            try:
                result.get(patience_seconds)
                require(False, "a task that killed its worker returned")
            except multiprocessing.TimeoutError:
                report_text(f"{name}: multiprocessing", f"hangs (gave up after {patience_seconds:.0f} s)")


# ---- locks


def locks_multiprocessing(repeats: int) -> None:
    lock = multiprocessing.Lock()
    count = 100_000

    def lock_and_unlock() -> None:
        for _ in range(count):
            lock.acquire()
            lock.release()

    report("free: multiprocessing.Lock", [seconds / count for seconds in repeated(repeats, lock_and_unlock)])
    counter = multiprocessing.Value("q", 0)

    def increment() -> None:
        for _ in range(count):
            with counter.get_lock():
                counter.value += 1

    def two() -> None:
        other = multiprocessing.Process(target=increment)
        other.start()
        increment()
        other.join()

    report("two: multiprocessing.Lock", [seconds / (2 * count) for seconds in repeated(repeats, two)])


# ---- queue


def queue_multiprocessing(repeats: int) -> None:
    values, trips = 50_000, 2_000

    def produce(queue: Any) -> None:
        for i in range(values):
            queue.put(i)

    samples = []
    for _ in range(repeats):
        queue: Any = multiprocessing.Queue()
        producer = multiprocessing.Process(target=produce, args=(queue,))
        producer.start()
        queue.get()
        start = time.monotonic()
        for _ in range(values - 1):
            queue.get()
        samples.append((time.monotonic() - start) / (values - 1))
        producer.join()
    report("through: multiprocessing.Queue", samples)

    there, back = multiprocessing.Queue(), multiprocessing.Queue()

    def echo() -> None:
        while (value := there.get()) is not None:
            back.put(value)

    other = multiprocessing.Process(target=echo)
    other.start()

    def round_trips() -> None:
        for i in range(trips):
            there.put(i)
            require(back.get() == i, "the echo")

    report("there and back: multiprocessing.Queue", [seconds / trips for seconds in repeated(repeats, round_trips)])
    there.put(None)
    other.join()


# ---- memory


def idle_multiprocessing(_: int) -> None:
    with multiprocessing.Pool(WORKERS) as pool:
        pool.map(half, range(1000))
        report("worker: multiprocessing", [pss_bytes(child.pid) for child in multiprocessing.active_children()])


def idle_loky(_: int) -> None:
    from joblib.externals.loky import ProcessPoolExecutor

    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(half, range(1000), chunksize=100))
        report("worker: loky", [pss_bytes(pid) for pid in executor._processes])


def stream_multiprocessing(_: int) -> None:
    def growth(stream: Any, items: int) -> float:
        before = resident_peak_bytes()
        for _, _ in zip(range(items), stream):
            pass
        return resident_peak_bytes() - before

    with multiprocessing.Pool(WORKERS) as pool:
        stream = pool.imap(half, range(120_000))  # it has no bound for what waits, so the input must end
        growth(stream, 10_000)
        report("stream: multiprocessing, 100k items", [growth(stream, 100_000)])


SIDES: dict[str, tuple[Callable[[int], None], int]] = {
    "create_multiprocessing": (create_multiprocessing, 5),
    "create_futures": (create_futures, 5),
    "create_loky": (create_loky, 1),
    "map_multiprocessing": (map_multiprocessing, 2),
    "tasks_multiprocessing": (tasks_multiprocessing, 1),
    "tasks_futures": (tasks_futures, 1),
    "tasks_futures_threads": (tasks_futures_threads, 1),
    "apply_multiprocessing": (apply_multiprocessing, 100),
    "apply_futures": (apply_futures, 100),
    "bytes_multiprocessing": (bytes_multiprocessing, 1),
    "bytes_loky": (bytes_loky, 1),
    "bytes_joblib": (bytes_joblib, 1),
    "death_futures": (death_futures, 3),
    "death_multiprocessing": (death_multiprocessing, 1),
    "locks_multiprocessing": (locks_multiprocessing, 3),
    "queue_multiprocessing": (queue_multiprocessing, 2),
    "idle_multiprocessing": (idle_multiprocessing, 1),
    "idle_loky": (idle_loky, 1),
    "stream_multiprocessing": (stream_multiprocessing, 1),
}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in SIDES:
        sys.exit(f"usage: python_peers.py NAME [REPEATS]\nnames: {' '.join(SIDES)}")
    run, repeats = SIDES[name]
    run(int(sys.argv[2]) if len(sys.argv) > 2 else repeats)
