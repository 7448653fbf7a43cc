"""How many tasks a second, each submitted by itself and all gathered, and what one costs the controller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from .measure import Measure, Row, Sample
from .peers import Submit, by_submit
from .work import identity


async def no_ops(submit: Submit, tasks: int) -> Sample:
    """Submit and gather tasks that do nothing."""
    began, cpu = time.perf_counter(), time.process_time()
    answers = await asyncio.gather(*(submit(identity, i) for i in range(tasks)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert answers == list(range(tasks))
    return {"tasks_per_s": tasks / seconds, "cpu_us": cpu / tasks * 1e6}


async def by_value(submit: Submit, tasks: int) -> Sample:
    """Submit a lambda and a closure in turn, the same two all the time."""
    offset = 7

    def closure(value: int) -> int:
        return value + offset

    plain = lambda value: value + 1
    await asyncio.gather(submit(closure, 1), submit(plain, 1))
    began = time.perf_counter()
    answers = await asyncio.gather(*(submit(closure if i % 2 else plain, i) for i in range(tasks)))
    seconds = time.perf_counter() - began
    assert answers == [i + (offset if i % 2 else 1) for i in range(tasks)]
    return {"tasks_per_s": tasks / seconds}


async def fresh_closures(submit: Submit, tasks: int) -> Sample:
    """Submit a new closure for each task: each has to be pickled, sent and loaded for itself."""

    def adding(offset: int) -> Callable[[int], int]:
        return lambda value: value + offset

    await submit(adding(1), 1)
    began = time.perf_counter()
    answers = await asyncio.gather(*(submit(adding(i), 1) for i in range(tasks)))
    seconds = time.perf_counter() - began
    assert answers == [i + 1 for i in range(tasks)]
    return {"tasks_per_s": tasks / seconds}


RATE = partial(Row, figure="tasks_per_s", unit="tasks/s", more_is_better=True)

MEASURES = (
    Measure(
        name="dispatch",
        size=20_000,
        contenders=by_submit(no_ops, "ours", "executor", "loky"),
        rows=(
            RATE(label="20,000 no-op tasks, submitted one by one and gathered", peer="executor", ratio=15),
            RATE(label="... against loky", peer="loky"),
            Row(label="... controller CPU a task", figure="cpu_us", unit="us", peer="executor", bound=12),
        ),
    ),
    Measure(
        name="closures",
        size=10_000,
        contenders=by_submit(by_value, "ours", "loky"),
        rows=(RATE(label="lambdas and closures", peer="loky", ratio=10),),
    ),
    Measure(
        name="fresh-closures",
        size=5_000,
        rounds=3,
        contenders=by_submit(fresh_closures, "ours", "loky"),
        rows=(RATE(label="... a new closure for each task", peer="loky"),),
    ),
)
