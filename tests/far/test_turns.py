"""Who may dial an address, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aioparallel import Pool
from aioparallel._hosts import far_host, turns
from aioparallel.errors import HostError

from .loopback import Loopback, LoopbackHost


async def test_a_few_hold_an_address_and_who_is_cancelled_leaves_the_queue() -> None:
    inside: list[int] = []
    out = [asyncio.Event() for _ in range(7)]

    async def one(number: int, address: str = "box") -> None:
        async with turns.turn(address):
            inside.append(number)
            await out[number].wait()
            inside.remove(number)

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    other = asyncio.create_task(one(6, "other"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inside == [0, 1, 2, 3, 6]
    tasks[4].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[4]
    out[2].set()
    await tasks[2]
    await asyncio.sleep(0)
    assert inside == [0, 1, 3, 6, 5]
    for event in out:
        event.set()
    await asyncio.gather(*tasks[:4], tasks[5], other)
    assert not turns._turns[asyncio.get_running_loop()]


async def test_the_time_to_dial_begins_with_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_host, "CONNECT_SECONDS", 0.05)

    class Queued(LoopbackHost):
        @asynccontextmanager
        async def turn(self) -> AsyncIterator[None]:
            await asyncio.sleep(0.3)  # longer than dialling may take
            yield

        async def dial(self, command: str, link: object) -> None:
            raise HostError(self.name, "it was dialled")

    monkeypatch.setattr(Loopback, "make", lambda self, far: Queued(self.name, **{**far, **self.more}))
    async with Pool(local=1, hosts=[Loopback(slots=1)]) as pool:
        await pool.ready()
        assert pool._engine.state.hosts["far"].reason == "it was dialled"
