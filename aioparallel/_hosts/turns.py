"""Turns: only so many at a time may dial one address.

sshd refuses connections at random while ten of them have not logged in yet (MaxStartups 10:30:100 in sshd_config(5)); others' count too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

AT_A_TIME = 4
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, tuple[asyncio.Semaphore, list[None]]]] = WeakKeyDictionary()
"""Of each loop and address: who may go, and a mark for each that waits or goes."""


@asynccontextmanager
async def turn(address: Hashable) -> AsyncIterator[None]:
    """Wait until fewer than AT_A_TIME of this loop are at it, and hold one place. If cancelled: the place in the queue is free."""
    places = _turns.setdefault(asyncio.get_running_loop(), {})
    free, marks = places.setdefault(address, (asyncio.Semaphore(AT_A_TIME), []))
    marks.append(None)
    try:
        async with free:
            yield
    finally:
        marks.pop()
        if not marks:
            del places[address]


__all__ = ["AT_A_TIME", "turn"]
