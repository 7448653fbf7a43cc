"""Whoever waits longest is placed first, whatever it waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from aioparallel import Pool, Task
from aioparallel._jobs.submitting import Submitter
from tests.far.loopback import Loopback

SHORT = 0.02


async def learn(pool: Pool) -> None:
    """Have it known how long the short tasks take, so that they are sent ahead."""
    await asyncio.gather(*(pool.submit(time.sleep, SHORT) for _ in range(4)))


async def crowd_until_done(size: int, crowd: Submitter, submit: Callable[[], Task[Any]]) -> None:
    """Have short tasks wait at any moment; wait for one more that comes among them."""
    is_over = False

    async def go_on() -> None:
        while not is_over:
            await crowd.submit(time.sleep, SHORT)

    crowding = [asyncio.create_task(go_on()) for _ in range(size)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await submit()
    finally:
        is_over = True
        await asyncio.gather(*crowding)


@pytest.mark.parametrize("size", [6, 20])
@pytest.mark.parametrize(("local", "hosts"), [(0, 1), (1, 0), (1, 1)])
async def test_an_isolated_task_is_not_passed_over_for_younger_ones(local: int, hosts: int, size: int) -> None:
    async with Pool(local=local, hosts=[Loopback(f"h{n}", slots=1) for n in range(hosts)]) as pool:
        await pool.ready(hosts=local + hosts, timeout=60)
        await learn(pool)
        await crowd_until_done(size, pool, lambda: pool.options(isolate=True).submit(abs, -1))
        alone = pool.options(isolate=True).submit(abs, -1)
        others = [pool.submit(time.sleep, SHORT) for _ in range(200)]
        await alone
        assert not all(task.done() for task in others)


@pytest.mark.parametrize("size", [6, 20])
@pytest.mark.parametrize("wanted", [{}, {"isolate": True}, {"idempotent": False}])
async def test_a_task_that_may_go_to_few_hosts_is_not_passed_over_for_younger_ones(wanted: dict[str, Any], size: int) -> None:
    async with Pool(local=0, hosts=[Loopback("a", slots=1), Loopback("b", slots=1)]) as pool:
        await pool.ready(hosts=2, timeout=60)
        await learn(pool)
        await crowd_until_done(size, pool.options(hosts=["a", "b"]), lambda: pool.options(hosts=["b"], **wanted).submit(time.sleep, 0.1))
        await crowd_until_done(size, pool, lambda: pool.options(hosts=["b"], **wanted).submit(time.sleep, 0.1))
