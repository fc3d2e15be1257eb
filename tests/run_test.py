#!/usr/bin/env python3
"""Runs real MPI jobs by `manyhands run`: output, exit status, faults, and that nothing of a job outlives it.

usage: run_test.py MANYHANDS MPICC...      (for example mpicc.openmpi mpicc.mpich; those that are missing are passed over)
"""
import inspect
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

PROGRAM = r"""
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
static int dies_in_init = 0;
int unlink(const char* path) {  // in front of the C library's, also for the MPI library
  if (dies_in_init && strstr(path, "mpich_shar_tmp")) { printf("%s\n", path); fflush(stdout); raise(SIGKILL); }
  return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
static int rank_before_init(void) {
  const char* rank = getenv("PMI_RANK") ? getenv("PMI_RANK") : getenv("OMPI_COMM_WORLD_RANK");
  return rank ? atoi(rank) : 0;
}
static int is(const char* a, const char* b) { return strcmp(a, b) == 0; }
int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "hello";
  int rank, size, number = argc > 2 ? atoi(argv[2]) : 0;
  if (is(what, "absent") && rank_before_init() == 1) { nanosleep(&(struct timespec){0, number * 1000000}, NULL); return 0; }
  dies_in_init = is(what, "cut");
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int last = rank == size - 1;
  if (is(what, "raise") || is(what, "leave")) {  // a rank that goes while others connect makes their MPI fail, too
    int* out = calloc(2 * size, sizeof(int));
    MPI_Alltoall(out, 1, MPI_INT, out + size, 1, MPI_INT, MPI_COMM_WORLD);
    free(out);
  }
  if (is(what, "hello")) printf("hello from %d of %d\n", rank, size);
  if (is(what, "lines"))
    for (int i = 0; i < number; ++i) {
      printf("%d begins %d", rank, i); fflush(stdout);
      printf(", %d ends\n", rank); fflush(stdout);
    }
  if (is(what, "big")) { for (int i = 0; i < number; ++i) putchar('a' + rank); putchar('\n'); }
  if (is(what, "slow")) {
    for (int i = 0; i < 3000; ++i) putchar('a' + rank);
    fflush(stdout);
    nanosleep(&(struct timespec){0, 400000000}, NULL);  // as if the machine were busy
    printf("%d\n", rank);
  }
  if (is(what, "blank")) printf("a\n\n\nb\n");
  if (is(what, "prompt")) { printf("no newline"); fflush(stdout); fprintf(stderr, "on stderr\n"); }
  if (is(what, "input")) { char line[64]; if (rank == 0 && fgets(line, sizeof line, stdin)) printf("got %s", line); }
  if (is(what, "count")) { int n = 0; while (getchar() != EOF) ++n; printf("%d of %d\n", n, rank); }
  if (is(what, "variable")) printf("%s\n", getenv("GREETING") ? getenv("GREETING") : "unset");
  if (is(what, "raise")) { if (last) { signal(number, SIG_DFL); raise(number); } MPI_Barrier(MPI_COMM_WORLD); }
  if (is(what, "abort")) { if (last) MPI_Abort(MPI_COMM_WORLD, number); MPI_Barrier(MPI_COMM_WORLD); }
  if (is(what, "leave")) { if (last) _exit(number); MPI_Barrier(MPI_COMM_WORLD); }
  if (is(what, "wrong")) { if (last) MPI_Send(&rank, 1, MPI_INT, 99, 0, MPI_COMM_WORLD); MPI_Barrier(MPI_COMM_WORLD); }
  if (is(what, "steps")) for (int i = 0; i < number; ++i) { int s; MPI_Allreduce(&rank, &s, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD); }
  if (is(what, "window")) {  // over memory of one's own, and one to which memory is attached
    int *mine = calloc(1, sizeof(int)), *attached = calloc(1, sizeof(int));  // MPICH 4.0 writes past windows on the stack
    MPI_Aint place, at[16];
    MPI_Win over, dynamic;
    MPI_Win_create(mine, sizeof(int), sizeof(int), MPI_INFO_NULL, MPI_COMM_WORLD, &over);
    MPI_Win_fence(0, over);
    MPI_Put(&rank, 1, MPI_INT, (rank + 1) % size, 0, 1, MPI_INT, over);
    MPI_Win_fence(0, over);
    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &dynamic);
    MPI_Win_attach(dynamic, attached, sizeof(int));
    MPI_Get_address(attached, &place);
    MPI_Allgather(&place, 1, MPI_AINT, at, 1, MPI_AINT, MPI_COMM_WORLD);
    MPI_Win_fence(0, dynamic);
    MPI_Accumulate(&rank, 1, MPI_INT, (rank + 1) % size, at[(rank + 1) % size], 1, MPI_INT, MPI_SUM, dynamic);
    MPI_Win_fence(0, dynamic);
    printf("%d got %d and %d\n", rank, *mine, *attached);
    MPI_Win_detach(dynamic, attached);
    MPI_Win_free(&dynamic);
    MPI_Win_free(&over);
  }
  if (is(what, "exit")) { if (last) exit(number); MPI_Barrier(MPI_COMM_WORLD); }
  if (is(what, "spawn")) {
    char* words[] = {"spawned", argv[2], NULL};
    MPI_Comm child;
    MPI_Comm_spawn(argv[0], words, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &child, MPI_ERRCODES_IGNORE);
    MPI_Barrier(child);
    MPI_Recv(&rank, 1, MPI_INT, 0, 0, child, MPI_STATUS_IGNORE);
  }
  if (is(what, "spawned")) {
    MPI_Comm parent;
    MPI_Comm_get_parent(&parent);
    printf("%s\n", getenv("OMPI_MCA_ess_base_jobid")); fflush(stdout);
    MPI_Barrier(parent);
    if (number < 64) raise(number); else _exit(number);
  }
  if (is(what, "stay")) { printf("%d\n", getpid()); fflush(stdout); MPI_Barrier(MPI_COMM_WORLD); for (;;) pause(); }
  if (is(what, "stubborn")) {
    signal(SIGTERM, SIG_IGN); signal(SIGINT, SIG_IGN); signal(SIGHUP, SIG_IGN);
    if (fork() == 0) { setsid(); printf("%d\n", getpid()); fflush(stdout); for (;;) pause(); }
    printf("%d\n", getpid()); fflush(stdout);
    for (;;) pause();
  }
  MPI_Finalize();
  return is(what, "return") && last ? number : 0;
}
"""

BOXES = ("MPI_ABORT was invoked", "BAD TERMINATION", "Primary job", "exited on signal", "-----")


class Failed(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failed(what)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Jobs:
    """`manyhands run` with one program of one MPI."""

    def __init__(self, manyhands, program):
        self.manyhands, self.program = manyhands, program

    def command(self, *options, arguments=()):
        return [self.manyhands, "run", *options, self.program, *arguments]

    def run(self, *options, arguments=(), **more):
        return subprocess.run(self.command(*options, arguments=arguments), capture_output=True, text=True, timeout=60, **more)

    def start(self, ranks, what, lines):
        """A job that stays; returns it and the pids that it printed."""
        job = subprocess.Popen(self.command("-n", str(ranks), arguments=[what]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return job, [int(job.stdout.readline()) for _ in range(lines)]


PATIENCE = 20.0  # seconds, for what takes one or two unless the machine is busy with other things


def all_gone(pids):
    start = time.monotonic()
    while any(map(is_alive, pids)):
        if time.monotonic() - start > PATIENCE:
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.01)
    return True


def one_message(result, *words):
    ours = [line for line in result.stderr.splitlines() if line.startswith("manyhands run: ")]
    check(len(ours) == 1, f"expected one message: {result.stderr!r}")
    check(all(word in ours[0] for word in words), f"expected {words} in {ours[0]!r}")
    check(not any(box in result.stderr + result.stdout for box in BOXES), f"the launcher's own texts: {result.stderr!r} {result.stdout!r}")


def test_every_rank_runs(jobs):
    for ranks in (1, 2, 3, 7):
        result = jobs.run("-n", str(ranks))
        check(result.returncode == 0 and result.stderr == "", f"{result}")
        check(sorted(result.stdout.splitlines()) == [f"hello from {r} of {ranks}" for r in range(ranks)], f"{result}")


def test_lines_stay_whole_and_are_tagged(jobs):
    result = jobs.run("-n", "4", "--tag-output", arguments=["lines", "200"])
    for rank in range(4):
        mine = [line for line in result.stdout.splitlines() if line.startswith(f"[{rank}]")]
        check(mine == [f"[{rank}] {rank} begins {i}, {rank} ends" for i in range(200)], f"rank {rank}: {mine[:5]}")
    check(len(result.stdout.splitlines()) == 800, "other lines")


def test_bytes_of_a_line_of_any_length_are_unchanged(jobs):
    result = jobs.run("-n", "1", arguments=["big", "5000000"])
    check(result.stdout == "a" * 5000000 + "\n", f"{len(result.stdout)} bytes")


def test_long_lines_stay_whole(jobs):
    result = jobs.run("-n", "3", arguments=["big", "300000"])
    check(sorted(result.stdout.splitlines()) == [c * 300000 for c in "abc"], "a line was cut")


def test_a_long_line_that_comes_in_parts_stays_whole(jobs):
    result = jobs.run("-n", "3", arguments=["slow"])
    check(sorted(result.stdout.splitlines()) == [c * 3000 + str(rank) for rank, c in enumerate("abc")], "a line was cut")


def test_the_end_of_output_without_a_newline_is_not_lost(jobs):
    result = jobs.run("-n", "1", arguments=["prompt"])
    check(result.stdout == "no newline" and result.stderr == "on stderr\n", f"{result}")


def test_standard_input_goes_to_rank_0(jobs):
    check(jobs.run("-n", "2", arguments=["input"], input="a word\n").stdout == "got a word\n", "")


def test_much_standard_input_goes_to_rank_0_or_is_left_alone(jobs):
    much = "x" * 3_000_000
    check(jobs.run("-n", "2", arguments=["count"], input=much).stdout.splitlines()[-1:] in (["3000000 of 0"], ["0 of 1"]), "by a pipe")
    check(jobs.run("-n", "2", arguments=["hello"], input=much).returncode == 0, "that nobody reads")
    with tempfile.TemporaryFile("w+") as file:
        file.write(much)
        file.seek(0)
        check("3000000 of 0" in jobs.run("-n", "2", arguments=["count"], stdin=file).stdout, "from a file")


def test_a_loop_of_the_shell_keeps_the_input_that_rank_0_does_not_read(jobs):
    loop = 'while read -r word; do "$@"; echo "$word"; done'
    result = subprocess.run(["bash", "-c", loop, "bash", *jobs.command("-n", "2", arguments=["variable"])], input="one\ntwo\nthree\n",
                            capture_output=True, text=True, timeout=60)
    check(result.stdout.replace("unset\n", "") == "one\ntwo\nthree\n", f"{result}")


def test_the_ranks_that_read_standard_input_can_be_chosen(jobs):
    for choice, counts in ("none", (0, 0, 0)), ("first", (200_000, 0, 0)), ("all", (200_000, 200_000, 200_000)):
        result = jobs.run("-n", "3", "--stdin", choice, arguments=["count"], input="x" * 200_000)
        check(sorted(result.stdout.splitlines()) == sorted(f"{n} of {r}" for r, n in enumerate(counts)), f"{choice}: {result}")


def test_rank_0_reads_from_a_terminal(jobs):
    ends = os.openpty()
    foreground = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with os.fdopen(ends[0], "wb", buffering=0) as keyboard, os.fdopen(ends[1], "rb") as terminal:
        job = subprocess.Popen([sys.executable, "-c", foreground, *jobs.command("-n", "2", arguments=["input"])], stdin=terminal,
                               stdout=subprocess.PIPE, text=True, start_new_session=True)
        keyboard.write(b"a word\n")
        said, _ = job.communicate(timeout=60)
    check(said == "got a word\n" and job.returncode == 0, f"{said!r} {job.returncode}")


def test_the_other_ranks_read_the_end_of_input(jobs):
    result = jobs.run("-n", "3", arguments=["count"], input="abc")
    check(sorted(result.stdout.splitlines()) == ["0 of 1", "0 of 2", "3 of 0"], f"{result}")


def test_descriptors_may_be_closed(jobs):
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        result = subprocess.run(["bash", "-c", f'exec "$@" {closed}', "bash", *jobs.command("-n", "2", arguments=["count"])],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        wanted = [] if ">&-" in closed.replace("2>&-", "") else ["0 of 0", "0 of 1"]
        check(result.returncode == 0 and sorted(result.stdout.splitlines()) == wanted and not result.stderr, f"{closed}: {result}")


def test_sigchld_may_be_ignored(jobs):
    for arguments, status in (["hello"], 0), (["return", "3"], 3):
        result = jobs.run("-n", "2", arguments=arguments, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        check(result.returncode == status, f"{result}")


def test_a_job_in_the_background_of_a_terminal_is_not_stopped(jobs):
    ends = os.openpty()
    shell = "import os, sys, subprocess; os.close(os.open(os.ttyname(0), os.O_RDWR)); " \
            "sys.exit(subprocess.run(sys.argv[1:], process_group=0, timeout=20).returncode)"
    with os.fdopen(ends[0], "rb"), os.fdopen(ends[1], "rb") as terminal:
        result = subprocess.run([sys.executable, "-c", shell, *jobs.command("-n", "2")], stdin=terminal, capture_output=True, text=True,
                                start_new_session=True, timeout=30)
    check(result.returncode == 0 and len(result.stdout.splitlines()) == 2, f"{result}")


def test_a_job_in_the_background_may_write_to_the_terminal(jobs):
    ends = os.openpty()
    mode = termios.tcgetattr(ends[1])
    mode[3] |= termios.TOSTOP
    termios.tcsetattr(ends[1], termios.TCSANOW, mode)
    shell = "import fcntl, os, sys, subprocess, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " \
            "sys.exit(subprocess.run(sys.argv[1:], process_group=0, timeout=20).returncode)"
    with os.fdopen(ends[0], "rb"), os.fdopen(ends[1], "rb") as terminal:
        result = subprocess.run([sys.executable, "-c", shell, *jobs.command("-n", "2")], stdin=terminal, stdout=terminal, stderr=terminal,
                                start_new_session=True, timeout=60)
    check(result.returncode == 0, f"{result}")


def test_variables_are_set(jobs):
    check(jobs.run("-n", "1", "-x", "GREETING=good day", arguments=["variable"]).stdout == "good day\n", "-x NAME=VALUE")
    inherited = os.environ | {"GREETING": "hi"}
    check(jobs.run("-n", "1", "--env", "GREETING", arguments=["variable"], env=inherited).stdout == "hi\n", "--env NAME")


def test_a_user_s_variable_is_not_overridden(jobs):
    result = jobs.run("-n", "7", "--dry-run", env=os.environ | {"OMPI_MCA_mpi_yield_when_idle": "0"})
    check("mpi_yield_when_idle" not in result.stdout and result.returncode == 0, f"{result}")


def test_dry_run_prints_the_command(jobs):
    result = jobs.run("-n", "5", "--dry-run", arguments=["two words"])
    check(re.search(r"mpiexec\S* -n 5 .*'two words'$", result.stdout.strip()), f"{result}")


def test_more_ranks_than_cores_are_bearable(jobs):
    # Ranks that do not give way to each other take 20 times as long, which a busy machine may as well.
    cores = len(os.sched_getaffinity(0))
    check("yield" in jobs.run("-n", str(cores + 1), "--dry-run").stdout, "more ranks than cores do not give way")
    check("yield" not in jobs.run("-n", "1", "--dry-run").stdout, "a rank with a core of its own gives way")
    check(jobs.run("-n", "7", arguments=["steps", "200"]).returncode == 0, "")


def test_the_exit_status_is_the_program_s(jobs):
    result = jobs.run("-n", "3", arguments=["return", "3"])
    check(result.returncode == 3, f"{result}")
    one_message(result, "rank 2", "exit status 3")


def test_a_killed_rank_ends_the_job(jobs):
    for number, name in ((signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "SIGTERM"), (signal.SIGSEGV, "SIGSEGV")):
        result = jobs.run("-n", "3", arguments=["raise", str(int(number))])
        check(result.returncode == 128 + number, f"{result}")
        one_message(result, "rank 2", name)


def test_an_abort_ends_the_job(jobs):
    result = jobs.run("-n", "3", arguments=["abort", "7"])
    check(result.returncode == 7, f"{result}")
    # Open MPI loses its message now and then ("ORTE_ERROR_LOG ... show_help.c"); then only the exit status is known.
    one_message(result, "rank 2", "7")


def test_leaving_without_finalize_ends_the_job(jobs):
    for code in (0, 5):
        result = jobs.run("-n", "3", arguments=["leave", str(code)])
        check(result.returncode == (code or 1), f"{result}")
        one_message(result, "rank 2")


def test_a_rank_that_exits_with_0_before_the_others_are_done_is_an_error(jobs):
    for _ in range(5):
        result = jobs.run("-n", "3", arguments=["exit", "0"])
        check(result.returncode == 1, f"{result}")
        one_message(result, "rank 2", "without MPI_Finalize")


def test_a_rank_that_ends_before_MPI_Init_ends_the_job(jobs):
    for milliseconds in ("0", "300"):
        result = jobs.run("-n", "3", arguments=["absent", milliseconds])
        check(result.returncode == 1, f"{result}")
        one_message(result, "rank 1", "before it called MPI_Init")


def test_the_death_of_a_spawned_process_ends_the_job(jobs):
    if jobs.run("-n", "1", arguments=["spawn", "100"]).returncode != 100:
        return  # this MPICH cannot spawn
    result = jobs.run("-n", "2", arguments=["spawn", "9"])
    check(result.returncode == 137, f"{result}")
    one_message(result, "spawned", "SIGKILL")
    left = [name for name in os.listdir("/dev/shm") if f".{os.geteuid()}.{int(result.stdout):x}." in name]
    check(not left, f"{left}")


def test_windows_over_memory_of_one_s_own_work(jobs):
    for copies in ({}, {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}):  # the latter: as where process_vm_readv is forbidden
        result = jobs.run("-n", "3", arguments=["window"], env=os.environ | copies)
        check(sorted(result.stdout.splitlines()) == ["0 got 2 and 2", "1 got 0 and 0", "2 got 1 and 1"], f"{copies}: {result}")


def test_a_rank_killed_in_MPI_Init_leaves_no_shared_memory(jobs):
    result = jobs.run("-n", "3", arguments=["cut"])
    left = [path for path in result.stdout.splitlines() if os.path.exists(path)]
    check(not left, f"{left}")
    check(result.returncode == (137 if result.stdout else 0), f"{result}")  # Open MPI has no such file


def test_a_failed_call_ends_the_job(jobs):
    result = jobs.run("-n", "3", arguments=["wrong"])
    check(result.returncode not in (0, 2), f"{result}")
    one_message(result)


def test_signals_end_all_ranks(jobs):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        job, pids = jobs.start(3, "stay", 3)
        job.send_signal(number)
        check(all_gone(pids), f"ranks outlived {number.name}")
        _, said = job.communicate(timeout=10)
        check(job.returncode == 128 + number and number.name in said, f"{job.returncode} {said!r}")


def test_what_ignores_signals_is_killed(jobs):
    job, pids = jobs.start(2, "stubborn", 4)
    job.send_signal(signal.SIGINT)
    check(all_gone(pids), "stubborn ranks outlived SIGINT")
    job.communicate(timeout=10)


def test_nothing_outlives_a_kill_of_the_command(jobs):
    for what, lines in (("stay", 3), ("stubborn", 6)):
        job, pids = jobs.start(3, what, lines)
        job.kill()
        job.communicate(timeout=10)
        check(all_gone(pids), f"{what}: ranks outlived manyhands run")


def test_a_rank_killed_from_outside_ends_the_job(jobs):
    job, pids = jobs.start(3, "stay", 3)
    os.kill(pids[1], signal.SIGKILL)
    check(all_gone(pids), "the others outlived it")
    _, said = job.communicate(timeout=10)
    check(job.returncode == 137 and str(pids[1]) in said and "SIGKILL" in said, f"{job.returncode} {said!r}")


def test_the_time_limit_ends_the_job(jobs):
    result = jobs.run("-n", "2", "--timeout", "1", arguments=["stay"])
    check(result.returncode == 124, f"{result}")
    one_message(result, "1 s")


def test_nothing_is_left_behind(jobs):
    def files_of(pids):
        """What the MPI has put into the file system for these ranks. Other jobs may run on this machine."""
        folders = ("/dev/shm/", tempfile.gettempdir() + "/ompi.")
        maps = "".join(pathlib.Path(f"/proc/{pid}/maps").read_text() for pid in pids)
        return {path for path in re.findall(r"/\S+", maps) if path.startswith(folders) and os.path.exists(path)}

    def child_of(pid):
        return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    for how in (signal.SIGINT, signal.SIGKILL):
        for launcher_hangs in (False, True):
            job, pids = jobs.start(2, "stay", 2)
            files = files_of(pids)
            if launcher_hangs:  # as on a machine that is so busy that it does not get to tidying up
                os.kill(child_of(child_of(job.pid)), signal.SIGSTOP)
            job.send_signal(how)
            job.communicate(timeout=30)  # until all of the job have closed its output
            left = [path for path in files if os.path.exists(path)]
            check(not left, f"left behind after {how.name}{', the launcher hangs' * launcher_hangs}: {left}")


def test_wrong_use_is_an_error(jobs):
    def refused(words, *expected):
        result = subprocess.run([jobs.manyhands, "run", *words], capture_output=True, text=True, timeout=60)
        check(result.returncode == 2 and all(e in result.stderr for e in expected), f"{words}: {result}")
        check(len(result.stderr.splitlines()) == 1, f"{words}: {result.stderr}")

    program = str(jobs.program)
    refused(["-n", "0", program], "-n 0")
    refused(["-n", "-3", program], "-n -3")
    refused(["-n", "many", program], "-n many")
    refused(["-n"], "needs a value")
    refused(["-n", "2"], "no program")
    refused(["-n", "100000", program], "more than this machine bears")
    refused(["/nonexistent/program"], "no such file")
    refused(["no-such-program-at-all"], "on the PATH")
    refused(["/tmp"], "is a folder")
    refused(["/etc/passwd"], "may not be executed")
    refused(["/bin/ls"], "no MPI program")
    refused(["--wrong", program], "no option --wrong")
    refused(["--mpi", "lam", program], "lam")
    refused(["--timeout", "-1", program], "--timeout -1")
    refused(["--bind", "socket", program], "--bind socket")
    refused(["--stdin", "some", program], "--stdin some")
    refused(["--stdin", "all", "--hosts", "a,b", program], "--stdin all")


def test_an_mpi_that_is_loaded_late_is_known(jobs, folder, kind, compiler):
    # As Python does: MPI is a library of a library that is loaded for itself.
    source = folder / "loader.c"
    source.write_text("#include <dlfcn.h>\nint main(int n, char** words) { void* library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);\n"
                      "return ((int (*)(int))dlsym(library, \"work\"))(n); }\n")
    work = folder / "work.c"
    work.write_text("#include <mpi.h>\nint work(int leaves) { int rank; MPI_Init(0, 0); MPI_Comm_rank(MPI_COMM_WORLD, &rank);\n"
                    "if (leaves > 2 && rank == 1) return 0; MPI_Barrier(MPI_COMM_WORLD); return MPI_Finalize(); }\n")
    loader, library = folder / "loader", folder / f"work-{kind}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, work], check=True, timeout=120)
    subprocess.run(["cc", "-o", loader, source, "-ldl"], check=True, timeout=120)
    for words, status in ([library], 0), ([library, "leaves"], 1):
        result = subprocess.run([jobs.manyhands, "run", "--mpi", kind, "-n", "5", loader, *words], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=60)
        check(result.returncode == status, f"{result}")


def test_a_script_takes_the_named_mpi(jobs, folder, kind):
    script = folder / f"script-{kind}.sh"
    script.write_text(f"#!/bin/sh\nexec {jobs.program} hello\n")
    script.chmod(0o755)
    for options, environment in ((["--mpi", kind], {}), ([], {"MANYHANDS_MPI": kind})):
        result = subprocess.run([jobs.manyhands, "run", "-n", "2", *options, script], capture_output=True, text=True, timeout=60,
                                env=os.environ | environment)
        check(result.returncode == 0 and "hello from 1 of 2" in result.stdout and result.stderr == "", f"{result}")
    result = subprocess.run([jobs.manyhands, "run", "-n", "1", "--dry-run", script], capture_output=True, text=True, timeout=60)
    check("default" in result.stderr, f"{result}")


def main():
    manyhands, *compilers = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # a shell's job in the background ignores some; jobs would inherit that
    failures = 0
    ran = 0
    with tempfile.TemporaryDirectory(prefix="manyhands-run-") as name:
        folder = pathlib.Path(name)
        source = folder / "program.c"
        source.write_text(PROGRAM)
        for compiler in filter(shutil.which, compilers):
            kind = "mpich" if "mpich" in compiler else "openmpi"
            program = folder / f"program-{kind}"
            subprocess.run([compiler, "-o", program, source], check=True, timeout=120)
            jobs = Jobs(manyhands, program)
            tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
            for test_name, test in tests:
                ran += 1
                try:
                    more = {"folder": folder, "kind": kind, "compiler": compiler}
                    test(jobs, **{word: more[word] for word in list(inspect.signature(test).parameters)[1:]})
                except (Failed, subprocess.TimeoutExpired) as problem:
                    failures += 1
                    print(f"{kind}: {test_name.removeprefix('test_').replace('_', ' ')}: {problem}")
    print(f"manyhands run: {ran - failures} of {ran} hold" if ran else "manyhands run: no MPI compiler found; nothing was run")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
