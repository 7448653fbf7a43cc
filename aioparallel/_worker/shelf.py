"""The user's modules that a far agent has, where a Python that a task starts can import them too: as a zip in the agent's memory.

multiprocessing's "spawn", say, gives such a Python the `sys.path` of its parent, but not our import hooks.
"""

from __future__ import annotations

import os
from binascii import crc32
from struct import pack

from .page import make_nameless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .imports import Answer


class Shelf:
    """A file in memory, and the modules in it."""

    def __init__(self, modules: dict[str, Answer]) -> None:
        self._fd = make_nameless("aioparallel-modules")
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        """What stands on the `sys.path` of slots."""
        self.modules = dict(modules)
        self._write()

    def add(self, modules: dict[str, Answer]) -> None:
        """Take more modules in."""
        self.modules.update(modules)
        self._write()

    def drop(self, names: tuple[str, ...]) -> None:
        """Let go of modules."""
        for name in names:
            self.modules.pop(name, None)
        self._write()

    def _write(self) -> None:
        files = [(f"{name.replace('.', '/')}{'/__init__' * package}.py", text) for name, (_, package, text) in self.modules.items()]
        data = zipped(files)
        os.ftruncate(self._fd, 0)
        while data:
            data = data[os.write(self._fd, data) :]
        os.lseek(self._fd, 0, os.SEEK_SET)


def zipped(files: list[tuple[str, bytes]]) -> bytes:
    """Return a zip of files by name, not compressed.

    By APPNOTE.TXT, 4.3; `zipfile` would take slots ten milliseconds to import.
    """
    body, directory = bytearray(), bytearray()
    for name, data in files:
        path = name.encode()
        # version needed, flags (0x800: names are UTF-8), method, time, date, crc, sizes, lengths of name and extra field
        common = pack("<HHHHHIIIHH", 20, 0x800, 0, 0, 0x21, crc32(data), len(data), len(data), len(path), 0)
        directory += pack("<IH", 0x02014B50, 20) + common + pack("<HHHII", 0, 0, 0, 0, len(body)) + path
        body += pack("<I", 0x04034B50) + common + path + data
    end = pack("<IHHHHIIH", 0x06054B50, 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + end)


__all__ = ["Shelf"]
