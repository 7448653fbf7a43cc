"""What a test may leave behind: nothing.

Guarantees
    A process below this one, or one that a pool of this run has started and that has left the tree, is found; so are file descriptors,
    threads and files of ours in the temp folder. What was there before the test is not the test's doing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE_SECONDS = 2.0
"""A SIGKILLed process dies when the kernel gets to it: what is still there after this long is there for good."""
LOOK_SECONDS = 0.02
NONCE = b"AIOPARALLEL_NONCE="
RUN = "TESTS_OF_AIOPARALLEL_RUN"
"""Set in this process's environment, and so in that of all it starts: other runs on this machine are none of our business.

It does not begin with AIOPARALLEL_, as settings do.
"""

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Several processes may share the tests of a run; each has a mark of its own."""


def _mark() -> str:
    mark = os.environ.get(RUN) or f"{os.getpid()}-{secrets.token_hex(8)}"
    return mark if mark.endswith(WORKER) else f"{mark}-{WORKER}"


os.environ[RUN] = _mark()


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment."""

    processes: frozenset[psutil.Process]
    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[threading.Thread]
    files: frozenset[str]

    @classmethod
    def take(cls) -> Snapshot:
        """Look around."""
        return cls(_processes(), _descriptors(), frozenset(threading.enumerate()), _files())


@dataclass(frozen=True)
class Leftovers:
    """What was not there before."""

    processes: frozenset[psutil.Process]
    others: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.processes or self.others)

    def __str__(self) -> str:
        lines = [*(f"process {_describe(process)}" for process in self.processes), *self.others]
        return "left behind:\n" + "\n".join(f"  {line}" for line in sorted(lines))

    def kill(self) -> None:
        """Kill the processes, so that the next test starts clean."""
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                process.kill()


def leftovers(before: Snapshot) -> Leftovers:
    """Return what is there now and was not before."""
    now = Snapshot.take()
    others = [
        *(f"file descriptor {number} -> {target}" for number, target in now.descriptors - before.descriptors),
        *(f"thread {thread.name!r}" for thread in now.threads - before.threads),
        *(f"file {name}" for name in now.files - before.files),
    ]
    return Leftovers(now.processes - before.processes, tuple(others))


def lasting_leftovers(before: Snapshot, seconds: float = GRACE_SECONDS) -> Leftovers:
    """Return what is left; look again for a moment, but only where there is something."""
    left = leftovers(before)
    if left:
        gc.collect()
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        left = leftovers(before)
    return left


def _processes() -> frozenset[psutil.Process]:
    found = set(psutil.Process().children(recursive=True))
    mark = f"{RUN}={os.environ[RUN]}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, psutil.Error):
            environ = (entry / "environ").read_bytes().split(b"\0")
            if mark in environ and any(value.startswith(NONCE) for value in environ):
                found.add(psutil.Process(int(entry.name)))
    return frozenset(found)


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    with contextlib.suppress(FileNotFoundError):  # macOS has no /proc
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the folder's own descriptor is closed by now
                found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return frozenset(found)


def _files() -> frozenset[str]:
    return frozenset(map(str, Path(tempfile.gettempdir()).glob("aioparallel*")))


def _describe(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            what = f"{process.pid} (child of {process.ppid()}, {process.status()}): {process.name()}"
            # A zombie has no command line any more; that it is one is the news: nobody has waited for it.
            return what if process.status() == psutil.STATUS_ZOMBIE else f"{what}: {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return f"{process.pid} (gone by now)"
