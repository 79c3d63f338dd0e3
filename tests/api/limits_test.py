#!/usr/bin/env python3
"""Runs PROGRAM (limited.cpp) as an ordinary user under limits of processes, memory and CPU time: limits_test.py PROGRAM

Where threads cannot be made the library uses fewer, says so once, and its results are right.
"""
import contextlib
import ctypes
import itertools
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(sys.argv.pop(1)).resolve()
NOBODY = 65534
CLONE_NEWCGROUP, CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x02000000, 0x00020000, 0x1000, 0x4000, 1 << 18
ROOT = os.geteuid() == 0
names = itertools.count()


def become_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def run(*arguments, prepare=lambda: None, ordinary=True, **environment):
    """What the program prints, and its warnings; `prepare` is called in the child, as root where there is root."""
    def in_child():
        prepare()
        if ROOT and ordinary:
            become_nobody()

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    result = subprocess.run([PROGRAM, *map(str, arguments)], preexec_fn=in_child, capture_output=True, text=True,
                            timeout=120, env={**kept, "OMP_WAIT_POLICY": "passive", **environment})
    assert result.returncode == 0, f"{arguments}: status {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout, result.stderr


def limit(kind, amount):
    return lambda: resource.setrlimit(kind, (amount, amount))


def hierarchy(controller):
    """(directory, version) of where groups with this controller can be made; skips where there is none."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, behind = line.partition(" - ")
        point, (kind, _, options) = pathlib.Path(before.split()[4]), behind.split()
        if kind == "cgroup" and controller in options.split(","):
            return point, 1
        if kind == "cgroup2" and controller in (point / "cgroup.subtree_control").read_text().split():
            return point, 2
    raise unittest.SkipTest(f"no control group hierarchy with {controller} is mounted")


@contextlib.contextmanager
def group(parent, **values):
    made = parent / f"replk-test-{os.getpid()}-{next(names)}"
    try:
        made.mkdir()
    except OSError as error:
        raise unittest.SkipTest(f"no control group can be made: {error}")
    try:
        for name, value in values.items():
            (made / name.replace("__", ".")).write_text(str(value))
        yield made
    finally:
        made.rmdir()


def join(directory):
    return lambda: (directory / "cgroup.procs").write_text(str(os.getpid()))


def quota(version, percent):
    return ({"cpu__cfs_quota_us": percent * 1000, "cpu__cfs_period_us": 100000} if version == 1
            else {"cpu__max": f"{percent * 1000} 100000"})


class FewThreads(unittest.TestCase):
    def check(self, *arguments, **options):
        output, errors = run(*arguments, **options)
        self.assertEqual(output, "right=1 warnings=1\n", arguments)
        self.assertRegex(errors, r"^\d+ of \d+ threads can be made")
        return int(errors.split()[0])

    def everything(self, threads, **options):
        return {self.check(what, threads, **options) for what in ("depthwise", "model")}

    def test_no_limit_and_no_warning(self):
        for what in ("depthwise", "model"):
            self.assertEqual(run(what, 8)[0], "right=1 warnings=0\n")

    def test_a_limit_of_one_process(self):
        self.assertEqual(self.everything(2, prepare=limit(resource.RLIMIT_NPROC, 1)), {1})
        self.assertEqual(self.everything(64, prepare=limit(resource.RLIMIT_NPROC, 1)), {1})

    def test_a_group_of_three_processes(self):
        with group(hierarchy("pids")[0], pids__max=3) as three:
            self.assertEqual(self.everything(64, prepare=join(three)), {3})

    def test_little_address_space(self):
        for kilobytes in (300000, 400000, 500000):
            self.everything(64, prepare=limit(resource.RLIMIT_AS, kilobytes << 10))

    def test_large_stacks(self):
        for name in ("OMP_STACKSIZE", "GOMP_STACKSIZE"):
            found = self.everything(64, prepare=limit(resource.RLIMIT_AS, 2 << 30), **{name: " 128M"})
            self.assertLessEqual(max(found), 16)


class Default(unittest.TestCase):
    def cpus(self, **options):
        return tuple(map(int, re.fullmatch(r"default=(\d+) cpus=(\d+)\n", run("cpus", **options)[0]).groups()))

    def two_cpus(self):
        self.mine = len(os.sched_getaffinity(0))
        if self.mine < 2:
            self.skipTest("one CPU: no quota is less")

    def test_openmp_variables(self):
        cpus = self.cpus()[1]
        self.assertEqual(self.cpus(OMP_NUM_THREADS="1"), (1, cpus))
        self.assertEqual(self.cpus(OMP_NUM_THREADS=" 5 "), (5, cpus))
        self.assertEqual(self.cpus(OMP_NUM_THREADS="3,2"), (3, cpus))
        self.assertEqual(self.cpus(OMP_THREAD_LIMIT="1"), (1, cpus))
        self.assertEqual(self.cpus(OMP_NUM_THREADS="7", OMP_THREAD_LIMIT="4"), (4, cpus))
        for nonsense in ("", "0", "-2", "many", "3x", "99999999999999999999"):
            self.assertEqual(self.cpus(OMP_NUM_THREADS=nonsense), (cpus, cpus), nonsense)

    def test_the_quota_of_a_group_and_of_the_one_above(self):
        self.two_cpus()
        top, version = hierarchy("cpu")
        for percent, expected in ((50, 1), (100, 1), (101, 2), (100 * self.mine + 50, self.mine)):
            with group(top, **quota(version, percent)) as limited:
                self.assertEqual(self.cpus(prepare=join(limited)), (expected, expected), percent)
                if version == 1:  # in version 2 a group has processes or groups
                    with group(limited) as below:
                        self.assertEqual(self.cpus(prepare=join(below)), (expected, expected), percent)

    def test_the_quota_of_a_container(self):
        """Which sees its own group as the root of the hierarchy."""
        self.two_cpus()
        top, version = hierarchy("cpu")
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(directory):
            join(directory)()
            for failed in (libc.unshare(CLONE_NEWCGROUP | CLONE_NEWNS),
                           libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
                           libc.mount(bytes(directory), bytes(top), None, MS_BIND, None)):
                if failed:
                    os._exit(77)

        with group(top, **quota(version, 50)) as limited:
            try:
                self.assertEqual(self.cpus(prepare=lambda: enter(limited)), (1, 1))
            except AssertionError as error:
                if "status 77" in str(error):
                    self.skipTest("no namespaces can be made")
                raise

    def test_systemd(self):
        self.two_cpus()
        if not pathlib.Path("/run/systemd/system").is_dir() or not shutil.which("systemd-run"):
            self.skipTest("systemd does not run here")
        command = ["systemd-run", "--quiet", "--pipe", "--wait", "-p", "CPUQuota=50%", *([] if ROOT else ["--user"])]
        result = subprocess.run([*command, PROGRAM, "cpus"], capture_output=True, text=True, timeout=60)
        if result.returncode != 0:
            self.skipTest(f"systemd-run: {result.stderr.strip()}")
        self.assertEqual(result.stdout, "default=1 cpus=1\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as caches:
        os.environ["REPLK_CACHE_DIR"] = caches
        unittest.main(verbosity=2)
