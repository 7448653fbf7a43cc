"""How many tasks a second far hosts take, and how long one takes there and back; against the local pool, raw SSH, and the classic way."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from pathlib import Path

from .dispatch import RATE, no_ops
from .far_bed import ONE_WAY_MS, PYTHON, FarMachine, RawChannel, bed, no_sshd
from .latency import round_trips
from .measure import OURS, Contender, Measure, Row, Sample
from .peers import warm_up
from .tools import quantile

HOSTS = 2
SLOTS = 4
"""On each of the hosts."""
FRAME = b"x" * 100
ECHO = "import os\nwhile d := os.read(0, 65536): os.write(1, d)"
CLASSIC_SHARE = 1000
"""The classic way takes a second for each: one in so many is enough to know."""


async def far_no_ops(tasks: int, delay_ms: float = 0.0) -> Sample:
    """Do no-op tasks on two hosts."""
    from aioparallel import Pool

    with bed(HOSTS, delay_ms) as machines:
        async with Pool(local=0, hosts=[machine.entry(SLOTS) for machine in machines]) as pool:
            await pool.ready(HOSTS * SLOTS)
            await warm_up(pool.submit)
            return await no_ops(pool.submit, tasks)


async def near_no_ops(tasks: int, slots: int | None = None) -> Sample:
    """Do no-op tasks in local slots."""
    from aioparallel import Pool

    slots = slots or len(os.sched_getaffinity(0))
    async with Pool(local=slots) as pool:
        await pool.ready(slots)
        await warm_up(pool.submit)
        return await no_ops(pool.submit, tasks)


async def classic(tasks: int, at_once: int) -> Sample:
    """Do tasks as a shell script does: copy the argument there, run Python, copy the result back, remove both."""
    tasks = max(tasks // CLASSIC_SHARE, 2)
    with bed(HOSTS) as machines:
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> None:
            async with gate:
                await _classic_task(machines[number % HOSTS], number)

        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(tasks)))
        return {"tasks_per_s": tasks / (time.perf_counter() - began)}


async def _classic_task(machine: FarMachine, number: int) -> None:
    near, far = f"{machine.folder}/near{number}", f"{machine.folder}/far{number}"
    _write(near, str(number))
    program = f'print(int(open("{far}").read()), file=open("{far}.out", "w"))'
    await _run("scp", *machine.client(), near, f"127.0.0.1:{far}")
    await _run("ssh", *machine.client(), "127.0.0.1", f"{PYTHON} -c '{program}'")
    await _run("scp", *machine.client(), f"127.0.0.1:{far}.out", f"{near}.out")
    await _run("ssh", *machine.client(), "127.0.0.1", f"rm {far} {far}.out")
    assert int(_read(f"{near}.out")) == number


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


def _read(path: str) -> str:
    return Path(path).read_text()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    assert not await process.wait(), command


async def far_round_trips(tasks: int, delay_ms: float = 0.0) -> Sample:
    """Submit one task, await it, submit the next."""
    from aioparallel import Pool

    with bed(1, delay_ms) as (machine,):
        async with Pool(local=0, hosts=[machine.entry(1)]) as pool:
            await pool.ready(1)
            await warm_up(pool.submit)
            return await round_trips(pool.submit, tasks)


async def raw_round_trips(times: int, delay_ms: float = 0.0) -> Sample:
    """Send one small frame, await it, send the next."""
    with bed(1, delay_ms) as (machine,):
        async with RawChannel(machine, ECHO) as raw:
            seconds = []
            for number in range(times + 50):
                began = time.perf_counter()
                raw.channel.write(FRAME)
                assert b"".join(await raw.answer(len(FRAME))) == FRAME
                if number >= 50:
                    seconds.append(time.perf_counter() - began)
    return {"p50_us": quantile(seconds, 0.5) * 1e6, "p99_us": quantile(seconds, 0.99) * 1e6}


AS_MANY = HOSTS * SLOTS
DELAYED = "20 ms away"
DISPATCH: dict[str, Contender] = {
    OURS: far_no_ops,
    DELAYED: partial(far_no_ops, delay_ms=ONE_WAY_MS),
    f"local={AS_MANY}": partial(near_no_ops, slots=AS_MANY),
    "local=CPUs": near_no_ops,
    "scp, ssh": partial(classic, at_once=1),
    "8 at once": partial(classic, at_once=AS_MANY),
}
P50 = partial(Row, figure="p50_us", unit="us")

MEASURES = (
    Measure(
        name="far-dispatch",
        size=20_000,
        rounds=3,
        needs=no_sshd,
        contenders=DISPATCH,
        rows=(
            RATE(label="20,000 no-op tasks on 2 far hosts x 4 slots", peer="local=8", ratio=0.4),
            RATE(label="... against one local slot for each CPU", peer="local=CPUs"),
            RATE(label="... against scp, ssh, scp, ssh for each task", peer="scp, ssh", ratio=5000),
            RATE(label="... against that, eight at once", peer="8 at once"),
            RATE(label="... 20 ms away (round trip)", ours=DELAYED, peer=OURS, ratio=0.5),
            Row(label="... controller CPU a task", figure="cpu_us", unit="us", peer="local=8"),
        ),
    ),
    Measure(
        name="far-latency",
        size=1_000,
        rounds=3,
        needs=no_sshd,
        contenders={OURS: far_round_trips, "raw channel": raw_round_trips},
        rows=(
            P50(label="one far task in flight, round trip p50", peer="raw channel", ratio=1.5),
            Row(label="... p99", figure="p99_us", unit="us", peer="raw channel"),
        ),
    ),
    Measure(
        name="far-latency-20ms",
        size=300,
        rounds=3,
        needs=no_sshd,
        contenders={OURS: partial(far_round_trips, delay_ms=ONE_WAY_MS), "raw channel": partial(raw_round_trips, delay_ms=ONE_WAY_MS)},
        rows=(P50(label="... 20 ms away (round trip)", peer="raw channel", ratio=1.1),),
    ),
)
