"""What the journeys look at: whether processes are dead, and what a controller in a process of its own said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

PATIENCE_SECONDS = 20.0
"""For a busy machine; what has a limit of its own is asserted on by itself."""


async def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something outside of this process is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds} s"
        await asyncio.sleep(0.005)


async def written(path: Path) -> str:
    """Wait until a task has written a line to a file, and return it."""

    def line() -> str:
        return path.read_text() if path.exists() else ""

    await until(lambda: line().endswith("\n"))
    return line().strip()


def is_dead(pid: int) -> bool:
    """Return whether a process is gone, or only waits to be reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def living(pids: Iterable[int]) -> list[int]:
    """Return those that live."""
    return [pid for pid in pids if not is_dead(pid)]


def assert_gone_within(seconds: float, pids: Iterable[int]) -> None:
    """Wait for the deaths of processes that are not ours to reap."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not [process for process in alive if not is_dead(process.pid)], f"alive after {seconds} s: {alive}"


def controller(program: str, **options: object) -> subprocess.Popen[str]:
    """Start a program that has a pool, as a user would start it; it is in a process group of its own."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    pipe = subprocess.PIPE
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    settings = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True, "env": environ, "process_group": 0}
    return subprocess.Popen(command, **(settings | options))  # type: ignore[call-overload, no-any-return]
