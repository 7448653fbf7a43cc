"""One small piece of shared memory a slot: what runs there, for the agent to see without asking.

The slot writes its page as it begins and ends an attempt: no system call, under a microsecond. The agent reads it when a clock of its
own rings or when the slot has died, so it needs neither the slot's help nor a message for each task.

Guarantees
    A page names an attempt only while that very attempt runs (the ident is written twice, around the rest; a reader who sees two
    different ones came in the middle of a change, and sees no attempt).
"""

from __future__ import annotations

import mmap
import os
from struct import Struct

SIZE = 128
_RUNNING = Struct("<QddQQQ")
"""ident · began · stop_at · memory · idle baseline (bytes) · ident again"""
_U64 = Struct("<Q")
_F64 = Struct("<d")
_BASELINE = 32
_ITEM, _WATCHED, _ASK, _WHICH, _LEFT, _GRACE, _PEAK = 48, 56, 64, 72, 80, 88, 96
FOREVER = float("inf")


class _Field:
    """One number in a page, read and written in place."""

    __slots__ = ("_layout", "_offset")

    def __init__(self, layout: Struct, offset: int) -> None:
        self._layout = layout
        self._offset = offset

    def __get__(self, page: Page, _: object = None) -> float:
        return self._layout.unpack_from(page._map, page._at + self._offset)[0]  # type: ignore[no-any-return]

    def __set__(self, page: Page, value: float) -> None:
        self._layout.pack_into(page._map, page._at + self._offset, value)


class Page:
    """The page of one slot, as its slot and its agent see it."""

    __slots__ = ("_at", "_map", "_pack", "items")

    item = _Field(_U64, _ITEM)
    watched_until = _Field(_F64, _WATCHED)
    """When the agent will look by itself (CLOCK_MONOTONIC seconds), 0: it will not. A slot with an earlier limit must knock."""
    asked = _Field(_U64, _ASK)
    """The attempt that the agent asked to stop."""
    which = _Field(_U64, _WHICH)
    """Which limit `stop_at` is: BY_TIMEOUT or BY_DEADLINE."""
    leftovers = _Field(_U64, _LEFT)
    """Whether an earlier task left a thread or a process in the slot."""
    grace = _Field(_F64, _GRACE)
    """Seconds between being asked and being killed, for the running attempt."""
    peak = _Field(_U64, _PEAK)
    """The most bytes the agent has seen under the running attempt (its baseline taken off)."""

    def __init__(self, memory: mmap.mmap, index: int) -> None:
        self._map = memory
        self._at = index * SIZE
        self._pack = _RUNNING.pack_into
        self.items = memoryview(memory)[self._at + _ITEM : self._at + _ITEM + 8].cast("Q")
        """One number: which item of a chunk runs."""

    def begin(self, ident: int, began: float, stop_at: float, memory: int, baseline: int) -> None:
        """Slot: say that an attempt begins now."""
        self._pack(self._map, self._at, ident, began, stop_at, memory, baseline, ident)

    def allow(self, size: int) -> None:
        """Slot: count so many bytes more as the idle slot's: memory that slots share is not the task's which is the first to map it."""
        (baseline,) = _U64.unpack_from(self._map, self._at + _BASELINE)
        _U64.pack_into(self._map, self._at + _BASELINE, baseline + size)

    def finished(self) -> None:
        """Slot: say that the attempt has ended, so that no limit may hit it; its answer is not out yet."""
        _F64.pack_into(self._map, self._at + 16, FOREVER)
        _U64.pack_into(self._map, self._at + 24, 0)

    def clear(self) -> None:
        """Slot: say that nothing runs: the answer is in the kernel."""
        self._pack(self._map, self._at, 0, 0.0, FOREVER, 0, 0, 0)

    def wipe(self) -> None:
        """Agent: make the page new for a new slot."""
        self._map[self._at : self._at + SIZE] = bytes(SIZE)
        self.clear()

    def running(self) -> tuple[int, float, float, int, int]:
        """Agent: return (ident or 0, began, stop_at, memory, baseline)."""
        ident, began, stop_at, memory, baseline, again = _RUNNING.unpack_from(self._map, self._at)
        return (ident if ident == again else 0), began, stop_at, memory, baseline


def make_memory(slots: int) -> int:
    """Return the descriptor of memory for the pages of `slots` slots."""
    fd = make_nameless("aioparallel-pages")
    os.ftruncate(fd, max(mmap.PAGESIZE, slots * SIZE))
    return fd


def make_nameless(label: str) -> int:
    """Return the descriptor of an empty file that goes with its last descriptor."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(label)
    import tempfile

    fd, path = tempfile.mkstemp()
    os.unlink(path)
    return fd


def map_memory(fd: int) -> mmap.mmap:
    """Return the memory behind `make_memory`'s descriptor, as this process sees it."""
    return mmap.mmap(fd, os.fstat(fd).st_size)
