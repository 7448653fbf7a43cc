"""A call is a snapshot: what is changed after `submit` reaches no attempt of the task."""

from __future__ import annotations

import asyncio
import gc
from functools import partial
from typing import Any

import numpy as np
import pytest

import aioparallel
from aioparallel import Pool, SerializationError

from .gate import Gate, pass_gate

LARGE = 200_000
"""Bytes: more than what travels in band."""
setting = ["before"]


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance

    def read(self) -> int:
        return self.balance

    def __call__(self) -> int:
        return self.balance

    def failing_once(self, path: str) -> int:
        if aioparallel.current_task().attempt == 1:
            raise ValueError(pass_gate(path))
        return self.balance


def total(array: Any) -> int:
    return int(array.sum())


def total_of(holder: dict[str, list[Any]]) -> int:
    return int(holder["arrays"][0].sum())


def is_private(array: Any) -> bool:
    array += 1  # raises where it is read-only
    return bool(array.flags.writeable)


async def test_arrays_changed_after_submit(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        small, large = np.ones(10, dtype=np.uint8), np.ones(LARGE, dtype=np.uint8)
        raw, strided = bytearray(LARGE), np.ones((2, LARGE), dtype=np.uint8)[:, ::2]
        tasks = [
            pool.submit(total, small),
            pool.submit(total, large),
            pool.submit(total_of, {"arrays": [large]}),
            pool.submit(sum, raw),
            pool.submit(total, array=strided),
        ]
        for buffer in (small, large, strided):
            buffer[:] = 7
        raw[:] = b"\7" * LARGE
        await gate.met()
        gate.open()
        assert await asyncio.gather(*tasks) == [10, LARGE, LARGE, 0, LARGE]
        await blocker


async def test_a_read_only_view_of_a_writable_array_is_a_snapshot_too(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        array = np.ones(LARGE, dtype=np.uint8)
        view = array.view()
        view.flags.writeable = False
        task = pool.submit(total, view)
        array[:] = 7
        await gate.met()
        gate.open()
        assert await task == LARGE
        await blocker


async def test_arrays_arrive_private_and_writable_in_every_attempt() -> None:
    async with Pool(local=1) as pool:
        array = np.zeros(LARGE, dtype=np.uint8)
        twice = pool.submit(is_private, array), pool.submit(is_private, array)
        assert await asyncio.gather(*twice) == [True, True]
        assert array.sum() == 0
        assert await pool.options(retries=1).submit(spoil_and_fail_once, array) == 0
        back = await pool.submit(np.negative, np.ones(LARGE, dtype=np.int8))
        back[0] = 5  # a result is the caller's own


def spoil_and_fail_once(array: Any) -> int:
    found = int(array.sum())
    array[:] = 9
    if aioparallel.current_task().attempt == 1:
        raise ValueError("once")
    return found


async def test_copy_false_is_the_callers_promise() -> None:
    async with Pool(local=1) as pool:
        array = np.ones(5_000_000, dtype=np.uint8)
        assert await pool.options(copy=False).submit(total, array) == 5_000_000


async def test_globals_cells_defaults_and_attributes(gate: Gate) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "LEVEL": 1, "BOX": [1]}
    exec("def read(): return LEVEL, BOX[0]\ndef default(x=[1]): return x[0]\n", space)
    level, box = 1, [1]

    def closure() -> tuple[int, int]:
        return level, box[0]

    closure.mark = 1  # type: ignore[attr-defined]

    def keyword(*, x: list[int] = [1]) -> int:  # noqa: B006 - the mutable default is the point
        return x[0]

    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        first = [pool.submit(fn) for fn in (space["read"], space["default"], closure, keyword)]
        space["LEVEL"], space["BOX"][0], level, box[0] = 2, 2, 2, 2
        space["default"].__defaults__[0][0] = 2
        keyword.__kwdefaults__["x"][0] = 2
        second = [pool.submit(fn) for fn in (space["read"], space["default"], closure, keyword)]
        await gate.met()
        gate.open()
        assert await asyncio.gather(*first) == [(1, 1), 1, (1, 1), 1]
        assert await asyncio.gather(*second) == [(2, 2), 2, (2, 2), 2]
        await blocker


async def test_self_and_the_arguments_of_a_partial_are_arguments(gate: Gate) -> None:
    account, amounts = Account(1), [1]
    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        tasks = [pool.submit(account.read), pool.submit(account), pool.submit(partial(sum, amounts)), pool.submit(amounts.count, 1)]
        account.balance = 5
        amounts.append(1)
        tasks += [pool.submit(account.read), pool.submit(account), pool.submit(partial(sum, amounts)), pool.submit(amounts.count, 1)]
        await gate.met()
        gate.open()
        assert await asyncio.gather(*tasks) == [1, 1, 1, 1, 5, 5, 2, 2]
        await blocker


async def test_a_retry_sees_the_same_snapshot(gate: Gate) -> None:
    account = Account(1)
    async with Pool(local=1) as pool:
        task = pool.options(retries=1).submit(account.failing_once, gate.path)
        await gate.met()
        account.balance = 2
        gate.open()
        assert await task == 1
        assert len(task.attempts) == 2


async def test_a_redefined_lambda_is_another_function() -> None:
    async with Pool(local=1) as pool:
        for number in range(30):
            fn = eval(f"lambda: {number}")
            assert await pool.submit(fn) == number
            del fn
            gc.collect()  # so that the next one may get its address


async def test_nothing_leaks_from_task_to_task_through_a_functions_state() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("seen = []\ndef remember(x, kept=[]):\n    seen.append(x); kept.append(x)\n    return list(seen), list(kept)\n", space)
    counter = [0]

    def count() -> int:
        counter[0] += 1
        return counter[0]

    async with Pool(local=1) as pool:
        assert await pool.submit(space["remember"], 1) == ([1], [1])
        assert await pool.submit(space["remember"], 2) == ([2], [2])
        assert await asyncio.gather(*(pool.submit(count) for _ in range(5))) == [1] * 5
        assert await pool.map(count_calls(), range(10), chunk=1) == [1] * 10
    assert counter == [0]


def count_calls() -> Any:
    counter = [0]

    def count(_: int) -> int:
        counter[0] += 1
        return counter[0]

    return count


class Unwilling:
    def __reduce__(self) -> Any:
        raise KeyError("will not travel")


class Exiting:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


async def test_pools_and_tasks_do_not_travel(gate: Gate) -> None:
    async with Pool(local=1, name="mine") as pool:
        task = pool.submit(pass_gate, gate.path)
        results = pool.map(abs, [1])
        hidden = partial(len, {"deep": [(1, {"er": task})]})
        for call in (
            lambda: pool.submit(len, pool),
            lambda: pool.submit(len, [{"deep": (pool,)}]),
            lambda: pool.submit(len, pool.options(timeout=1)),
            lambda: pool.submit(lambda: pool),
            lambda: pool.submit(pool.status),
        ):
            with pytest.raises(
                SerializationError, match=r"Pool.*cannot travel to a slot: pass plain values, and submit from the controller"
            ):
                call()
        for call in (
            lambda: pool.submit(len, task),
            lambda: pool.submit(hidden),
            lambda: pool.submit(len, x={"deep": [(1, {"er": task})]}),
            lambda: pool.submit(lambda: task),
        ):
            with pytest.raises(SerializationError, match=r"<Task 1 .*cannot travel to a slot: await it and pass on its result"):
                call()
        with pytest.raises(SerializationError, match="cannot travel"):
            await pool.map(len, [[1], [task]], chunk=2)
        with pytest.raises(SerializationError):
            pool.submit(len, results)
        await gate.met()
        gate.open()
        assert await task is None
        assert pool.status().queued == 0


async def test_what_cannot_be_pickled_raises_at_the_users_line() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(SerializationError, match="the call of abs could not be pickled: KeyError: 'will not travel'") as caught:
            pool.submit(abs, Unwilling())
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(SerializationError, match="SystemExit: 3"):
            pool.submit(abs, [Exiting()])
        with pytest.raises(SerializationError, match="cannot pickle"):
            pool.submit(abs, (i for i in range(3)))
        with pytest.raises(SerializationError, match="data=generator could not be pickled"):
            pool.options(data=(i for i in range(3)))
        assert await pool.submit(abs, -3) == 3
        assert pool.status().slots[0].waiting == 0
