"""Where a task and its test meet without sleeping: two FIFOs, one to say "I am here", one to be let through."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FOREVER = 1000.0


class Gate:
    """The test's side; `path` is what tasks are given."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / f"gate{len(list(folder.iterdir()))}")
        for name in ("here", "go"):
            os.mkfifo(f"{self.path}.{name}")
        self._here = os.open(f"{self.path}.here", os.O_RDWR | os.O_NONBLOCK)
        self._go = os.open(f"{self.path}.go", os.O_RDWR | os.O_NONBLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._here)
        os.close(self._go)

    async def met(self, count: int = 1) -> list[int]:
        """Wait until so many tasks have arrived; return the pids they have said."""
        loop = asyncio.get_running_loop()
        pids: list[int] = []
        while len(pids) < count:
            await _readable(loop, self._here)
            pids.append(int.from_bytes(os.read(self._here, 4), "little"))
        return pids

    def open(self, count: int = 1) -> None:
        """Let so many tasks through."""
        os.write(self._go, b"x" * count)


async def _readable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready = loop.create_future()
    loop.add_reader(fd, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def until(pool: Any, condition: Callable[[], bool]) -> None:
    """Wait until a condition on what the pool knows holds."""
    async with asyncio.timeout(20):
        await pool._engine.wait_until(condition)


async def death(*pids: int, seconds: float = 10.0) -> None:
    """Wait until these processes have ended."""
    async with asyncio.timeout(seconds):
        for pid in pids:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                await _readable(asyncio.get_running_loop(), fd)
            finally:
                os.close(fd)


def arrive(path: str) -> None:
    """Say that the task is here."""
    fd = os.open(f"{path}.here", os.O_WRONLY)
    os.write(fd, os.getpid().to_bytes(4, "little"))
    os.close(fd)


def pass_gate(path: str, value: Any = None) -> Any:
    """Arrive, wait to be let through, and return `value` (raise it if it is an exception)."""
    arrive(path)
    fd = os.open(f"{path}.go", os.O_RDONLY)
    try:
        os.read(fd, 1)
    finally:
        os.close(fd)
    if isinstance(value, BaseException):
        raise value
    return value


def stay(path: str) -> None:
    """Arrive, and never come back."""
    arrive(path)
    time.sleep(FOREVER)


def gone(pid: int) -> bool:
    """Return whether no such process lives (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True


class FrozenAgent:
    """A pool's agent, stopped within a `with` block: what is to be killed is not, until it goes on."""

    def __init__(self, pool: Any) -> None:
        (host,) = pool._engine.hosts.values()
        self.pid = host._agent_pid
        assert self.pid

    def __enter__(self) -> Self:
        os.kill(self.pid, signal.SIGSTOP)
        return self

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not gone(self.pid):
            self.thaw()


async def run_script(script: str, folder: Path, *arguments: str, seconds: float = 30.0) -> tuple[int, str, str]:
    """Run a program of its own in a folder; return its exit code, output and errors."""
    (folder / "script.py").write_text(script)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-X", "dev", "script.py", *arguments,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode is not None
    # asyncio's debug mode remarks on slow callbacks: that depends on the machine, not on us
    errors = [line for line in err.decode().splitlines(keepends=True) if not line.startswith("Executing <")]
    return process.returncode, out.decode(), "".join(errors)
