"""The bytes of one shared value, in memory that the slots of a host map: held near by the pool, far by the agent.

Guarantees
    Once it is sealed, nobody can change it, and whoever maps it has the very bytes that were written. It goes with its last reference.

How it works
    A value's pickle and its large buffers stand one behind the other in a nameless file in memory (memfd_create(2), F_SEAL_WRITE), which
    slots open by its path in /proc; device and inode say that it still is that file. What is small travels to each slot by itself, and
    so does all of it where the system has no such file.
"""

from __future__ import annotations

import os

from .._wire.frames import encode, encode_head
from .._wire.memory import memory
from .._wire.messages import SHARE, SHARE_PART, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._wire.memory import Buffer, Buffers

ALIGNED = 64
"""Bytes: what vector instructions ask for, and a cache line."""
SMALL_BYTES = 1 << 16
"""A smaller value is sent to each slot: a file of its own would cost a descriptor, and a slot more than to read it."""
PART_BYTES = 1 << 17
"""What travels in one piece to a far host: other work waits behind a piece or two, a quarter of a second each at 4 Mbit/s."""


def offsets(sizes: Iterable[int]) -> list[int]:
    """Return where each piece stands, and behind them where the last one ends."""
    found, at = [], 0
    for size in sizes:
        at = -(-at // ALIGNED) * ALIGNED
        found.append(at)
        at += size
    return [*found, at]


class Region:
    """One value's bytes. `filled`: how many of them have come; `fd`: their file, -1: there is none."""

    __slots__ = ("_room", "_where", "fd", "filled", "name", "size", "sizes")

    def __init__(self, name: str, sizes: tuple[int, ...]) -> None:
        """Take memory for pieces of these sizes (bytes). Raises OSError and MemoryError where there is none, or no descriptor."""
        self.fd = -1
        self._where: tuple[str, int, int] | None = None
        self.name = name
        self.sizes = sizes
        self.size = offsets(sizes)[-1]
        self.filled = 0
        if self.size < SMALL_BYTES or not _can_be_mapped():
            self._room = memoryview(memory(self.size))
            return
        self.fd = _above_standard(os.memfd_create("aioparallel-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        os.ftruncate(self.fd, self.size)
        found = os.fstat(self.fd)
        self._where = f"/proc/{os.getpid()}/fd/{self.fd}", found.st_dev, found.st_ino

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory; who has mapped it keeps it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def fill(self, pieces: Iterable[Buffer]) -> None:
        """Write all pieces, and seal. Raises OSError where there is no memory."""
        for at, piece in zip(offsets(self.sizes), pieces, strict=False):
            self._write(memoryview(piece).cast("B"), at)
        self.filled = self.size
        self._seal()

    def add(self, data: Buffer) -> bool:
        """Write the next bytes; return whether the last ones have come, and it is sealed. Raises OSError where there is no memory."""
        self._write(memoryview(data), self.filled)
        self.filled += len(data)
        if self.filled < self.size:
            return False
        self._seal()
        return True

    def _write(self, data: memoryview, at: int) -> None:
        if self.fd < 0:
            self._room[at : at + len(data)] = data
            return
        while data:
            count = os.pwrite(self.fd, data, at)
            data, at = data[count:], at + count

    def _seal(self) -> None:
        if self.fd >= 0:
            import fcntl

            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)

    def _read(self, at: int, count: int) -> bytes:
        return bytes(self._room[at : at + count]) if self.fd < 0 else os.pread(self.fd, count, at)

    # --- as frames

    def words(self) -> tuple[bytes, Buffers]:
        """Return body and buffers of what tells a slot of this host where the value is."""
        small = self._where is None and self.size < SMALL_BYTES
        body = pack(self.name, self.sizes, self._where, bytes(self._room) if small else b"")
        return body, () if small or self._where is not None else (self._room,)

    def said(self, number: int) -> list[Buffer]:
        """Return the frame of `words`, in pieces."""
        body, buffers = self.words()
        return [encode_head(SHARE, 0, number, body, [self.size]), *buffers] if buffers else [encode(SHARE, 0, number, body)]

    def sent(self, number: int) -> Iterator[list[Buffer]]:
        """Yield what takes this value to another host, frame by frame."""
        if self.size < SMALL_BYTES:
            yield self.said(number)
            return
        yield [encode(SHARE, 0, number, pack(self.name, self.sizes, None, b""))]
        for at in range(0, self.size, PART_BYTES):
            data = self._read(at, min(PART_BYTES, self.size - at))
            yield [encode_head(SHARE_PART, 0, number, b"", [len(data)]), data]


def _above_standard(fd: int) -> int:
    """Move a descriptor off 0-2, which it gets where the program was started with them closed."""
    if fd > 2:
        return fd
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def _can_be_mapped() -> bool:
    """Return whether other processes of ours can open what this one has; a process that must not be looked at is not even its own."""
    try:
        return hasattr(os, "memfd_create") and os.stat(f"/proc/{os.getpid()}/fd").st_uid == os.geteuid()
    except OSError:
        return False


__all__ = ["Region", "offsets"]
