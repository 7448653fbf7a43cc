"""How long one task takes there and back when nothing else is in flight."""

from __future__ import annotations

import time

from .measure import Measure, Row, Sample
from .peers import Submit, by_submit
from .tools import quantile
from .work import identity


async def round_trips(submit: Submit, tasks: int) -> Sample:
    """Submit one task, await it, submit the next."""
    seconds = []
    for i in range(tasks):
        began = time.perf_counter()
        answer = await submit(identity, i)
        seconds.append(time.perf_counter() - began)
        assert answer == i
    return {"p50_us": quantile(seconds, 0.5) * 1e6, "p99_us": quantile(seconds, 0.99) * 1e6}


MEASURES = (
    Measure(
        name="latency",
        size=3_000,
        contenders=by_submit(round_trips, "ours", "executor", "loky", "two bare pipes"),
        rows=(
            Row(label="one task in flight, round trip p50", figure="p50_us", unit="us", peer="executor", ratio=0.35),
            Row(label="... against loky", figure="p50_us", unit="us", peer="loky"),
            Row(label="... against an echo over two pipes", figure="p50_us", unit="us", peer="two bare pipes"),
            Row(label="... p99", figure="p99_us", unit="us", peer="executor"),
        ),
    ),
)
