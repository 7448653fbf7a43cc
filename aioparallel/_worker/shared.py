"""The shared values of a slot: each is opened when a task first names it, and kept for those that follow.

Guarantees
    All tasks of a slot get the same object, until its handle is gone. Arrays in it cannot be written to where they lie in memory that
    slots share. A value that cannot be opened costs the attempts that name it, each with a SerializationError that says which it is.
"""

from __future__ import annotations

import os
import sys

from .._wire.codec import loads
from .._wire.messages import unpack
from ..errors import SerializationError
from .region import offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .._wire.memory import Buffers


class Values:
    """Shared values by number."""

    __slots__ = ("_opened", "_told", "mapping")

    def __init__(self) -> None:
        self._told: dict[int, tuple[bytes, Buffers]] = {}
        self._opened: dict[int, Any] = {}
        self.mapping: Callable[[int], None] | None = None
        """Called with the bytes of shared memory that are about to be mapped."""

    def __len__(self) -> int:
        return len(self._told)

    def __contains__(self, number: int) -> bool:
        return number in self._told

    def tell(self, number: int, body: bytes, buffers: Buffers) -> None:
        """Take in a SHARE frame."""
        self._told[number] = body, buffers

    def drop(self, numbers: Iterable[int]) -> None:
        """Let go of values that will not be named again."""
        for number in numbers:
            self._told.pop(number, None)
            self._opened.pop(number, None)

    def value(self, number: int) -> Any:
        """Return a value, opening it where that is due. Raises SerializationError, and what is no Exception of what its opening raises."""
        if number in self._opened:
            return self._opened[number]
        if number not in self._told:
            raise SerializationError(f"shared value {number} is not here any more: its handle is gone")
        body, buffers = self._told[number]
        name, sizes, where, data = unpack(body)
        try:
            value = self._open(sizes, where, buffers[0] if buffers else data)
        except Exception as error:
            from .failures import in_words

            raise SerializationError(f"the shared value {number} {name!r} could not be rebuilt: {in_words(error)}") from error
        self._opened[number] = value
        return value

    def _open(self, sizes: tuple[int, ...], where: tuple[str, int, int] | str | None, data: Any) -> Any:
        if isinstance(where, str):
            raise MemoryError(where)  # noqa: TRY004 - it is no mistake, but what the host said
        starts = offsets(sizes)
        if where is None:
            room = memoryview(data).toreadonly()
        else:
            if self.mapping is not None:
                self.mapping(starts[-1])
            room = mapped(where, starts[-1])
        pickled, *buffers = (room[start : start + size] for start, size in zip(starts, sizes, strict=False))
        return loads(pickled, buffers)


def mapped(where: tuple[str, int, int], size: int) -> memoryview:
    """Return the memory of a region, read-only. Raises OSError where it is not there any more.

    All of its pages are taken at once: so the slot has them from then on, and no task is charged for those that it is the first to read.
    """
    import mmap

    path, device, inode = where
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino, found.st_size) != (device, inode, size):
            raise FileNotFoundError(f"{path} is another file now")
        more: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        return memoryview(mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ, **more))
    finally:
        os.close(fd)


current = Values()
"""Those of the slot that this process is, or whose task it runs."""


def value(number: int) -> Any:
    """Stand in pickles for a shared value."""
    return current.value(number)


__all__ = ["Values", "value"]
