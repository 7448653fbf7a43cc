"""How near to the ideal two slots are when there is real work, and whether a long task delays what comes behind it."""

from __future__ import annotations

import asyncio
import heapq
import time
from functools import partial

from .measure import Measure, Row, Sample
from .peers import SLOTS, Submit, by_submit
from .work import busy

SHORT_SECONDS = 0.001
LONG_TASK_PER_SHORT = 0.002
"""Seconds of the long task for each short one: 2 s among 1,000."""


async def uniform(seconds_each: float, submit: Submit, tasks: int) -> Sample:
    """Run tasks of equal length; 100 % is all slots busy all the time."""
    began = time.perf_counter()
    await asyncio.gather(*(submit(busy, seconds_each) for _ in range(tasks)))
    seconds = time.perf_counter() - began
    return {"percent": 100 * tasks * seconds_each / SLOTS / seconds}


async def one_long(submit: Submit, tasks: int) -> Sample:
    """Put one long task among short ones; of the short ones, take the one that was latest against the ideal.

    The ideal gives each task, in the order of submission, to the slot that is free first (list scheduling). A short task that waits
    behind the long one would be about a second late.
    """
    lengths = [SHORT_SECONDS] * tasks
    lengths.insert(tasks // 10, tasks * LONG_TASK_PER_SHORT)
    ends = [0.0] * len(lengths)
    began = time.perf_counter()

    def note(index: int, task: asyncio.Future[None]) -> None:
        ends[index] = time.perf_counter() - began

    tasks_out = [submit(busy, length) for length in lengths]
    for index, task in enumerate(tasks_out):
        task.add_done_callback(partial(note, index))
    await asyncio.gather(*tasks_out)
    late = [end - due for end, due, length in zip(ends, ideal(lengths), lengths, strict=True) if length == SHORT_SECONDS]
    return {"late_ms": max(late) * 1000}


def ideal(lengths: list[float]) -> list[float]:
    """Return when each task would end if it began on the slot that is free first."""
    free = [0.0] * SLOTS
    ends = []
    for length in lengths:
        end = heapq.heappop(free) + length
        heapq.heappush(free, end)
        ends.append(end)
    return ends


SHARE = partial(Row, figure="percent", unit="%", more_is_better=True, peer="executor")

MEASURES = (
    Measure(
        name="busy-1ms",
        size=10_000,
        rounds=3,
        contenders=by_submit(partial(uniform, 0.001), "ours", "executor"),
        rows=(SHARE(label="10,000 tasks of 1 ms: share of the ideal", bound=95),),
    ),
    Measure(
        name="busy-20ms",
        size=200,
        rounds=3,
        contenders=by_submit(partial(uniform, 0.020), "ours", "executor"),
        rows=(SHARE(label="200 tasks of 20 ms: share of the ideal", bound=98),),
    ),
    Measure(
        name="one-long",
        size=1_000,
        rounds=3,
        contenders=by_submit(one_long, "ours", "executor"),
        rows=(
            Row(label="one 2 s task among 1,000 of 1 ms: the latest short one", figure="late_ms", unit="ms", peer="executor", bound=100),
        ),
    ),
)
