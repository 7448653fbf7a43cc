"""How near to the ideal two slots are when there is real work, and whether a long task delays what comes behind it."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial

from .measure import Measure, Row, Sample
from .peers import SLOTS, Submit, by_submit
from .work import busy

SHORT_SECONDS = 0.001
LONG_SECONDS_PER_SHORT = 0.002
"""How long the long task is, for each short one: 2 s among 1,000."""


async def uniform(seconds_each: float, submit: Submit, tasks: int) -> Sample:
    """Run tasks of equal length; 100 % is all slots busy all the time."""
    began = time.perf_counter()
    await asyncio.gather(*(submit(busy, seconds_each) for _ in range(tasks)))
    seconds = time.perf_counter() - began
    return {"percent": 100 * tasks * seconds_each / SLOTS / seconds}


async def one_long(submit: Submit, tasks: int) -> Sample:
    """Put one long task among short ones, and see by how much a short one was overtaken at most.

    Those that wait behind the long one are overtaken by all that go elsewhere, by a second or so. Against a plan by the clock, a loaded
    machine would make every task late.
    """
    ends = [0.0] * tasks

    def note(index: int, task: asyncio.Future[None]) -> None:
        ends[index] = time.perf_counter()

    before = tasks // 10
    futures = [submit(busy, SHORT_SECONDS) for _ in range(before)]
    long = submit(busy, tasks * LONG_SECONDS_PER_SHORT)
    futures += [submit(busy, SHORT_SECONDS) for _ in range(before, tasks)]
    for index, future in enumerate(futures):
        future.add_done_callback(partial(note, index))
    await asyncio.gather(long, *futures)
    return {"overtaken_ms": overtaken(ends) * 1000}


def overtaken(ends: list[float]) -> float:
    """Return the longest time by which one that was submitted later ended earlier."""
    most, earliest_later = 0.0, math.inf
    for end in reversed(ends):
        most = max(most, end - earliest_later)
        earliest_later = min(earliest_later, end)
    return most


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
            Row(
                label="one 2 s task among 1,000 of 1 ms: most that one is late", figure="overtaken_ms", unit="ms", peer="executor", bound=50
            ),
        ),
    ),
)
