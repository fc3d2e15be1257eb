"""Loads a library with worker processes into a program that knows nothing of them.

    guest_test.py HOST LIBRARY
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HOST, LIBRARY = sys.argv[1:3]


def run(library, *arguments, program=HOST, **options):
    return subprocess.run([program, library, *arguments], capture_output=True, text=True, timeout=100, **options)


def processes_of(path):
    """The processes that have the file mapped."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/maps") as maps:
                if path in maps.read():
                    found.append(int(pid))
        except OSError:
            pass
    return found


class Guest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def copy(self, name):
        return shutil.copy(LIBRARY, os.path.join(self.folder.name, name))

    def test_pools_and_processes_work_and_the_hosts_main_runs_once(self):
        library = self.copy("guest.so")
        result = run(library)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.splitlines(), ["the host's constructors", "the host's main"])
        deadline = time.monotonic() + 10
        while processes_of(library) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(processes_of(library), [])

    def test_a_module_of_python_with_threads_works(self):
        program = ("import ctypes, threading\n"
                   "stop = threading.Event()\n"
                   "other = threading.Thread(target=stop.wait)\n"
                   "other.start()\n"
                   f"print(ctypes.CDLL({self.copy('guest.so')!r}).run_guest())\n"
                   "stop.set()\n")
        result = run("-c", program, program=sys.executable)
        self.assertEqual((result.stdout, result.returncode), ("0\n", 0), result.stderr)

    def test_what_the_user_preloads_stays_preloaded(self):
        other = self.copy("other.so")  # any library
        result = run(self.copy("guest.so"), env={**os.environ, "LD_PRELOAD": other})
        self.assertIn("what tasks start would load the library", result.stderr)  # the user wants that
        self.assertEqual(result.stdout.splitlines(), ["the host's constructors", "the host's main"])

    def test_a_library_that_cannot_be_preloaded_says_why(self):
        result = run(self.copy("a guest.so"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("a guest.so', has a space or a colon", result.stderr)

    def test_nobody_else_can_divert_the_host(self):
        library = self.copy("guest.so")
        what = os.stat(library)
        for argument in ("--manyhands-zygote=0,1,2,3,0,0", "--manyhands-worker=0,1,2,0", "--manyhands-process=64,0"):
            result = subprocess.run([HOST, f"--manyhands-guest={what.st_dev},{what.st_ino}", argument], capture_output=True,
                                    text=True, timeout=30, env={**os.environ, "LD_PRELOAD": library}, stdin=subprocess.DEVNULL)
            self.assertEqual(result.returncode, 2, argument)
            self.assertIn("for processes that manyhands starts itself", result.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], verbosity=2)
