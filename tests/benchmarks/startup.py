"""From nothing to the first result and out again; what an idle slot weighs; how fast a killed slot is replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time

from .measure import Measure, Row, Sample
from .peers import SLOTS, forked_executor
from .tools import MIB, proportional_bytes, quantile
from .work import busy, identity

OURS_PROGRAM = f"""
import asyncio, aioparallel
async def main():
    async with aioparallel.Pool(local={SLOTS}) as pool:
        assert await pool.submit(pow, 2, 10) == 1024
asyncio.run(main())
"""
EXECUTOR_PROGRAM = f"""
import asyncio, multiprocessing
from concurrent.futures import ProcessPoolExecutor
async def main():
    with ProcessPoolExecutor({SLOTS}, mp_context=multiprocessing.get_context("fork")) as executor:
        assert await asyncio.get_running_loop().run_in_executor(executor, pow, 2, 10) == 1024
asyncio.run(main())
"""


def _timed(program: str, times: int) -> Sample:
    # What pip installs is compiled: so is what is timed here, whatever the environment says about writing bytecode.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environ)
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, env=environ)
        seconds.append(time.perf_counter() - began)
    return {"ms": statistics.median(seconds) * 1000}


async def start_ours(times: int) -> Sample:
    """Start an interpreter, open a pool, run one task, close, exit."""
    return _timed(OURS_PROGRAM, times)


async def start_executor(times: int) -> Sample:
    """Do the same with the executor."""
    return _timed(EXECUTOR_PROGRAM, times)


async def weigh_ours(tasks: int) -> Sample:
    """Weigh idle slots of ours that have run a few tasks."""
    from aioparallel import Pool

    async with Pool(local=SLOTS) as pool:
        await pool.ready(SLOTS)
        await asyncio.gather(*(pool.submit(identity, i) for i in range(tasks)))
        pids = [slot.pid for slot in pool.status().slots if slot.pid]
        assert len(pids) == SLOTS
        return {"mib": statistics.mean(map(proportional_bytes, pids)) / MIB}


async def weigh_executor(tasks: int) -> Sample:
    """Weigh the executor's idle processes."""
    with forked_executor() as executor:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(executor, busy, 0.01) for _ in range(2 * SLOTS)))
        await asyncio.gather(*(loop.run_in_executor(executor, identity, i) for i in range(tasks)))
        return {"mib": statistics.mean(map(proportional_bytes, executor._processes)) / MIB}


async def replace_killed(times: int) -> Sample:
    """SIGKILL the only slot while it is idle, submit at once, and see how much longer than usual the answer takes."""
    from aioparallel import Pool

    async def round_trip() -> float:
        began = time.perf_counter()
        assert await pool.submit(identity, 1) == 1
        return time.perf_counter() - began

    async with Pool(local=1) as pool:
        usual = quantile([await round_trip() for _ in range(200)], 0.5)
        seconds = []
        for _ in range(times):
            (slot,) = pool.status().slots
            assert slot.pid is not None
            os.kill(slot.pid, signal.SIGKILL)
            seconds.append(await round_trip() - usual)
            assert [new.pid for new in pool.status().slots] != [slot.pid]
    return {"ms": quantile(seconds, 0.5) * 1000, "p90_ms": quantile(seconds, 0.9) * 1000}


MEASURES = (
    Measure(
        name="startup",
        size=7,
        least=1,
        contenders={"ours": start_ours, "executor": start_executor},
        rows=(
            Row(
                label="interpreter start, import, first result, closed",
                figure="ms",
                unit="ms",
                peer="executor",
                ratio=1.0,
            ),
        ),
    ),
    Measure(
        name="idle-slot",
        size=100,
        rounds=2,
        contenders={"ours": weigh_ours, "executor": weigh_executor},
        rows=(Row(label="PSS of an idle slot", figure="mib", unit="MiB", peer="executor", bound=5, pick="worst"),),
    ),
    Measure(
        name="replace",
        size=20,
        least=2,
        rounds=3,
        contenders={"ours": replace_killed},
        rows=(
            Row(label="a killed slot replaced and ready, p50", figure="ms", unit="ms", bound=20, pick="median"),
            Row(label="... p90", figure="p90_ms", unit="ms", pick="median"),
        ),
    ),
)
