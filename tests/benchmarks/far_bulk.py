"""What large values cost on a far host, that the loop turns meanwhile, and that a cancel and a heartbeat get through beside them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from typing import Any

from .far_bed import FarMachine, RawChannel, bed, no_sshd
from .measure import OURS, Measure, Row, Sample
from .tools import MIB, Gate, lives, quantile
from .work import Blob, arrive_and_hold, identity, size_of

ECHOES = 5
CHUNKS = 1 << 16, 1 << 18
WINDOWS = 1 << 21, 1 << 26
"""asyncssh's own window, and one that holds all that is sent."""
WHOLE = """import os, sys
size = int(sys.stdin.buffer.raw.readline())
while True:
    room = memoryview(bytearray(size))
    at = 0
    while at < size:
        count = os.readv(0, [room[at:]])
        if not count:
            sys.exit()
        at += count
    at = 0
    while at < size:
        at += os.write(1, room[at:])
"""
"""As a task must: it has all of its argument before it answers."""
STREAM = "import os\nos.read(0, 9)\nwhile d := os.read(0, 1 << 18):\n    d = memoryview(d)\n    while d: d = d[os.write(1, d):]"
"""What no task can do: answer with the beginning before the end has come."""
LINK_KBIT = 4000
HELD = 3
"""Tasks that run beside the upload, to be cancelled one after the other."""


class Ticker:
    """How long the loop does not turn at the most."""

    def __init__(self) -> None:
        self.gaps: list[float] = []

    async def run(self) -> None:
        """Ask for a turn each millisecond."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.gaps.append(now - last)
            last = now

    def figures(self) -> Sample:
        """Return the longest of all, and the quantile of 99 %."""
        return {"gap_ms": max(self.gaps) * 1000, "gap_p99_ms": quantile(self.gaps, 0.99) * 1000}


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    """Watch the loop."""
    ticker = Ticker()
    task = asyncio.create_task(ticker.run())
    try:
        yield ticker
    finally:
        task.cancel()
        await asyncio.wait([task])


async def far_echo(size: int, wrap: Callable[[bytes], Any] = Blob, copy: bool = True) -> Sample:
    """Send a large value to a far slot and get it back, one at a time."""
    from aioparallel import Pool

    value = wrap(os.urandom(size))
    with bed() as (machine,):
        async with Pool(local=0, hosts=[machine.entry(1)]) as pool:
            submit = pool.options(copy=copy).submit
            await submit(identity, value)
            async with ticking() as ticker:
                seconds = []
                for _ in range(ECHOES):
                    began = time.perf_counter()
                    answer = await submit(identity, value)
                    seconds.append(time.perf_counter() - began)
                    del answer
                figures = ticker.figures()
            assert await pool.submit(identity, value) == value
    return {"mb_per_s": 2 * size / min(seconds) / 1e6, **figures}


async def raw_echo(size: int, program: str = WHOLE) -> Sample:
    """Do the same over a bare channel, written in chunks of two sizes with two windows; return the figures of the fastest."""
    best: Sample = {}
    with bed() as (machine,):
        for chunk, window in product(CHUNKS, WINDOWS):
            figures = await _raw_echo(machine, size, program, chunk, window)
            if not best or figures["mb_per_s"] > best["mb_per_s"]:
                best = figures
    return best


async def _raw_echo(machine: FarMachine, size: int, program: str, chunk: int, window: int) -> Sample:
    data = memoryview(os.urandom(size))
    async with RawChannel(machine, program, window=window) as raw:
        raw.channel.write(b"%8d\n" % size)
        async with ticking() as ticker:
            seconds = []
            for _ in range(ECHOES):
                began = time.perf_counter()
                for at in range(0, size, chunk):
                    await raw.room()
                    raw.channel.write(bytes(data[at : at + chunk]))
                    await asyncio.sleep(0)
                answer = await raw.answer(size)
                seconds.append(time.perf_counter() - began)
            figures = ticker.figures()
            assert b"".join(answer) == data
    return {"mb_per_s": 2 * size / min(seconds) / 1e6, **figures}


async def idle_loop(size: int) -> Sample:
    """Do nothing, for about as long."""
    async with ticking() as ticker:
        await asyncio.sleep(ECHOES * 1.2 * size / (64 * MIB) + 0.1)
    return ticker.figures()


async def beside_upload(size: int) -> Sample:
    """Send a large argument over a slow link; cancel what runs there, and see how long a PONG takes."""
    from aioparallel import Pool
    from aioparallel._hosts.far import FarLink

    pongs: list[float] = []
    ponged = FarLink._ponged

    def note(link: FarLink, number: int, there: float) -> None:
        pongs.append(time.monotonic() - link._pings[number][0])
        ponged(link, number, there)

    FarLink._ponged = note  # type: ignore[method-assign]
    cancels: list[float] = []
    beside = 0
    async with Gate() as gate:
        with bed(kbit_per_s=LINK_KBIT) as (machine,):
            async with Pool(local=0, hosts=[machine.entry(HELD + 1)], heartbeat=0.1) as pool:
                held = [(pool.submit(arrive_and_hold, gate.path), await gate.arrival()) for _ in range(HELD)]
                await asyncio.sleep(0.5)  # so that the link carries nothing but heartbeats
                pongs.clear()
                upload = pool.submit(size_of, os.urandom(size))
                began = time.perf_counter()
                pause = size * 8 / (LINK_KBIT * 1000) / (HELD + 1)
                for task, tree in held:
                    await asyncio.sleep(pause)
                    beside += not upload.done()
                    cancels.append(await _cancelled(task, tree))
                assert await upload == size
                seconds = time.perf_counter() - began
    return {"cancel_s": max(cancels), "pong_s": max(pongs), "beside": float(beside), "kbit_per_s": size * 8 / seconds / 1000}


async def _cancelled(task: asyncio.Future[Any], tree: list[int]) -> float:
    began = time.perf_counter()
    task.cancel()
    await asyncio.wait([task])
    seconds = time.perf_counter() - began
    assert task.cancelled()
    assert not any(map(lives, tree))
    return seconds


async def raw_upload(size: int) -> Sample:
    """Do the same over a bare channel: how long a small frame takes there and back that was written behind the bulk."""
    with bed(kbit_per_s=LINK_KBIT) as (machine,):
        async with RawChannel(machine, "import os\nwhile d := os.read(0, 65536): os.write(1, b'.' * d.count(b'!'))") as raw:
            began = time.perf_counter()
            for _ in range(0, size, CHUNKS[0]):
                await raw.room()
                raw.channel.write(bytes(CHUNKS[0]))
            asked = time.perf_counter()
            raw.channel.write(b"!")
            await raw.answer(1)
            ended = time.perf_counter()
    return {"pong_s": ended - asked, "kbit_per_s": size * 8 / (ended - began) / 1000}


SPEED = partial(Row, figure="mb_per_s", unit="MB/s", more_is_better=True)
GAP = partial(Row, figure="gap_ms", unit="ms", pick="median")

MEASURES = (
    Measure(
        name="far-echo",
        size=64 * MIB,
        least=1 << 16,
        rounds=3,
        needs=no_sshd,
        contenders={
            OURS: far_echo,
            "ours, copy=False": partial(far_echo, copy=False),
            "ours, bytes": partial(far_echo, wrap=bytes),
            "raw channel": raw_echo,
            "raw stream": partial(raw_echo, program=STREAM),
            "idle loop": idle_loop,
        },
        rows=(
            SPEED(label="far echo of 64 MiB in a buffer", peer="raw channel", ratio=0.8),
            SPEED(label="... with copy=False", ours="ours, copy=False", peer="raw channel", ratio=0.8),
            SPEED(label="... of 64 MiB of bytes", ours="ours, bytes", peer="raw channel", ratio=0.8),
            SPEED(label="... against a raw channel that need not have it all", peer="raw stream"),
            GAP(label="... the loop's longest gap meanwhile", peer="idle loop", bound=20),
            GAP(label="... with copy=False", ours="ours, copy=False", peer="idle loop", bound=20),
            GAP(label="... with bytes", ours="ours, bytes", peer="idle loop", bound=20),
            GAP(label="... of a raw channel", ours="raw channel", peer="idle loop"),
        ),
    ),
    Measure(
        name="far-upload",
        size=4 * MIB,
        least=MIB,
        rounds=2,
        needs=no_sshd,
        contenders={OURS: beside_upload, "raw channel": raw_upload},
        rows=(
            Row(label="cancel beside an upload at 4 Mbit/s, longest", figure="cancel_s", unit="s", bound=0.5, pick="worst"),
            Row(label="... heartbeat, longest", figure="pong_s", unit="s", peer="raw channel", bound=0.5, pick="worst"),
            Row(
                label="... of them begun while it lasted", figure="beside", unit=f"of {HELD}", bound=HELD, more_is_better=True, pick="worst"
            ),
            Row(label="... what the upload gets of the link", figure="kbit_per_s", unit="kbit/s", more_is_better=True, peer="raw channel"),
        ),
    ),
)
