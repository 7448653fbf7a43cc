"""What a pending task weighs in the controller, and how fast a whole queue of them is cancelled."""

from __future__ import annotations

import asyncio
import time

from .measure import Measure, Row, Sample
from .peers import SLOTS, Submit, by_submit
from .tools import Gate, settled_resident_bytes
from .work import arrive_and_hold, identity


async def pending(submit: Submit, tasks: int) -> Sample:
    """Occupy all slots, queue tasks behind that and gather them; weigh, then cancel every one."""
    async with Gate() as gate:
        holders = [submit(arrive_and_hold, gate.path) for _ in range(SLOTS)]
        for _ in holders:
            await gate.arrival()
        before = settled_resident_bytes()
        queue = [submit(identity, i) for i in range(tasks)]
        gathered = asyncio.gather(*queue, return_exceptions=True)
        grown = settled_resident_bytes() - before
        assert not any(task.done() for task in queue)
        began = time.perf_counter()
        for task in queue:
            task.cancel()
        answers = await gathered
        seconds = time.perf_counter() - began
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
        gate.open()
        await asyncio.gather(*holders)
    return {"bytes": grown / tasks, "cancel_s": seconds}


MEASURES = (
    Measure(
        name="pending",
        size=100_000,
        rounds=3,
        contenders=by_submit(pending, "ours", "executor"),
        rows=(
            Row(label="100,000 pending tasks, gathered: controller memory each", figure="bytes", unit="B", peer="executor", bound=700),
            Row(label="... cancelled one by one, until all are done", figure="cancel_s", unit="s", peer="executor", bound=1),
        ),
    ),
)
