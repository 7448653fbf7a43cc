"""The progress line on a real (pseudo) terminal, and its silence everywhere else."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from aioparallel._cli.progress import REDRAW_SECONDS, WIPE, Progress


class Terminal:
    """A pseudo terminal: a stream to write to, and what came out of it."""

    def __init__(self) -> None:
        self._far, near = pty.openpty()
        self.stream: TextIO = os.fdopen(near, "w")

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self) -> str:
        """Return all that was written since the last time. What is written appears at the other end a little later: so, a last mark."""
        self.stream.write("\0")
        self.stream.flush()
        text = ""
        while not text.endswith("\0"):
            text += os.read(self._far, 65536).decode()
        return text[:-1]

    def close(self) -> None:
        self.hang_up()
        with contextlib.suppress(OSError):  # what could not be written any more is flushed once again
            self.stream.close()

    def hang_up(self) -> None:
        if self._far >= 0:
            os.close(self._far)
            self._far = -1


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    yield made
    made.close()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_line_is_drawn_rewritten_and_wiped(terminal: Terminal) -> None:
    terminal.resize(100)
    clock = Clock()
    with Progress("work", 1000, terminal.stream, clock) as progress:
        assert terminal.read() == WIPE + "work  [........................]    0%  0 of 1,000  0.0 s"
        clock.now += 2
        progress.update(500)
        assert terminal.read() == WIPE + "work  [############............]   50%  500 of 1,000  2.0 s"
    assert terminal.read() == WIPE


def test_line_is_redrawn_only_now_and_then(terminal: Terminal) -> None:
    terminal.resize(100)
    clock = Clock()
    with Progress("work", 1000, terminal.stream, clock) as progress:
        for done in range(1, 500):
            progress.update(done)
        clock.now += REDRAW_SECONDS
        progress.update(500)
        assert terminal.read().count(WIPE) == 2


@pytest.mark.parametrize("columns", [1, 5, 19, 20, 40, 72, 73, 79, 200])
def test_line_never_wraps(terminal: Terminal, columns: int) -> None:
    clock = Clock()
    with Progress("stdlib census", 1790, terminal.stream, clock) as progress:
        terminal.read()
        terminal.resize(columns)
        clock.now += 1
        progress.update(1234)
        drawn = terminal.read().removeprefix(WIPE)
    whole = "stdlib census  [################........]   69%  1,234 of 1,790  1.0 s"
    assert drawn == (whole if len(whole) < columns else "stdlib census   69%"[: columns - 1])


def test_line_is_wiped_when_the_work_fails(terminal: Terminal) -> None:
    with pytest.raises(KeyboardInterrupt), Progress("work", 10, terminal.stream):  # noqa: PT012 - the drawn line is not of interest
        terminal.read()
        raise KeyboardInterrupt
    assert terminal.read() == WIPE


def test_a_terminal_without_a_size_has_eighty_columns(terminal: Terminal) -> None:
    with Progress("work", 10, terminal.stream):
        assert "0 of 10" in terminal.read()


def test_a_terminal_that_goes_away_costs_nothing(terminal: Terminal) -> None:
    clock = Clock()
    with Progress("work", 10, terminal.stream, clock) as progress:
        terminal.hang_up()
        clock.now += 1
        progress.update(5)
        clock.now += 1
        progress.update(6)


def test_no_stderr_no_line() -> None:
    with Progress("work", 10, None) as progress:
        progress.update(10)


def test_no_terminal_no_line() -> None:
    stream = io.StringIO()
    with Progress("work", 10, stream, Clock()) as progress:
        progress.update(10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_a_terminal_that_cannot_rewrite_a_line_gets_none(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, term: str | None) -> None:
    monkeypatch.delenv("TERM")
    if term is not None:
        monkeypatch.setenv("TERM", term)
    with Progress("work", 10, terminal.stream):
        pass
    assert terminal.read() == ""
