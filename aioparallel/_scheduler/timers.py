"""What is to be done at a time: a heap, from which what nobody waits for any more is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from .lifecycle import SETTLED

NEVER = float("inf")
SLACK = 1024
"""So many entries that nobody waits for are let be."""


class Timers:
    """Entries of (when, kind, what); a "deadline" or "retry" is of a weak reference to a task."""

    __slots__ = ("_count", "_heap", "_limit")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Any]] = []
        self._count = 0
        self._limit = SLACK

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float:
        """When the first is due (inf: none is)."""
        return self._heap[0][0] if self._heap else NEVER

    def at(self, when: float, kind: str, what: object) -> None:
        """Have something done at a time."""
        self._count += 1
        heappush(self._heap, (when, self._count, kind, what))
        if len(self._heap) > self._limit:
            self._heap = [entry for entry in self._heap if not _is_over(entry[2], entry[3])]
            heapify(self._heap)
            self._limit = 2 * len(self._heap) + SLACK

    def due(self, now: float) -> Iterator[tuple[str, Any]]:
        """Take out, one after the other, what is due."""
        while self._heap and self._heap[0][0] <= now:
            yield heappop(self._heap)[2:]


def _is_over(kind: str, what: Any) -> bool:
    if kind not in ("deadline", "retry"):
        return False
    task = what()
    return task is None or task._state in SETTLED


__all__ = ["Timers"]
