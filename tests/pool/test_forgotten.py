"""Programs of their own: they end in time and leave nothing, however they end and whatever they forgot."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from .gate import death, gone

HEAD = """
import asyncio, os, sys, time
import aioparallel

async def background(pool):
    try:
        await pool.submit(time.sleep, 100)
    finally:
        print("woken", flush=True)

async def begin():
    pool = aioparallel.Pool(local=2)
    await pool.ready(slots=2)
    tasks = [asyncio.create_task(background(pool)) for _ in range(4)]
    while pool.status().running < 2:
        await asyncio.sleep(0.001)
    print("pids", *(slot.pid for slot in pool.status().slots), next(iter(pool._engine.hosts.values()))._agent_pid, flush=True)
    return pool, tasks
"""
FORGETS = (
    HEAD
    + """
async def main():
    global began
    kept = await begin()
    began = time.monotonic()

asyncio.run(main())
print("seconds", time.monotonic() - began)
"""
)
WAITS = (
    HEAD
    + """
async def main():
    kept = await begin()
    await asyncio.sleep(100)

asyncio.run(main())
"""
)
STUBBORN = (
    HEAD
    + """
async def main():
    kept = await begin()
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        print("again", flush=True)
        await asyncio.sleep(100)

asyncio.run(main())
"""
)
BLOCK = (
    HEAD
    + """
async def main():
    async with aioparallel.Pool(local=2) as pool:
        await pool.ready(slots=2)
        tasks = [pool.submit(time.sleep, 100) for _ in range(10)]
        while pool.status().running < 2:
            await asyncio.sleep(0.001)
        print("pids", *(slot.pid for slot in pool.status().slots), flush=True)
        if sys.argv[1:]:
            raise SystemExit(int(sys.argv[1]))
        await asyncio.gather(*tasks)

asyncio.run(main())
"""
)


class Program:
    """A script in a process of its own."""

    def __init__(self, folder: Path, script: str, *arguments: str) -> None:
        self._file = folder / "program.py"
        self._file.write_text(script)
        self._arguments = arguments

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-X", "dev", str(self._file), *self._arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        self.lines: list[str] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.communicate()

    async def line(self, word: str) -> list[str]:
        """Wait for the line that begins with a word; return its other words."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while True:
                line = (await self._process.stdout.readline()).decode().split()
                assert line, (await self.ended())[1]
                self.lines.append(line[0])
                if line[0] == word:
                    return line[1:]

    def interrupt(self) -> float:
        """Send what Ctrl-C sends; return the time."""
        self._process.send_signal(signal.SIGINT)
        return time.monotonic()

    async def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the errors."""
        async with asyncio.timeout(30):
            out, err = await self._process.communicate()
        self.lines += [line.split()[0] for line in out.decode().splitlines()]
        assert self._process.returncode is not None
        return self._process.returncode, err.decode()


async def all_gone(pids: list[str]) -> bool:
    """Return whether all processes end within a second (the kernel needs a moment)."""
    with contextlib.suppress(TimeoutError):
        await death(*map(int, pids), seconds=1.0)
    return all(gone(int(pid)) for pid in pids)


async def test_a_program_that_forgets_to_close(tmp_path: Path) -> None:
    async with Program(tmp_path, FORGETS) as program:
        pids = await program.line("pids")
        (seconds,) = await program.line("seconds")
        assert float(seconds) < 2.0
        code, err = await program.ended()
        assert code == 0, err
        assert program.lines.count("woken") == 4, "each task that awaited one of ours woke"
        assert "was never closed" in err and "Traceback" not in err, err
        assert await all_gone(pids)


async def test_one_interrupt(tmp_path: Path) -> None:
    async with Program(tmp_path, WAITS) as program:
        pids = await program.line("pids")
        sent = program.interrupt()
        code, err = await program.ended()
        assert time.monotonic() - sent < 3.0
        assert code == -signal.SIGINT and "KeyboardInterrupt" in err
        assert program.lines.count("woken") == 4
        assert await all_gone(pids)


async def test_a_second_interrupt(tmp_path: Path) -> None:
    async with Program(tmp_path, STUBBORN) as program:
        pids = await program.line("pids")
        program.interrupt()
        await program.line("again")
        sent = program.interrupt()
        code, err = await program.ended()
        assert time.monotonic() - sent < 3.0
        assert code == -signal.SIGINT and "KeyboardInterrupt" in err
        assert await all_gone(pids)


@pytest.mark.parametrize("how", ["interrupt", "exit"])
async def test_leaving_the_block_kills_at_once(tmp_path: Path, how: str) -> None:
    async with Program(tmp_path, BLOCK, *(["5"] if how == "exit" else [])) as program:
        pids = await program.line("pids")
        sent = program.interrupt() if how == "interrupt" else time.monotonic()
        code, err = await program.ended()
        assert time.monotonic() - sent < 3.0
        assert code == (-signal.SIGINT if how == "interrupt" else 5), err
        assert "never retrieved" not in err and "never closed" not in err and "Warning" not in err
        assert await all_gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_program_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    async with Program(tmp_path, WAITS) as program:
        pids = await program.line("pids")
        program._process.send_signal(number)
        await program.ended()
        assert await all_gone(pids)
