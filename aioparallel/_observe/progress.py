"""How far a map is: a line on standard error, drawn again and again until the map ends.

Guarantees
    Between two looks nothing happens. The last state stays, however the map ended. A map that is dropped takes its line along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple, TextIO

from ..status.words import in_units
from .screen import screen_on

BAR_COLUMNS = 24


class State(NamedTuple):
    """How far it is."""

    name: str
    done: int
    failed: int
    total: int | None
    seconds: float
    ended: bool

    @property
    def share(self) -> float | None:
        """0..1; None: nobody knows."""
        if self.total is None or self.total < self.done:
            return None  # (a length that was only a hint, and wrong)
        return self.done / self.total if self.total else 1.0

    def words(self) -> list[str]:
        """Return count, share, rate, failures, and how long it takes still."""
        share = self.share
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        words = [f"{self.done:,}" if share is None else f"{self.done:,} of {self.total:,}"]
        words += [f"{share:.0%}"] if share is not None else []
        words += [f"{rate:,.3g}/s" if rate < 100 else f"{rate:,.0f}/s"] if self.done else []
        words += [f"{self.failed:,} failed"] if self.failed else []
        left = self.total is not None and share is not None and self.total - self.done
        return [*words, f"ETA {in_units(left / rate)}" if left and rate and not self.ended else in_units(self.seconds)]

    def line(self) -> str:
        """Return all of it in one line."""
        return f"{self.name}: {', '.join(self.words())}"

    def rich(self) -> Any:
        """Return what `rich` renders."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        bar = [ProgressBar(total=1.0, completed=self.share, width=BAR_COLUMNS)] if self.share is not None else []
        grid.add_row(Text(self.name), *bar, *(Text(word, style="red" if word.endswith("failed") else "") for word in self.words()))
        return grid


class MapProgress:
    """Shows how far a map is, from now until `end` or `drop`."""

    def __init__(self, name: str, total: int | None, counts: Callable[[], tuple[int, int]], stream: TextIO | None = None) -> None:
        self._name = name
        self._total = total
        self._counts = counts
        self._began = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        found = screen_on(stream)
        if found is not None:
            self._screen, self._seconds = found
            self._loop = asyncio.get_running_loop()
            self._again()

    def _again(self) -> None:
        self._draw()
        self._timer = self._loop.call_later(self._seconds, self._again)

    def _draw(self, ended: bool = False) -> None:
        done, failed = self._counts()
        state = State(self._name, done, failed, self._total, monotonic() - self._began, ended)
        self._screen.show(state.line, state.rich)

    def end(self) -> None:
        """Show the last state, and go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._draw(ended=True)
            self._screen.end()

    def drop(self) -> None:
        """Go, without waiting for the last state to be drawn: whoever collects garbage must not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._screen.end(0.0)


__all__ = ["MapProgress"]
