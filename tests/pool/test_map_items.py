"""What is in the items and results of a map: each stands for itself, whatever it is and whatever it does to its slot."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aioparallel import Pool, WorkerDied, current_task
from aioparallel._jobs.stream import ranges
from aioparallel._worker import chunk

from .gate import Gate, pass_gate, run_script

LARGE = 50_000
"""Numbers of 8 bytes: more than travels within a pickle."""


class Agreeable(dict[str, int]):
    """Has every attribute that it is asked for."""

    def __getattr__(self, name: str) -> int:
        return 0


def agree(number: int) -> Agreeable:
    return Agreeable(number=number)


@pytest.mark.parametrize("chunk", [1, 4])
async def test_a_result_is_no_coroutine_for_its_attributes(chunk: int) -> None:
    async with Pool(local=1) as pool:
        assert await pool.map(agree, range(8), chunk=chunk) == [{"number": number} for number in range(8)]


def moody(counter: str, number: int) -> Any:
    """Return what can be pickled the second time only."""
    return Moody(counter) if number == 2 else number


class Moody:
    tries = 0

    def __init__(self, counter: str) -> None:
        self.counter = counter

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        Moody.tries += 1
        with open(self.counter, "a") as file:
            file.write("x")
        if Moody.tries < 3:  # by C pickle, then by cloudpickle
            raise ValueError("not now")
        return np.zeros, (LARGE,)


async def test_a_result_that_cannot_be_pickled_is_asked_no_second_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    async with Pool(local=1) as pool, asyncio.timeout(20):
        found = await pool.map(moody, [str(counter)] * 4, range(4), chunk=4, on_error="return")
    assert found[:2] + found[3:] == [0, 1, 3]
    assert "its result, a Moody, could not be pickled: ValueError: not now" in str(found[2])
    assert counter.read_text() == "xx"


async def test_a_class_of_main_around_a_large_array(tmp_path: Path) -> None:
    code, out, err = await run_script(
        """
import asyncio
import functools
import os
import numpy as np
from aioparallel import Pool, WorkerDied, current_task
from aioparallel._jobs.stream import ranges
from aioparallel._worker import chunk

class Box:
    def __init__(self, number):
        self.number, self.array = number, np.full(50_000, number)

class Lost(Exception):
    pass

def fail(number):
    raise Lost(np.full(50_000, number))

async def main():
    async with Pool(local=1) as pool, asyncio.timeout(20):
        boxes = await pool.map(Box, range(6), chunk=3)
        assert [(type(box), box.number, int(box.array.sum())) for box in boxes] == [(Box, n, 50_000 * n) for n in range(6)]
        for error in await pool.map(fail, range(4), chunk=2, on_error="return"):
            assert type(error) is Lost and error.args[0].shape == (50_000,), error
        try:
            await pool.submit(fail, 3)
        except Lost as error:
            assert error.args[0].sum() == 150_000
            print("well")

if __name__ == "__main__":
    asyncio.run(main())
""",
        tmp_path,
    )
    assert (code, out, err) == (0, "well\n", "")


def fork_at(folder: str, number: int) -> int:
    """Say who runs which item; in the third, leave a child behind that returns too, and see to its end in the fourth."""
    with open(os.path.join(folder, str(number)), "a") as file:
        file.write("x")
    if number == 2:
        os.fork()
    elif number == 3:
        os.waitpid(-1, 0)
    return number


async def test_a_forked_child_that_returns_runs_no_further_item(tmp_path: Path) -> None:
    async with Pool(local=1) as pool:
        assert await pool.map(fork_at, [str(tmp_path)] * 8, range(8), chunk=8) == list(range(8))
    assert [(tmp_path / str(number)).read_text() for number in range(8)] == ["x"] * 8


@pytest.mark.parametrize("most", [0, 3])
async def test_no_more_buffers_than_a_frame_can_announce(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "MOST_BUFFERS", most)
    arrays = [np.full(LARGE, number) for number in range(6)]
    assert len(chunk.pack_items([array.copy() for array in arrays], False)[1]) == most
    async with Pool(local=1) as pool:
        assert await pool.map(np.sum, arrays, chunk=6) == [LARGE * number for number in range(6)]


class Scale:
    def __init__(self, factor: int) -> None:
        self.weights = np.full(LARGE, factor)

    def apply(self, number: int) -> int:
        return int(self.weights[0]) * number

    def __call__(self, number: int, more: int) -> int:
        return int(self.weights[0]) * number + more


@pytest.mark.parametrize("size", [None, 1, 50])
async def test_what_is_called_may_be_a_method_a_partial_or_an_instance(size: int | None) -> None:
    async with Pool(local=1) as pool:
        scale = Scale(3)
        assert await pool.map(scale.apply, range(120), chunk=size) == [3 * number for number in range(120)]
        assert await pool.map(scale, range(120), range(120), chunk=size) == [4 * number for number in range(120)]
        assert await pool.map(functools.partial(pow, 2), range(120), chunk=size) == [2**number for number in range(120)]
        assert await pool.map(np.sum, [[number, 1] for number in range(120)], chunk=size) == list(range(1, 121))
        crashing = await pool.map(functools.partial(_die_at, 3), range(6), chunk=size, on_error="return")
        assert isinstance(crashing.pop(3), WorkerDied) and crashing == [0, 1, 2, 4, 5]


def _die_at(bad: int, number: int) -> int:
    if number == bad:
        os._exit(1)
    return number


# --- the rest of a chunk whose slot died


def take(path: str, item: dict[str, Any]) -> int:
    if item["number"] == 0:
        pass_gate(path)
    if item["number"] in (2, 5):
        os._exit(1)
    return int(item["number"] + sum(array.sum() for array in item["arrays"]))


async def test_the_rest_of_a_chunk_is_what_was_sent(gate: Gate) -> None:
    def fresh(number: int) -> dict[str, Any]:
        return {"number": number, "arrays": [np.full(LARGE, number) for _ in range(number % 3)]}

    async with Pool(local=1) as pool:
        items = [fresh(number) for number in range(8)]
        results = asyncio.ensure_future(_list(pool.map(take, [gate.path] * 8, items, chunk=8, on_error="return")))
        await gate.met()
        for item in items:
            item["number"] = 0
            for array in item["arrays"]:
                array[:] = 100
        gate.open(8)
        found = await results
    assert [number for number, result in enumerate(found) if isinstance(result, WorkerDied)] == [2, 5]
    assert [result for result in found if type(result) is int] == [n + LARGE * n * (n % 3) for n in (0, 1, 3, 4, 6, 7)]


async def _list(results: Any) -> Any:
    return await results


def seed_or_die(number: int) -> int:
    if number in (3, 4, 8):
        os._exit(1)
    return current_task().seed


async def test_the_rest_of_a_chunk_keeps_its_seeds() -> None:
    found = []
    for size in (1, 12):
        async with Pool(local=1, seed=7) as pool:
            found.append(await pool.map(seed_or_die, range(12), chunk=size, on_error="return"))
    for one, other in zip(*found, strict=True):
        assert one == other or (type(one) is type(other) is WorkerDied)


async def test_the_rest_of_a_chunk_that_is_as_large_as_can_be() -> None:
    size = 600_000
    async with Pool(local=1) as pool:
        found = await pool.map(functools.partial(_die_at, 5), range(size), chunk=size, on_error="return")
    assert isinstance(found.pop(5), WorkerDied) and found == [number for number in range(size) if number != 5]


def test_ranges() -> None:
    assert ranges([]) == ()
    assert ranges([4]) == ((4, 5),)
    assert ranges([0, 1, 2, 5, 7, 8]) == ((0, 3), (5, 6), (7, 9))
    assert ranges(list(range(600_000))) == ((0, 600_000),)


def step(box: list[int], path: str, number: int) -> int:
    if number == 0:
        pass_gate(path)
        os._exit(3)
    return box[0]


@pytest.mark.parametrize("how", ["partial", "closure"])
async def test_what_is_sent_again_of_a_chunk_is_done_by_the_function_as_it_was(how: str, gate: Gate) -> None:
    box, path = [1], gate.path
    function = functools.partial(step, box, path) if how == "partial" else lambda number: step(box, path, number)
    async with Pool(local=1) as pool:
        waiting = asyncio.ensure_future(_all(pool.map(function, range(4), chunk=4, on_error="return")))
        await gate.met()
        box[0] = 2
        gate.open()
        first, *rest = await waiting
        assert isinstance(first, WorkerDied) and rest == [1, 1, 1]


async def _all(results: Any) -> list[Any]:
    return [value async for value in results]
