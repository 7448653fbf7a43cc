"""The scoreboard and the progress line on a (pseudo) terminal, with rich and without, where there is no terminal, and when told to be silent."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from aioparallel import Pool, UsageError
from aioparallel._observe import screen
from aioparallel._observe.screen import WIPE, screen_on

from .gate import Gate, pass_gate


class Terminal:
    """A pseudo terminal: a stream to write to, and all that came out of it."""

    def __init__(self) -> None:
        self._far, near = pty.openpty()
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.stream: TextIO = os.fdopen(near, "w")
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._far, 65536):
                self._text += data.decode()
        except OSError:
            pass  # the near end was closed

    def text(self) -> str:
        """Return all of it; nothing can be written any more."""
        self.stream.close()
        self._reader.join(10)
        return self._text

    def hang_up(self) -> None:
        fd, self._far = self._far, -1
        os.close(fd)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    if not made.stream.closed:
        made.stream.close()
    made._reader.join(10)
    if made._far >= 0:
        os.close(made._far)


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "rich.console", "rich.live", "rich.table", "rich.text"):
        monkeypatch.setitem(sys.modules, name, None)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aioparallel draws")]


async def until_drawn(out: Any, count: int) -> None:
    """Wait until so many lines were written to a stream."""
    async with asyncio.timeout(20):
        while out.getvalue().count("\n") < count:
            await asyncio.sleep(0.005)


async def test_lines_where_there_is_no_terminal(gate: Gate) -> None:
    out = io.StringIO()
    async with Pool(local=1, name="mine") as pool:
        async with pool.watch(every=0.01, stream=out):
            task = pool.submit(pass_gate, gate.path)
            await gate.met()
            await until_drawn(out, 3)
            gate.open()
            await task
        lines = out.getvalue().splitlines()
        assert re.fullmatch(r"mine: 0 of 0 finished, 0 queued, 0/1 slots busy, [\d.]+ m?s", lines[0])
        assert any("0 of 1 finished, 0 queued, 1/1 slots busy, longest runs for " in line for line in lines)
        assert lines[-1].startswith("mine: 1 of 1 finished, 0 queued, 0/1 slots busy")
        assert "\x1b" not in out.getvalue() and not threads()
        before = out.getvalue()
        await pool.submit(abs, 1)
        assert out.getvalue() == before


def test_how_often() -> None:
    assert screen.LINE_SECONDS == 5.0
    found = screen_on(io.StringIO())
    assert found is not None and found[1] == 5.0


@pytest.mark.usefixtures("no_rich")
async def test_one_line_on_a_terminal_without_rich(terminal: Terminal) -> None:
    async with Pool(local=1, name="mine") as pool, pool.watch(stream=terminal.stream):
        await pool.submit(abs, 1)
    text = terminal.text()
    assert text.startswith(WIPE + "mine: ") and text.endswith("\r\n") and text.count("\n") == 1
    assert "mine: 1 of 1 finished" in text.split(WIPE)[-1]


async def test_a_scoreboard_on_a_terminal_with_rich(terminal: Terminal, gate: Gate) -> None:
    pytest.importorskip("rich")
    async with Pool(local=1, name="mine") as pool, pool.watch(every=0.01, stream=terminal.stream):
        task = pool.options(name="the one").submit(pass_gate, gate.path)
        await gate.met()
        async with asyncio.timeout(20):
            while "the one" not in terminal._text:
                await asyncio.sleep(0.005)
        gate.open()
        await task
    text = terminal.text()
    assert "pool 'mine' open for" in text and "finished" in text and "health" in text
    assert "\x1b[1A" in text, "it is redrawn in place"
    assert "1 succeeded" in text.rsplit("pool 'mine'", 1)[1] and not threads()


async def test_silent_when_told_and_without_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    async with Pool(local=1) as pool:
        async with pool.watch(quiet=True, stream=out):
            await pool.submit(abs, 1)
        monkeypatch.setattr(sys, "stderr", None)
        async with pool.watch():
            await pool.submit(abs, 1)
        assert out.getvalue() == "" and not threads()


async def test_a_terminal_that_goes_away_costs_nothing(terminal: Terminal) -> None:
    async with Pool(local=1) as pool, pool.watch(every=0.01, stream=terminal.stream):
        await pool.submit(abs, 1)
        terminal.stream.close()
        assert await asyncio.gather(*(pool.submit(abs, -number) for number in range(50))) == list(range(50))
    assert not threads()


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), True, "1"])
async def test_wrong_every(every: Any) -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(ValueError, match="every="):
            pool.watch(every=every)


async def test_of_pools_that_are_not_open() -> None:
    out = io.StringIO()
    pool = Pool(local=1, name="mine")
    async with pool.watch(stream=out), pool:
        await pool.submit(abs, 1)
    async with pool.watch(stream=out):
        pass
    assert "mine: 1 of 1 finished" in out.getvalue().splitlines()[-1]


async def test_it_is_entered_once() -> None:
    async with Pool(local=1) as pool:
        watch = pool.watch(stream=io.StringIO())
        async with watch:
            with pytest.raises(UsageError, match="has begun"):
                await watch.__aenter__()


async def test_an_exception_leaves_nothing_behind() -> None:
    out = io.StringIO()
    async with Pool(local=1) as pool:
        with pytest.raises(KeyError):
            async with pool.watch(every=0.01, stream=out):
                raise KeyError
        assert not threads() and out.getvalue().count("\n") >= 1
