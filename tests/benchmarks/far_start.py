"""From nothing to the first result of a far host, to which the agent must travel; and what of that is SSH's."""

from __future__ import annotations

import time

from .far_bed import FarMachine, bed, no_sshd
from .measure import OURS, Measure, Row, Sample
from .tools import quantile
from .work import identity


async def first_result(times: int) -> Sample:
    """Open a pool with one far host and await a result, and connect by asyncssh alone, in turn."""
    import asyncssh  # noqa: F401 - 0.2 s that a program pays once, and not for each host

    totals, beyond, shakes = [], [], []
    with bed() as (machine,):
        await handshake(machine)
        await open_and_ask(machine)
        for _ in range(times):
            shakes.append(await handshake(machine))
            totals.append(await open_and_ask(machine))
            beyond.append(totals[-1] - shakes[-1])
    return {name: quantile(seconds, 0.5) * 1000 for name, seconds in (("ms", totals), ("beyond_ms", beyond), ("handshake_ms", shakes))}


async def open_and_ask(machine: FarMachine) -> float:
    """Return the seconds to the first result."""
    from aioparallel import Pool

    began = time.perf_counter()
    async with Pool(local=0, hosts=[machine.entry(1)]) as pool:
        assert await pool.submit(identity, 7) == 7
        return time.perf_counter() - began


async def handshake(machine: FarMachine) -> float:
    """Return the seconds that it takes to connect and log in."""
    import asyncssh

    began = time.perf_counter()
    connection = await asyncssh.connect(**machine.options())
    seconds = time.perf_counter() - began
    connection.abort()
    await connection.wait_closed()
    return seconds


MEASURES = (
    Measure(
        name="far-start",
        size=9,
        least=1,
        rounds=3,
        needs=no_sshd,
        contenders={OURS: first_result},
        rows=(
            Row(label="far host: from connecting to first result, less handshake", figure="beyond_ms", unit="ms", bound=300),
            Row(label="... all together", figure="ms", unit="ms"),
            Row(label="... SSH's handshake alone", figure="handshake_ms", unit="ms"),
        ),
    ),
)
