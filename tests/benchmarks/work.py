"""What the tasks of the benchmarks do; this runs in the slots, so it imports little."""

from __future__ import annotations

import time
from typing import Any


def identity(value: Any) -> Any:
    """Return the argument: a task that costs nothing, and whose answer can be checked."""
    return value


class Blob:
    """A large buffer that travels beside its pickle, as an array's memory does."""

    def __init__(self, data: Any) -> None:
        self.data = bytearray(data) if isinstance(data, bytes) else data

    def __reduce__(self) -> tuple[Any, ...]:
        from pickle import PickleBuffer

        return Blob, (PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and memoryview(self.data) == memoryview(other.data)

    __hash__ = None  # type: ignore[assignment]


def size_of(data: bytes) -> int:
    """Return the length: a large argument, a small answer."""
    return len(data)


def busy(seconds: float) -> None:
    """Keep a core busy for this long. By the clock, so that a neighbour's load is not counted against the pool."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def arrive_and_hold(gate: str, with_child: bool = False) -> None:
    """Tell the gate the ids of this process and of its child, if it is to have one; then wait until the gate opens."""
    import json
    import os
    import socket
    import subprocess

    pids = [os.getpid()]
    if with_child:
        pids.append(subprocess.Popen(["sleep", "1000"]).pid)
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(gate)
        link.sendall(json.dumps(pids).encode() + b"\n")
        link.recv(1)
