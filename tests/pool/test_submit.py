"""What may be submitted, and what comes back: every kind of callable, from modules, scripts and `__main__`."""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import logging
import operator
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import aioparallel
from aioparallel import Pool, SerializationError, Task, TaskTimeout, UsageError, WorkerDied

from .gate import Gate, pass_gate, run_script, stay, until


class Adder:
    base = 10

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def add(self, number: int) -> int:
        return number + self.amount

    @classmethod
    def add_base(cls, number: int) -> int:
        return cls.base + number

    @staticmethod
    def double(number: int) -> int:
        return 2 * number

    def __call__(self, number: int) -> int:
        return number + self.amount

    async def later(self, number: int) -> int:
        await asyncio.sleep(0)
        return number + self.amount

    class Inner:
        @staticmethod
        def triple(number: int) -> int:
            return 3 * number


async def coroutine(number: int) -> int:
    await asyncio.sleep(0.001)
    return number + 1


async def failing_coroutine() -> None:
    await asyncio.sleep(0)
    raise LookupError("late")


def generate() -> Iterator[int]:
    yield 1


async def generate_later() -> AsyncIterator[int]:
    yield 1


def keywords(*args: int, fn: int = 0, self: int = 0, **more: int) -> tuple[Any, ...]:
    return args, fn, self, more


@functools.lru_cache
def cached(number: int) -> int:
    return number + 5


@functools.wraps(operator.neg)
def wrapped(number: int) -> int:
    return -number


async def test_every_kind_of_callable() -> None:
    level = 100
    adder = Adder(5)
    calls: list[tuple[Any, tuple[Any, ...], Any]] = [
        (abs, (-3,), 3),
        (operator.neg, (3,), -3),
        (len, ([1, 2],), 2),
        (int, ("7",), 7),
        (collections.Counter, ("aab",), collections.Counter("aab")),
        ("-".join, (["a", "b"],), "a-b"),
        (dict.fromkeys, ("ab", 1), {"a": 1, "b": 1}),
        (str.upper, ("a",), "A"),
        (lambda number: number + level, (1,), 101),
        (functools.partial(pow, 2), (5,), 32),
        (functools.partial(adder.add, number=1), (), 6),
        (functools.partial(functools.partial(adder), 1), (), 6),
        (adder.add, (1,), 6),
        (Adder.add, (adder, 1), 6),
        (Adder.add_base, (1,), 11),
        (Adder.double, (4,), 8),
        (Adder.Inner.triple, (4,), 12),
        (adder, (1,), 6),
        (operator.itemgetter(1), ("abc",), "b"),
        (cached, (1,), 6),
        (wrapped, (1,), -1),
        (coroutine, (1,), 2),
        (adder.later, (1,), 6),
        (functools.partial(coroutine, 1), (), 2),
        (lambda: coroutine(1), (), 2),
        (asyncio.sleep, (0, "slept"), "slept"),
    ]
    async with Pool(local=2) as pool:
        for fn, args, expected in calls:
            assert await pool.submit(fn, *args) == expected, fn
        made = await pool.submit(Adder, 3)
        assert isinstance(made, Adder) and made.amount == 3
        assert await pool.submit(keywords, 1, 2, fn=3, self=4, other=5) == ((1, 2), 3, 4, {"other": 5})
        with pytest.raises(LookupError, match="late"):
            await pool.submit(failing_coroutine)
        assert await pool.submit(lambda: lambda: 7) is not None


async def test_what_cannot_come_back() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(SerializationError, match="its result, a generator, could not be pickled"):
            await pool.submit(generate)
        with pytest.raises(SerializationError, match="its result, a async_generator, could not be pickled"):
            await pool.submit(generate_later)
        with pytest.raises(SerializationError, match="could not be pickled"):
            await pool.submit(threading.Lock)
        assert await pool.submit(list, generate_list()) == [1]
        assert len(pool.status().slots) == 1 and pool.status().slots[0].tasks_done == 4


def generate_list() -> list[int]:
    return list(generate())


async def test_what_is_not_a_function() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(TypeError, match=r"submit\(\) takes a function, not int"):
            pool.submit(3)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"pass the function and its arguments apart: submit\(f, x\), not submit\(f\(x\)\)"):
            pool.submit(coroutine(1))  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            await pool.submit(coroutine)  # type: ignore[call-arg]


async def test_handles(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        task = pool.options(name="the first", data={"a": 1}).submit(pass_gate, gate.path, 5)
        behind = pool.submit(abs, -1)
        assert isinstance(task, asyncio.Future) and isinstance(task, Task)
        assert repr(behind) == "<Task 2 'builtins.abs' queued>"
        await gate.met()
        assert repr(task) == "<Task 1 'the first' running on local/0>"
        assert (task.id, task.name, task.data, task.state) == (1, "the first", {"a": 1}, "running")
        (attempt,) = task.attempts
        assert (attempt.number, attempt.host, attempt.slot, attempt.outcome, attempt.ended_at) == (1, "local", 0, "running", None)
        gate.open()
        assert await asyncio.gather(task, behind) == [5, 1]
        (attempt,) = task.attempts
        assert attempt.outcome == "succeeded" and attempt.pid == pool.status().slots[0].pid
        assert attempt.started_at is not None and attempt.ended_at is not None
        assert attempt.queued_at <= attempt.started_at <= attempt.ended_at
        assert attempt.peak_bytes is None and attempt.stopped is None
        assert repr(task) == "<Task 1 'the first' succeeded on local/0>"
        assert pool.submit(Adder(1).add, 1).name == "tests.pool.test_submit.Adder.add"
        assert pool.submit(functools.partial(coroutine, 1)).name == "tests.pool.test_submit.coroutine"


async def test_slots_are_begun_as_work_arrives(gate: Gate) -> None:
    async with Pool(local=4) as pool:
        assert pool.status().slots == ()
        for _ in range(3):
            await pool.submit(abs, 1)
        assert len(pool.status().slots) == 1
        tasks = [pool.submit(pass_gate, gate.path) for _ in range(3)]
        pids = await gate.met(3)
        assert len(set(pids)) == 3 and len(pool.status().slots) == 3
        gate.open(3)
        await asyncio.gather(*tasks)


async def test_results_in_order_of_no_matter() -> None:
    async with Pool(local=2) as pool:
        tasks = [pool.submit(pow, number, 2) for number in range(3000)]
        assert await asyncio.gather(*tasks) == [number**2 for number in range(3000)]
        assert pool.status().succeeded == 3000


async def test_current_task_and_nested_use() -> None:
    async with Pool(local=1, seed=5) as pool:
        seen = await pool.options(name="n", data=[1], deadline=60.0).submit(look)
        assert seen[:4] == (1, 1, "local", [1]) and seen[4] == "n" and seen[5] is True
        with pytest.raises(UsageError, match="a task cannot open a pool of its own: return, and submit from the controller"):
            await pool.submit(nested)
    with pytest.raises(UsageError, match="outside a task"):
        aioparallel.current_task()
    with pytest.raises(UsageError, match="outside a task"):
        aioparallel.report_progress(1)


def look() -> tuple[Any, ...]:
    task = aioparallel.current_task()
    return task.id, task.attempt, task.host, task.data, task.name, task.deadline is not None


def nested() -> None:
    Pool(local=1)


async def test_a_crash_costs_one_task(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        await asyncio.gather(*(pool.submit(maybe_exit, False, gate.path) for _ in range(20)))  # quick: now they are sent ahead
        tasks = [pool.submit(maybe_exit, number == 3, gate.path) for number in range(40)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        died = results.pop(3)
        assert isinstance(died, WorkerDied) and (died.exit_code, died.signal) == (3, None)
        assert "local/0" in died.__notes__[0] and "maybe_exit" in died.__notes__[0]
        assert results == [None] * 39
        assert all(len(task.attempts) == 1 for task in tasks)
        assert tasks[3].attempts[0].outcome == "died"


def maybe_exit(exits: bool, path: str) -> None:
    if exits:
        os._exit(3)


async def test_a_slow_task_holds_up_none_that_was_sent_behind_it(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        await asyncio.gather(*(pool.submit(maybe_stay, False, gate.path) for _ in range(200)))
        tasks = [pool.submit(maybe_stay, number == 0, gate.path) for number in range(100)]
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks[1:])
        assert not tasks[0].done()
        await gate.met()
        gate.open()
        await tasks[0]
        assert all(len(task.attempts) == 1 for task in tasks)


def maybe_stay(stays: bool, path: str) -> None:
    if stays:
        pass_gate(path)


async def test_a_slow_task_alone_on_its_slot_gives_back_what_waits(gate: Gate) -> None:
    """What was called back from the only slot waits for it, and is not lost."""
    async with Pool(local=1) as pool:
        await asyncio.gather(*(pool.submit(maybe_stay, False, gate.path) for _ in range(50)))
        tasks = [pool.submit(maybe_stay, number == 0, gate.path) for number in range(50)]
        await gate.met()
        await until(pool, lambda: len(pool._engine.state.queue) == 49)
        assert {task.state for task in tasks[1:]} == {"queued"} and not any(task.attempts for task in tasks[1:])
        gate.open()
        await asyncio.gather(*tasks)


async def test_logging_goes_through_our_logger_alone(caplog: pytest.LogCaptureFixture, gate: Gate) -> None:
    caplog.set_level(logging.DEBUG)
    async with Pool(local=1) as pool:
        with pytest.raises(WorkerDied):
            await pool.submit(maybe_exit, True, "secret argument")
        task = pool.submit(stay, gate.path)
        await gate.met()
        task.cancel()
        await asyncio.wait([task])
    ours = [record for record in caplog.records if record.name != "asyncio"]
    assert ours and {record.name for record in ours} == {"aioparallel"}
    assert not any("secret" in record.getMessage() for record in ours)
    assert logging.getLogger("aioparallel").handlers == [] and logging.getLogger("aioparallel").level == logging.NOTSET


MAIN = """
import asyncio, os, sys
from dataclasses import dataclass
import aioparallel
import beside

print("main runs in", os.getpid(), flush=True)

class Odd(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number

@dataclass
class Point:
    x: int
    y: int = 0
    def moved(self, by): return Point(self.x + by, self.y)

LEVEL = 3

def work(point): return Point(point.x * LEVEL, os.getpid())
def fail(number): raise Odd(number)
async def later(point): return Point(point.x, os.getpid())

async def main():
    async with aioparallel.Pool(local=2) as pool:
        point = await pool.submit(work, Point(2))
        assert type(point) is Point and point.x == 6 and point.y != os.getpid(), point
        assert type(await pool.submit(later, Point(2))) is Point
        assert type(await pool.submit(Point(1).moved, 4)) is Point
        assert [p.x for p in await pool.map(work, [Point(n) for n in range(50)])] == [3 * n for n in range(50)]
        try:
            await pool.submit(fail, 7)
        except Odd as error:
            assert type(error) is Odd and error.number == 7 and error.args == (7,)
        else:
            raise AssertionError
        found = await pool.map(fail, range(3), on_error="return")
        assert [type(error) for error in found] == [Odd] * 3, found
        thing = await pool.submit(beside.make, 4)
        assert type(thing) is beside.Thing and thing.pid != os.getpid()
        assert Point.moved(Point(1), 1) == Point(2), "our own class is what it was"
        assert await pool.submit(lambda: [c.__name__ for c in Odd.__mro__][0]) == "Odd"
    print("done")

if __name__ == "__main__":
    asyncio.run(main())
"""
BESIDE = """
import os
class Thing:
    def __init__(self, n): self.n, self.pid = n, os.getpid()
def make(n): return Thing(n)
"""


@pytest.mark.parametrize("guarded", [True, False])
async def test_functions_and_classes_of_a_script(tmp_path: Path, guarded: bool) -> None:
    (tmp_path / "beside.py").write_text(BESIDE)
    script = MAIN if guarded else MAIN.replace('if __name__ == "__main__":\n    asyncio.run', "asyncio.run")
    code, out, err = await run_script(script, tmp_path)
    assert (code, err) == (0, ""), err
    assert out.count("main runs in") == 1, "the user's __main__ never runs again"
    assert out.endswith("done\n")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_functions_and_classes_of_a_script_in_a_child_of_multiprocessing(tmp_path: Path, method: str) -> None:
    (tmp_path / "beside.py").write_text(BESIDE)
    script = MAIN.replace(
        "    asyncio.run(main())",
        f"""    import multiprocessing
    child = multiprocessing.get_context("{method}").Process(target=start)
    child.start()
    child.join()
    assert child.exitcode == 0
""",
    ).replace("if __name__", "def start(): asyncio.run(main())\n\nif __name__")
    code, out, err = await run_script(script, tmp_path)
    assert (code, err) == (0, ""), err
    assert out.endswith("done\n")


async def test_a_results_memory_goes_with_the_last_reference_to_its_task() -> None:
    gc.disable()  # what only the collector of cycles would free is a leak to whoever moves large arrays
    try:
        async with Pool(local=1) as pool:
            task = pool.options(retries=1).submit(set, [1, 2])
            kept = weakref.ref(await task)
            del task
            await asyncio.sleep(0)  # the turn of the loop in which the result came holds the task
            assert kept() is None
    finally:
        gc.enable()


async def test_a_task_that_found_no_answer_goes_with_the_last_reference_too(gate: Gate) -> None:
    gc.disable()
    try:
        async with Pool(local=1) as pool:
            died = pool.options(retries=1).submit(os._exit, 3)
            slow = pool.options(timeout=0.05).submit(time.sleep, 1000)
            await asyncio.wait([died, slow])
            cancelled = pool.submit(stay, gate.path)
            await gate.met()
            cancelled.cancel()
            await asyncio.wait([cancelled])
            outcomes = [[attempt.outcome for attempt in task.attempts] for task in (died, slow, cancelled)]
            assert outcomes == [["died", "died"], ["timed out"], ["cancelled"]]
            assert isinstance(died.exception(), WorkerDied) and isinstance(slow.exception(), TaskTimeout)
            pool._engine.state._timers._heap.clear()  # what the scheduler looks at when a kill should be confirmed, in five seconds
            kept = [weakref.ref(task) for task in (died, slow, cancelled)]
            del died, slow, cancelled
            await asyncio.sleep(0)
            assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()
