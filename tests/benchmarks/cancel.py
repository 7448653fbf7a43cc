"""How long after `task.cancel()` a running task is done, and that nothing of its tree is alive then."""

from __future__ import annotations

import asyncio
import time

from .measure import Measure, Row, Sample
from .tools import Gate, lives, quantile
from .work import arrive_and_hold


async def cancel_trees(times: int) -> Sample:
    """Cancel tasks that have started a child process, one after the other."""
    from aioparallel import Pool

    seconds, alive = [], 0
    async with Gate() as gate, Pool(local=2) as pool:
        for _ in range(times):
            task = pool.submit(arrive_and_hold, gate.path, True)
            tree = await gate.arrival()
            assert all(map(lives, tree))
            began = time.perf_counter()
            task.cancel()
            await asyncio.wait([task])
            seconds.append(time.perf_counter() - began)
            alive += any(map(lives, tree))
            assert task.cancelled()
    return {"p50_ms": quantile(seconds, 0.5) * 1000, "p99_ms": quantile(seconds, 0.99) * 1000, "alive": float(alive)}


MEASURES = (
    Measure(
        name="cancel",
        size=100,
        least=2,
        rounds=3,
        contenders={"ours": cancel_trees},
        rows=(
            Row(label="cancel of a running task until its tree is gone, p99", figure="p99_ms", unit="ms", bound=100, pick="worst"),
            Row(label="... p50", figure="p50_ms", unit="ms", pick="median"),
            Row(label="... trees not gone when the task was done", figure="alive", unit="of 100", bound=0, pick="worst"),
        ),
    ),
)
