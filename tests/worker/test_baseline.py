"""What `Baseline` puts back, seen from inside one process: each of these runs in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROLOGUE = """
import os, resource, signal, sys
import _signal
from aioparallel._worker.baseline import Baseline
baseline = Baseline(200)
assert baseline.restore()
"""


def run(program: str) -> str:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PROLOGUE + textwrap.dedent(program)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_nothing_touched_nothing_done():
    said = run("print(sorted(name for name in vars(baseline) if name.endswith('_touched') and getattr(baseline, name)))")
    assert said == "[]\n"
    assert run("print(sum(name.endswith('_touched') for name in vars(baseline)))") == "7\n"


def test_streams_that_are_none():
    run(
        """
        sys.stdin = sys.stdout = sys.stderr = None
        baseline = Baseline(200)
        sys.stdout = open(os.devnull, "w")
        assert baseline.restore() and sys.stdout is None
        """
    )


def test_handlers_by_the_public_and_by_the_private_name():
    run(
        """
        for module in (signal, _signal):
            before = signal.getsignal(signal.SIGUSR1)
            module.signal(signal.SIGUSR1, lambda *_: None)
            assert baseline.signals_touched and baseline.restore() and not baseline.signals_touched
            assert signal.getsignal(signal.SIGUSR1) == before
        """
    )


def test_timers_and_masks():
    run(
        """
        for arm in (lambda: signal.alarm(1000), lambda: signal.setitimer(signal.ITIMER_PROF, 1000)):
            arm()
            assert baseline.restore()
            assert [signal.getitimer(which) for which in (0, 1, 2)] == [(0.0, 0.0)] * 3
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        assert baseline.restore() and signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        """
    )


def test_an_environment_that_was_replaced():
    run(
        """
        before, itself = dict(os.environ), os.environ
        for replaced in ({}, {"A": "b"}, dict(os.environ)):
            os.environ = replaced
            assert baseline.restore() and os.environ is itself and dict(os.environ) == before
        """
    )


def test_environment_that_os_environ_does_not_know():
    run(
        """
        import subprocess
        home = os.environ["HOME"] = os.environ.get("HOME", "/")
        baseline = Baseline(200)
        os.putenv("ONLY_PUT", "1"); os.unsetenv("HOME"); os.environ["BOTH"] = "1"; os.environ.pop("PATH", None)
        assert baseline.restore() and baseline.restore()
        said = subprocess.run(["/usr/bin/env"], stdout=subprocess.PIPE, text=True).stdout.splitlines()
        assert f"HOME={home}" in said and not [line for line in said if line.startswith(("ONLY_PUT=", "BOTH="))]
        """
    )


def test_streams_that_were_closed_or_deleted_work_again():
    said = run(
        """
        sys.stdout.close(); del sys.stderr; os.close(1)
        assert baseline.restore()
        print("out"); print("err", file=sys.stderr, flush=True); sys.stdout.flush()
        """
    )
    assert said.splitlines() == ["err", "out"] or said.splitlines() == ["out", "err"]


@pytest.mark.parametrize(
    "change",
    [
        "os.close({0})",
        "os.closerange(0, 3)",
        "os.dup2(there, {0})",
        "import posix; posix.dup2(there, fd2={0})",
        "open({0}).close()",
        "os.fdopen({0}).close()",
        "os.close({0}); assert os.dup(there) == {0}",
        "os.close({0}); other = open('/dev/zero'); assert other.fileno() == {0}; baseline.restore(); other.close()",
    ],
)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_standard_descriptors_are_what_they_were(change, number):
    run(
        f"""
        there = os.open("/dev/full", os.O_RDWR)
        assert there > 2
        def identity(fd):
            return os.fstat(fd).st_dev, os.fstat(fd).st_ino
        before = [identity(fd) for fd in (0, 1, 2)]
        {change.format(number)}
        assert baseline.restore()
        assert [identity(fd) for fd in (0, 1, 2)] == before
        """
    )


def test_umask_and_what_travels_by_reference():
    run(
        """
        import pickle, posix
        before = os.umask(0o22); os.umask(before)
        os.umask(0o77); posix.umask(0o57)
        assert baseline.restore()
        assert os.umask(before) == before
        for function in (os.close, os.umask, signal.alarm):
            assert pickle.loads(pickle.dumps(function)) is function
        """
    )


@pytest.mark.parametrize(
    "change",
    [
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); assert before != (0, 0) or sys.exit(0)",
        "os.seteuid(65534) if not os.getuid() else sys.exit(0)",
        "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); baseline = Baseline(300); os.rmdir(d); os.chdir('/')",
        "baseline._standard_fds[1] = 9999; os.close(2)",
    ],
)
def test_what_cannot_be_put_back_is_told(change):
    run(f"before = resource.getrlimit(resource.RLIMIT_CORE)\n{change}\nassert not baseline.restore()\n")


@pytest.mark.parametrize(
    "start", ["os.fork() or os._exit(0)", "__import__('subprocess').run(['true'])", "os.posix_spawn('/bin/true', ['true'], {})"]
)
def test_processes_are_noticed(start):
    run(f"assert not baseline.started_something\n{start}\nassert baseline.started_something\n")
