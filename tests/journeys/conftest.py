"""Pools for the journeys: one fixture, so that every journey runs on every kind of host."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from aioparallel import Pool

HOSTS = ["local"]
"""Where the slots are. Another kind of host that keeps the same promises is one more word here."""
BYSTANDERS = 30

OpenPool = Callable[..., AbstractAsyncContextManager[Pool]]


@pytest.fixture(params=HOSTS)
def open_pool(request: pytest.FixtureRequest) -> OpenPool:
    """Return `open_pool(slots=2, *, bystanders=True, **options)`: a pool amid whose other tasks the journey takes place.

    When the block is left normally, the other tasks have all succeeded and the pool is usable; that nothing is left behind when the
    journey is over is seen to by the fixture that every test has (`leaves_nothing_behind`). `bystanders=False` is for a journey in
    which the pool itself ends.
    """

    @asynccontextmanager
    async def opened(slots: int = 2, *, bystanders: bool = True, **options: Any) -> AsyncIterator[Pool]:
        async with Pool(local=slots, **options) as pool:
            if not bystanders:
                yield pool
                return
            before = [pool.submit(operator.neg, number) for number in range(BYSTANDERS)]
            await before[0]
            yield pool
            after = [pool.submit(operator.neg, number) for number in range(BYSTANDERS)]
            assert await asyncio.gather(*before, *after) == 2 * [-number for number in range(BYSTANDERS)]
            assert all(task.attempts[-1].outcome == "succeeded" for task in before + after)

    return opened
