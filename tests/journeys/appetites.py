"""Tasks that eat memory, in steps or at once, themselves or through a child. All sizes are bytes."""

from __future__ import annotations

import os
import sys
import time

STEP = 8 << 20


def grow(size: int, then_sleep: float = 0.0) -> int:
    """Take and touch memory in small steps."""
    held = [b"x" * STEP for _ in range(0, size, STEP)]
    time.sleep(then_sleep)
    return len(held) * STEP


def sprint(size: int) -> int:
    """Take it all in one call."""
    return len(bytearray(b"x") * size)


def sprint_and_hide_it(size: int) -> str:
    """A task may catch MemoryError, as it may catch everything."""
    try:
        sprint(size)
    except MemoryError:
        return "went on with less"
    return "had it all"


def grow_in_a_grandchild(size: int) -> int:
    """The memory is held two processes further down, in a session of its own."""
    program = f"import time; held = b'x' * {size}; time.sleep(1000)"
    child = os.fork()
    if not child:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.execv(sys.executable, [sys.executable, "-c", program])
    os.waitpid(child, 0)
    time.sleep(1000)
    raise AssertionError


def make_bytes(size: int) -> bytes:
    return b"\xa5" * size


kept = bytearray()


def keep(size: int) -> None:
    """Hold memory beyond the task's end."""
    global kept
    kept = bytearray(b"x") * size


def make_array(size: int) -> object:
    import numpy as np

    array = np.full(size, 165, dtype=np.uint8)
    array[-1] = 1
    return array
