"""Memory for large buffers, and what may be one. Apart from the codec, since an agent needs no pickle."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
Buffers = tuple[Buffer, ...]

HUGE = 1 << 22
"""Bytes. The page faults of fresh memory cost eight times the copy itself: 4 MiB took 3.5 ms, in huge pages 0.4, 64 MiB 48 and 8 ms.
Smaller pieces malloc more often has at hand, and then it is twice as fast."""


def memory(size: int) -> bytearray | memoryview:
    """Return `size` bytes of writable memory of our own, in huge pages where that is worth while and the system has them."""
    if size >= HUGE:
        import mmap

        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                room.madvise(mmap.MADV_HUGEPAGE)
                return memoryview(room)
            except OSError:
                pass  # a kernel built without them; where there is no memory at all, bytearray says so
    return bytearray(size)


__all__ = ["HUGE", "Buffer", "Buffers", "memory"]
