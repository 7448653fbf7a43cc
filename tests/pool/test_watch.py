"""The scoreboard and the progress line on a (pseudo) terminal, with rich and without, where there is none, and when told to be silent."""

from __future__ import annotations

import asyncio
import fcntl
import gc
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


class Written:
    """Text that grows in another thread, to wait for."""

    def __init__(self) -> None:
        self.text = ""
        self._changed = threading.Condition()

    def add(self, text: str) -> None:
        with self._changed:
            self.text += text
            self._changed.notify_all()

    async def until(self, pattern: str) -> None:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: re.search(pattern, self.text, re.DOTALL), 20) is not None

        assert await asyncio.to_thread(wait), f"no {pattern} came, but {self.text}"


class Out(io.StringIO):
    """A stream that is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.written = Written()

    def write(self, text: str) -> int:
        self.written.add(text)
        return super().write(text)


class Terminal:
    """A pseudo terminal: a stream to write to, and all that came out of it."""

    def __init__(self) -> None:
        self._far, near = pty.openpty()
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.stream: TextIO = os.fdopen(near, "w")
        self.written = Written()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._far, 65536):
                self.written.add(data.decode(errors="replace"))
        except OSError:
            pass  # the near end was closed

    def text(self) -> str:
        """Return all of it; nothing can be written any more."""
        self.stream.close()
        self._reader.join(10)
        return self.written.text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    if not made.stream.closed:
        made.stream.close()
    made._reader.join(10)
    os.close(made._far)


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("rich.")] + ["rich"]:
        monkeypatch.setitem(sys.modules, name, None)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("aioparallel draws")]


async def test_lines_where_there_is_no_terminal(gate: Gate) -> None:
    out = Out()
    async with Pool(local=1, name="mine") as pool:
        async with pool.watch(every=0.01, stream=out):
            task = pool.submit(pass_gate, gate.path)
            await gate.met()
            await out.written.until("longest")
            gate.open()
            await task
        lines = out.getvalue().splitlines()
        assert re.fullmatch(r"mine: 0 of 0 finished, 0 queued, 0/1 slots busy, [\d.]+ [mu]?s", lines[0])
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
        await terminal.written.until("the one")
        gate.open()
        await task
    text = terminal.text()
    assert "pool 'mine' open for" in text and "finished" in text and "health" in text
    assert "\x1b[1A" in text, "it is redrawn in place"
    assert "1 succeeded" in text.rsplit("pool 'mine'", 1)[1] and not threads()


async def test_silent_when_told_and_without_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Out()
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
    out = Out()
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
    out = Out()
    async with Pool(local=1) as pool:
        with pytest.raises(KeyError):
            async with pool.watch(every=0.01, stream=out):
                raise KeyError
        assert not threads() and out.getvalue().count("\n") >= 1


# --- map(progress=True)


def fail_for_some(item: int) -> int:
    if item % 10 == 3:
        raise ValueError(item)
    return item


def as_stderr(monkeypatch: pytest.MonkeyPatch) -> Out:
    """Return what stands for standard error in this test (a fixture could not: pytest puts another one in place behind it)."""
    out = Out()
    monkeypatch.setattr(sys, "stderr", out)
    return out


async def test_progress_of_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(monkeypatch)
    async with Pool(local=2) as pool:
        found = await pool.map(fail_for_some, range(100), on_error="return", progress=True)
        assert sum(isinstance(value, ValueError) for value in found) == 10 and not threads()
    lines = err.getvalue().splitlines()
    assert re.fullmatch(r"tests.pool.test_watch.fail_for_some: 0 of 100, 0%, .*s", lines[0])
    assert re.fullmatch(r"tests.pool.test_watch.fail_for_some: 100 of 100, 100%, [\d,.e+]+/s, 10 failed, [\d.]+ [mu]?s", lines[-1])


async def test_progress_says_when_it_will_be_done(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(monkeypatch)
    monkeypatch.setattr(screen, "LINE_SECONDS", 0.01)
    async with Pool(local=2) as pool, pool.map(pass_gate, [gate.path] * 4, chunk=1, progress=True) as results:
        await gate.met(2)
        gate.open(1)
        await err.written.until(r"1 of 4, 25%, [\d.]+/s, ETA ")
        gate.open(3)
        assert [result async for result in results] == [None] * 4
    assert "4 of 4, 100%" in err.getvalue().splitlines()[-1]


async def endless() -> Any:
    number = 0
    while True:
        yield number
        number += 1


async def test_progress_where_nobody_knows_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(monkeypatch)
    async with Pool(local=1) as pool:
        async with pool.map(abs, endless(), limit=4, progress=True) as results:
            async for result in results:
                if result >= 5:
                    break
        assert not threads()
        await pool.map(abs, (number for number in range(3)), progress=True)
    lines = err.getvalue().splitlines()
    assert not [line for line in lines if "%" in line or "ETA" in line]
    assert re.match(r"builtins.abs: 3, [\d,.e+]+/s, ", lines[-1])


async def test_progress_of_maps_that_fail_or_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(monkeypatch)
    async with Pool(local=1) as pool:
        with pytest.raises(ValueError, match="3"):
            await pool.map(fail_for_some, range(10), progress=True, chunk=1)
        last = err.getvalue().splitlines()[-1]
        assert "1 failed" in last and "ETA" not in last and not threads()
        results = pool.map(abs, endless(), limit=4, progress=True)
        async for _ in results:
            break
        display = results._display
        del results
        gc.collect()
        assert display is not None and display._timer is None, "no timer is left of it"


@pytest.mark.usefixtures("no_rich")
async def test_progress_on_a_terminal_without_rich(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    async with Pool(local=1) as pool:
        await pool.map(abs, range(10), progress=True)
    assert "10 of 10, 100%" in terminal.text().split(WIPE)[-1]


async def test_progress_on_a_terminal_with_rich(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    async with Pool(local=1) as pool:
        await pool.map(abs, range(10), progress=True)
    assert "10 of 10 100%" in re.sub(r"\x1b\[[\d;?]*\w", "", terminal.text())


async def test_no_progress_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    err = as_stderr(monkeypatch)
    async with Pool(local=1) as pool:
        await pool.map(abs, range(10))
        with pytest.raises(TypeError, match="progress=1: give True or False"):
            pool.map(abs, range(10), progress=1)  # type: ignore[call-overload]
    assert err.getvalue() == ""
