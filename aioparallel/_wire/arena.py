"""Memory that is used again: where large snapshots live until they have been sent.

Guarantees
    `take` returns memory that nobody else uses. `give` makes it available again; what is kept for that is bounded. The arena is that of
    all pools in a process, whatever threads they are in.

How it works
    Fresh memory costs more than the copy into it: the kernel clears each page, and looks for huge ones. Freed blocks are kept, up to
    `KEPT_BYTES`, and the smallest that is large enough (and not twice too large) is used again.
"""

from __future__ import annotations

import mmap
from _thread import allocate_lock

KEPT_BYTES = 1 << 28
"""Bytes of free blocks that are kept."""


class Block(mmap.mmap):
    """Anonymous memory of an arena; a type of its own, so that it is known again by `memoryview.obj`."""


_free: list[Block] = []
_lock = allocate_lock()


def take(size: int) -> memoryview:
    """Return `size` bytes of writable memory, with whatever was in it before."""
    with _lock:
        fitting = [block for block in _free if size <= len(block) <= 2 * size]
        if fitting:
            block = min(fitting, key=len)
            _free.remove(block)
            return memoryview(block)[:size]
    block = Block(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            block.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a kernel built without them
    return memoryview(block)[:size]


def give(buffers: tuple[object, ...]) -> None:
    """Take back what of these buffers came from here. They must not be used any more."""
    with _lock:
        for buffer in buffers:
            block = buffer.obj if isinstance(buffer, memoryview) else None
            if type(block) is Block and block not in _free:
                _free.append(block)
        while sum(map(len, _free)) > KEPT_BYTES:
            _free.pop(0)


def clear() -> None:
    """Let go of all free memory."""
    with _lock:
        _free.clear()
