"""The scoreboard, shown again and again while a block runs.

Guarantees
    Between two looks nothing happens. At the end of the block the last state is shown, and no timer and no thread of it is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import isfinite
from types import TracebackType
from typing import Any, Self, TextIO

from ..errors import UsageError
from ..status import PoolStatus
from ..status.words import Table, in_units
from .screen import Screen, screen_on

SHOWN = 20
"""So many running attempts are shown."""


class Watch:
    """What `Pool.watch` returns: an `async with` block."""

    def __init__(self, look: Callable[[], PoolStatus], every: float | None, stream: TextIO | None, quiet: bool) -> None:
        if every is not None and not is_seconds(every):
            raise ValueError(f"every={every!r}: give seconds above 0, or None")
        self._look = look
        self._every = every
        self._stream = stream
        self._quiet = quiet
        self._screen: Screen | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seconds = 0.0

    async def __aenter__(self) -> Self:
        if self._timer is not None:
            raise UsageError("this watch has begun: ask the pool for another one")
        found = None if self._quiet else screen_on(self._stream)
        if found is not None:
            self._screen, seconds = found
            self._seconds = seconds if self._every is None else self._every
            self._show()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        screen, self._screen = self._screen, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if screen is not None:
            self._draw(screen)
            screen.end()

    def _show(self) -> None:
        if self._screen is not None:
            self._draw(self._screen)
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._show)

    def _draw(self, screen: Screen) -> None:
        status = self._look()
        screen.show(lambda: as_line(status), lambda: _as_rich(status))


def is_seconds(value: object) -> bool:
    """Return whether something is a number of seconds above 0."""
    return not isinstance(value, bool) and isinstance(value, (int, float)) and isfinite(value) and value > 0


def as_line(status: PoolStatus) -> str:
    """Return how things stand, in one line."""
    parts = [
        f"{status.name}: {status.finished} of {status.submitted} finished",
        *([f"{status.failed} failed"] if status.failed else []),
        *([f"{status.retried} retried"] if status.retried else []),
        f"{status.queued} queued",
        f"{status.busy}/{status.max_slots} slots busy",
        *([f"p50 {in_units(status.p50)}, p95 {in_units(status.p95)}"] if status.p50 is not None else []),
        *([f"longest runs for {in_units(status.attempts[0].seconds)}"] if status.attempts else []),
        *[f"{host.name} is {host.state}" for host in status.hosts if host.state in ("down", "failed")],
        in_units(status.uptime_seconds),
    ]
    return ", ".join(parts)


def _as_rich(status: PoolStatus) -> Any:
    from rich.console import Group
    from rich.text import Text

    notes = [f"  note: {note}" for note in status.notes]
    tables = [_rich_table(table) for table in (status._hosts_table(), status._attempts_table(SHOWN)) if table[1]]
    more = len(status.attempts) - SHOWN
    rest = [Text(line) for line in ([f"  ... and {more} more"] if more > 0 else []) + notes]
    return Group(*(Text(line) for line in status._lines()), *tables, *rest)


def _rich_table(table: Table) -> Any:
    from rich.table import Table as RichTable
    from rich.text import Text

    names, rows = table
    made = RichTable(box=None, pad_edge=False, padding=(0, 1))
    last = len(names) - 1
    for place, name in enumerate(names):
        made.add_column(name, justify="left" if place in (0, last) else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row[:-1]), Text(row[-1], style="" if row[-1] == "up" else "red"))
    return made


__all__ = ["Watch", "as_line"]
