"""What large arguments and results cost: a 64 MiB array there and back, and many arguments of 10 KB."""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial

from .measure import Measure, Row, Sample
from .peers import Submit, by_submit
from .tools import MIB, quantile
from .work import identity, size_of

ECHOES = 7
ARGUMENT_BYTES = 10_000


async def echo(submit: Submit, size: int) -> Sample:
    """Send an array to a slot and get it back, one at a time; the median of a few, in bytes moved both ways."""
    import numpy as np

    array = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    seconds = []
    for number in range(ECHOES + 1):
        began = time.perf_counter()
        answer = await submit(identity, array)
        if number:  # the first one maps the memory that the others use again
            seconds.append(time.perf_counter() - began)
        assert answer is not array
        assert answer.flags.writeable
        assert answer[0] == array[0]
        if number == 0:
            assert np.array_equal(answer, array)
        del answer
    return {"gb_per_s": 2 * size / quantile(seconds, 0.5) / 1e9}


async def arguments(submit: Submit, tasks: int) -> Sample:
    """Submit and gather tasks with an argument of 10 KB each."""
    data = [os.urandom(ARGUMENT_BYTES) for _ in range(64)]
    began = time.perf_counter()
    answers = await asyncio.gather(*(submit(size_of, data[i % 64]) for i in range(tasks)))
    seconds = time.perf_counter() - began
    assert answers == [ARGUMENT_BYTES] * tasks
    return {"tasks_per_s": tasks / seconds}


SPEED = partial(Row, figure="gb_per_s", unit="GB/s", more_is_better=True)

MEASURES = (
    Measure(
        name="echo",
        size=64 * MIB,
        contenders=by_submit(echo, "ours", "ours, copy=False", "executor"),
        rows=(
            SPEED(label="echo of a 64 MiB numpy array", peer="executor", ratio=5),
            SPEED(label="... with copy=False", ours="ours, copy=False", peer="executor", ratio=8),
        ),
    ),
    Measure(
        name="arguments",
        size=10_000,
        contenders=by_submit(arguments, "ours", "executor"),
        rows=(
            Row(
                label="10,000 arguments of 10 KB",
                figure="tasks_per_s",
                unit="tasks/s",
                more_is_better=True,
                peer="executor",
                ratio=6,
            ),
        ),
    ),
)
