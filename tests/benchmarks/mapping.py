"""A million items through `map`: how fast, and that a stream of them takes no memory."""

from __future__ import annotations

import time
from functools import partial

from .measure import Measure, Row, Sample
from .peers import SLOTS, forked_executor
from .tools import MIB, settled_resident_bytes
from .work import identity

WARM_UP_ITEMS = 1_000


async def ordered_ours(items: int) -> Sample:
    """`await pool.map(...)`."""
    from aioparallel import Pool

    async with Pool(local=SLOTS) as pool:
        await pool.map(identity, range(WARM_UP_ITEMS))
        began = time.perf_counter()
        answers = await pool.map(identity, range(items))
        seconds = time.perf_counter() - began
    assert answers == list(range(items))
    return {"items_per_s": items / seconds}


async def ordered_executor(items: int) -> Sample:
    """`ProcessPoolExecutor.map(chunksize=256)`."""
    with forked_executor() as executor:
        list(executor.map(identity, range(WARM_UP_ITEMS), chunksize=256))
        began = time.perf_counter()
        answers = list(executor.map(identity, range(items), chunksize=256))
        seconds = time.perf_counter() - began
    assert answers == list(range(items))
    return {"items_per_s": items / seconds}


async def ordered_joblib(items: int) -> Sample:
    """`joblib.Parallel`, which makes its own batches."""
    import joblib

    with joblib.Parallel(n_jobs=SLOTS) as parallel:
        parallel(joblib.delayed(identity)(i) for i in range(WARM_UP_ITEMS))
        began = time.perf_counter()
        answers = parallel(joblib.delayed(identity)(i) for i in range(items))
        seconds = time.perf_counter() - began
    assert answers == list(range(items))
    return {"items_per_s": items / seconds}


async def stream(items: int) -> Sample:
    """Read a stream with `limit=1000`; the most that the controller grew after the first tenth of it."""
    from aioparallel import Pool

    async with Pool(local=SLOTS) as pool:
        done = first = most = 0
        async for answer in pool.map(identity, range(items), limit=1000):
            assert answer == done
            done += 1
            if done % (items // 10) == 0:
                most = max(most, settled_resident_bytes())
                first = first or most
    assert done == items
    return {"grown_mib": (most - first) / MIB}


RATE = partial(Row, figure="items_per_s", unit="items/s", more_is_better=True)

MEASURES = (
    Measure(
        name="map",
        size=1_000_000,
        least=1_000,
        rounds=3,
        contenders={"ours": ordered_ours, "executor.map": ordered_executor, "joblib": ordered_joblib},
        rows=(
            RATE(label="10^6 trivial items through map, ordered, against joblib", peer="joblib", ratio=5),
            RATE(label="... against ProcessPoolExecutor.map(chunksize=256)", peer="executor.map", ratio=1.5),
        ),
    ),
    Measure(
        name="stream",
        size=1_000_000,
        least=1_000,
        rounds=2,
        contenders={"ours": stream},
        # 9 * 10^5 items that left so much as five bytes behind would break this bound.
        rows=(
            Row(label="10^6 items, map(limit=1000): growth after the first tenth", figure="grown_mib", unit="MiB", bound=4, pick="worst"),
        ),
    ),
)
