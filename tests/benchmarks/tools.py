"""What several families need: a gate that holds tasks, memory and life of processes from /proc, quantiles."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Self

MIB = 1 << 20


class Gate:
    """A place where tasks say that they have begun, and then wait: `work.arrive_and_hold(gate.path)`.

    So a benchmark knows that its slots are occupied without waiting for a time to pass.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.path = os.path.join(self._folder.name, "gate")
        self._arrived: asyncio.Queue[list[int]] = asyncio.Queue()
        self._links: list[asyncio.StreamWriter] = []
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._on_link, self.path)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        self.open()
        self._folder.cleanup()

    async def arrival(self) -> list[int]:
        """Wait for the next task to begin, and return the ids of its processes."""
        return await self._arrived.get()

    def open(self) -> None:
        """Let everyone go who waits."""
        while self._links:
            self._links.pop().close()

    async def _on_link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links.append(writer)
        line = await reader.readline()
        if line:
            self._arrived.put_nowait(json.loads(line))


def resident_bytes() -> int:
    """Return this process's resident memory."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled_resident_bytes() -> int:
    """Return the same, without garbage that only waits to be collected."""
    gc.collect()
    return resident_bytes()


def proportional_bytes(pid: int) -> int:
    """Return a process's PSS: its own memory, and its share of what it has in common with others."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss in the smaps_rollup of process {pid}")


def lives(pid: int) -> bool:
    """Return whether the process still runs; one that only waits for its parent to reap it does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


def quantile(figures: Sequence[float], share: float) -> float:
    """Return the smallest figure that at least `share` of all do not exceed (the nearest-rank quantile)."""
    ordered = sorted(figures)
    return ordered[max(-int(-share * len(ordered) // 1), 1) - 1]
