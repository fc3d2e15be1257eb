#!/usr/bin/env python3
"""Runs `manyhands run --hosts` on two pretended machines.

usage: nodes_test.py MANYHANDS KIND=MPICC=PROGRAM...     (for example openmpi=mpicc.openmpi=.../mpi_nodes_openmpi)

Each machine is a set of namespaces: host name, network (joined by a pair of virtual Ethernet devices), processes, System V
objects, and its own /dev/shm. A script named `ssh` on the PATH enters them, with an empty environment as sshd would give.
All stands below one process-id namespace, so that everything is gone when this script ends, however it does.
Prints "skipped: REASON" where namespaces cannot be made.
"""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

NAMESPACES = ["unshare", "--uts", "--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
ADDRESSES = {"one": "10.77.0.1", "two": "10.77.0.2"}
BOXES = ("MPI_ABORT was invoked", "BAD TERMINATION", "Primary job", "-----", "UCX  ERROR", "btl_tcp", "report")


class Failed(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failed(what)


def call(*words):
    subprocess.run(words, check=True, timeout=20)


def prepare_machine():
    """In the new namespaces: what they do not have by themselves."""
    call("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
    call("mount", "-t", "sysfs", "sysfs", "/sys")  # UCX looks there for network devices
    call("ip", "link", "set", "lo", "up")


def be_second_machine():
    socket.sethostname("two")
    prepare_machine()
    print("up", flush=True)
    sys.stdin.read()  # until the first machine ends


class Machines:
    def __init__(self, folder):
        socket.sethostname("one")
        prepare_machine()
        hosts = folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {name}\n" for name, a in ADDRESSES.items()))
        call("mount", "--bind", hosts, "/etc/hosts")
        self.process = subprocess.Popen([*NAMESPACES, sys.executable, __file__, "--second"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        check(self.process.stdout.readline() == "up\n", "the second machine does not come up")
        pid = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0]
        self.enter = ["nsenter", "-t", pid, "-a"]
        call("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        call("ip", "link", "set", "eth1", "netns", pid)
        call(*self.enter, "ip", "link", "set", "eth1", "name", "eth0")
        for enter, name in ([], "one"), (self.enter, "two"):
            call(*enter, "ip", "addr", "add", ADDRESSES[name] + "/24", "dev", "eth0")
            call(*enter, "ip", "link", "set", "eth0", "up")
        ssh = folder / "bin/ssh"
        ssh.parent.mkdir()
        bare = 'env -i HOME="$HOME" PATH=/usr/local/bin:/usr/bin:/bin sh -c "$*"'
        ssh.write_text(
            "#!/bin/sh\nwhile :; do case $1 in -o) shift 2;; -*) shift;; *) break;; esac; done\nhost=$1; shift\ncase $host in\n"
            f"one|{ADDRESSES['one']}) exec {bare};;\n"
            f"two|{ADDRESSES['two']}) exec {' '.join(self.enter)} {bare};;\n"
            'esac\necho "ssh: Could not resolve hostname $host" >&2\nexit 255\n'
        )
        ssh.chmod(0o755)
        os.environ["PATH"] = f"{ssh.parent}:{os.environ['PATH']}"

    def left(self, name):
        """Processes on either machine whose command holds `name`. The second's are seen from the first, too."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if name.encode() in command and state not in "ZX" and int(entry.name) != os.getpid():
                found.append(command.replace(b"\0", b" ").decode())
        return found


class Jobs:
    def __init__(self, manyhands, kind, raw, layer, machines):
        self.manyhands, self.kind, self.raw, self.layer, self.machines = manyhands, kind, raw, layer, machines

    def command(self, *options, program=None, arguments=()):
        return [self.manyhands, "run", "-n", "4", *(options or ("--hosts", "one:2,two:2")), program or self.raw, *arguments]

    def run(self, *options, program=None, arguments=()):
        return subprocess.run(self.command(*options, program=program, arguments=arguments), capture_output=True, text=True, timeout=20,
                              stdin=subprocess.DEVNULL)

    def nothing_left(self):
        deadline = time.monotonic() + 20  # it takes one or two unless the machine is busy with other things
        name = os.path.basename(self.raw)
        while left := self.machines.left(name):
            check(time.monotonic() < deadline, f"still there: {left}")
            time.sleep(0.02)


def one_message(result, *words):
    ours = [line for line in result.stderr.splitlines() if line.startswith("manyhands run: ")]
    check(len(ours) == 1 and all(word in ours[0] for word in words), f"expected one message with {words}: {result}")
    check(not any(box in result.stderr + result.stdout for box in BOXES), f"other texts: {result}")


def test_ranks_run_on_both_hosts(jobs):
    for _ in range(4):  # MPICH's MPI_Finalize does not end in every other run without our help
        result = jobs.run()
        check(result.returncode == 0 and result.stderr == "", f"{result}")
        check(sorted(result.stdout.splitlines()) == [f"hello from {r} of 4" for r in range(4)], f"{result}")


def test_a_hostfile_names_the_hosts(jobs):
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("one slots=2\ntwo slots=2\n" if jobs.kind == "openmpi" else "one:2\ntwo:2\n")
        file.flush()
        result = jobs.run("--hostfile", file.name)
    check(result.returncode == 0 and len(result.stdout.splitlines()) == 4, f"{result}")


def test_the_layer_knows_its_hosts(jobs):
    table = pathlib.Path("/dev/shm/table")  # on the first machine only
    table.write_bytes(b"x" * 100_000)
    result = jobs.run(program=jobs.layer, arguments=[str(table)])
    check(result.returncode == 0 and result.stderr == "", f"{result}")
    said = {}
    for line in result.stdout.splitlines():
        word, rank, *rest = line.split()
        said.setdefault(word, {})[rank] = rest
    check(said["host"] == {"0": ["one"], "1": ["one"], "2": ["two"], "3": ["two"]}, f"{said}")
    check(all(size == ["2"] for size in said["node"].values()), f"split_node: {said}")
    check(said["shared"] == {"0": ["30"], "1": ["30"], "2": ["70"], "3": ["70"]}, f"SharedArray: {said}")
    letters, inodes = zip(*(said["table"][str(r)] for r in range(4)))
    check(set(letters) == {"100000"}, f"collective::read: {said}")
    check(inodes[0] == inodes[1] and inodes[2] == inodes[3], f"one copy on each machine: {inodes}")
    check(all(text == ["yyy"] for text in said["text"].values()), f"{said}")
    check(said["pool"] == {"2": ["hosts,", "9"]}, f"{said}")


def test_lines_stay_whole_and_are_tagged(jobs):
    result = jobs.run("--hosts", "one:2,two:2", "--tag-output", arguments=["lines", "50"])
    for rank in range(4):
        mine = [line for line in result.stdout.splitlines() if line.startswith(f"[{rank}]")]
        check(mine == [f"[{rank}] {rank} begins {i}, {rank} ends" for i in range(50)], f"rank {rank}: {mine[:5]}")
    result = jobs.run(arguments=["lines", "50"])
    wanted = sorted(f"{r} begins {i}, {r} ends" for r in range(4) for i in range(50))
    check(sorted(result.stdout.splitlines()) == wanted, "lines of different ranks mix")


def test_blank_lines_are_not_lost(jobs):
    result = jobs.run("--hosts", "two:4", arguments=["blank"])
    check(sorted(result.stdout.splitlines()) == [""] * 8 + ["a"] * 4 + ["b"] * 4, f"{result}")


def test_variables_reach_the_other_host(jobs):
    result = jobs.run("--hosts", "one:2,two:2", "-x", "GREETING=good day", arguments=["variable"])
    check(result.stdout == "good day\n" * 4, f"{result}")


def test_a_rank_killed_there_ends_the_job(jobs):
    for number, name in ((signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")):
        result = jobs.run(arguments=["raise", str(int(number))])
        check(result.returncode == 128 + number, f"{result}")
        one_message(result, "rank 3", name)
        jobs.nothing_left()


def test_an_exit_status_comes_from_there(jobs):
    result = jobs.run(arguments=["return", "3"])
    check(result.returncode == 3, f"{result}")
    one_message(result, "rank 3", "exit status 3")
    result = jobs.run(arguments=["leave", "5"])
    check(result.returncode == 5, f"{result}")
    one_message(result, "rank 3", "exit status 5")


def test_an_abort_there_ends_the_job(jobs):
    result = jobs.run(arguments=["abort", "7"])
    check(result.returncode == 7, f"{result}")
    one_message(result, "7")  # MPICH loses now and then which rank it was
    jobs.nothing_left()


def test_signals_and_kills_of_the_command_end_all_ranks(jobs):
    for number in (signal.SIGTERM, signal.SIGKILL):
        for what, lines in (("stay", 4), ("stubborn", 8)):
            job = subprocess.Popen(jobs.command(arguments=[what]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
            for _ in range(lines):
                job.stdout.readline()
            job.send_signal(number)
            jobs.nothing_left()
            job.communicate(timeout=10)
            check(job.returncode == (143 if number == signal.SIGTERM else -9), f"{what} {job.returncode}")


def test_a_host_that_is_not_there_is_an_error(jobs):
    result = jobs.run("--hosts", "one:2,three:2")
    check(result.returncode not in (0, 2), f"{result}")
    check("hostname three" in result.stderr and "manyhands run: " in result.stderr, f"{result}")
    jobs.nothing_left()


def be_first_machine(manyhands, flavours):
    source = (pathlib.Path(__file__).parent / "run_test.py").read_text()
    program = re.search(r'PROGRAM = r"""\n(.*?)"""', source, re.DOTALL).group(1)
    failures = ran = 0
    with tempfile.TemporaryDirectory(prefix="manyhands-nodes-") as name:
        folder = pathlib.Path(name)
        (folder / "program.c").write_text(program)
        os.environ["OMPI_MCA_orte_tmpdir_base"] = name  # a daemon that is killed leaves its folder there
        machines = Machines(folder)
        for kind, compiler, layer in (flavour.split("=") for flavour in flavours):
            if shutil.which(compiler) is None:
                continue
            raw = folder / f"nodes-raw-{kind}"
            subprocess.run([compiler, "-o", raw, folder / "program.c"], check=True, timeout=60)
            jobs = Jobs(manyhands, kind, str(raw), layer, machines)
            for test_name, test in [(n, f) for n, f in globals().items() if n.startswith("test_")]:
                ran += 1
                start = time.monotonic()
                try:
                    test(jobs)
                except (Failed, subprocess.TimeoutExpired) as problem:
                    failures += 1
                    print(f"{kind}: {test_name.removeprefix('test_').replace('_', ' ')}: {problem}")
                if "--times" in os.environ.get("NODES_TEST", ""):
                    print(f"{kind} {test_name} {time.monotonic() - start:.1f} s")
    print(f"manyhands run --hosts: {ran - failures} of {ran} hold")
    return 1 if failures else 0


def main():
    if sys.argv[1] == "--second":
        return be_second_machine()
    if sys.argv[1] == "--first":
        return be_first_machine(sys.argv[2], sys.argv[3:])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    missing = [tool for tool in ("unshare", "nsenter", "ip", "mount") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        print(f"skipped: needs {'root' if not missing else ', '.join(missing)} to make machines of namespaces")
        return 0
    probe = "mount -t tmpfs t /dev/shm && mount -t sysfs s /sys && ip link add v1 type veth peer name v2"
    tried = subprocess.run([*NAMESPACES, "sh", "-c", probe], capture_output=True, text=True, timeout=20)
    if tried.returncode != 0:
        print(f"skipped: machines of namespaces cannot be made here: {tried.stderr.strip()}")
        return 0
    return subprocess.run([*NAMESPACES, sys.executable, __file__, "--first", *sys.argv[1:]], timeout=150).returncode


if __name__ == "__main__":
    sys.exit(main())
