"""`Pool(...)` and `options(...)`: what they do for a call, and what they refuse, with a remedy."""

from __future__ import annotations

import asyncio
import math
import operator
import os
import pickle
import random
import time
from typing import Any

import pytest

import aioparallel
from aioparallel import Pool, Retry, SerializationError, TaskTimeout, WorkerDied
from aioparallel.options import DEFAULTS

from .gate import Gate, arrive, gone, pass_gate, stay

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout": 0}, ValueError, "timeout=0: give seconds above 0, or None for no limit"),
    ({"timeout": -1.0}, ValueError, "timeout=-1.0: give seconds above 0"),
    ({"timeout": "3"}, ValueError, "timeout='3'"),
    ({"timeout": True}, ValueError, "timeout=True"),
    ({"timeout": math.nan}, ValueError, "timeout=nan"),
    ({"deadline": math.inf}, ValueError, "deadline=inf: give seconds above 0, or None for no limit"),
    ({"retries": -1}, ValueError, "retries=-1: give the number of further attempts, 0 "),
    ({"retries": 1.0}, ValueError, "retries=1.0"),
    ({"retries": None}, ValueError, "retries=None"),
    ({"retries": 10**6}, ValueError, "retries=1000000"),
    ({"memory": 0}, ValueError, "memory=0: give bytes as an int above 0, or None for no limit"),
    ({"memory": 1e9}, ValueError, "memory=1000000000.0"),
    ({"grace": None}, ValueError, "grace=None: give seconds, 0 or more"),
    ({"grace": -0.1}, ValueError, "grace=-0.1"),
    ({"idempotent": False, "retries": 1}, ValueError, "idempotent=False forbids running twice, so retries must be 0"),
    ({"retry": 3}, TypeError, r"retry=3: give a value, as in retry=Retry\(attempts=3\), or retries=2"),
    ({"retry": Retry}, TypeError, "give a value, as in"),
    ({"retry": Retry(attempts=3), "retries": 2}, ValueError, r"retries=2 is short for retry=Retry\(attempts=3\): give one of the two"),
    ({"retry": Retry(attempts=2), "idempotent": False}, ValueError, r"retries must be 0 \(and Retry\(attempts=\) 1\)"),
    ({"idempotent": "yes"}, TypeError, "idempotent='yes': give True, False or None"),
    ({"isolate": 1}, TypeError, "isolate=1: give True or False"),
    ({"copy": None}, TypeError, "copy=None: give True or False"),
    ({"name": 3}, TypeError, "name=3: give a str"),
    ({"time_out": 3}, TypeError, r"options\(\) has no 'time_out'; it knows backup, copy, cost, data, deadline, grace,"),
    ({"extras": b""}, TypeError, r"options\(\) has no 'extras'"),
]
WRONG_RETRIES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"attempts": 0}, ValueError, "attempts=0: give how many there may be in all, 1 to 10001"),
    ({"attempts": 10_002}, ValueError, "attempts=10002"),
    ({"attempts": 2.0}, ValueError, "attempts=2.0"),
    ({"attempts": True}, ValueError, "attempts=True"),
    ({"infrastructure": -1}, ValueError, "infrastructure=-1: give how many lost hosts are made good, 0 to 10000"),
    ({"infrastructure": None}, ValueError, "infrastructure=None"),
    ({"infrastructure": 10**6}, ValueError, "infrastructure=1000000"),
    ({"on": "OSError"}, TypeError, r"on='OSError': give types of exceptions, as in on=\(OSError, WorkerDied\), or a function"),
    ({"on": 3}, TypeError, "on=3: give types"),
    ({"on": int}, TypeError, "on=: <class 'int'> is no type of exceptions"),
    ({"on": [OSError, OSError(1)]}, TypeError, "on=: OSError.* is no type of exceptions"),
    ({"on": ()}, ValueError, r"on=\(\): no exception would be tried again"),
    ({"on": [WorkerDied, aioparallel.HostLost]}, ValueError, "HostLost is no failure of the task's own: infrastructure= says"),
    ({"on": asyncio.sleep}, TypeError, "it is async, and nobody can wait for it there: give a plain function"),
    ({"delay": -1}, ValueError, "delay=-1: give seconds, 0 or more"),
    ({"delay": None}, ValueError, "delay=None"),
    ({"delay": math.inf}, ValueError, "delay=inf"),
    ({"backoff": 0.5}, ValueError, r"backoff=0.5: give a number, 1 \(each delay is as long as the first\) or more"),
    ({"backoff": math.nan}, ValueError, "backoff=nan"),
    ({"jitter": 1.1}, ValueError, "jitter=1.1: give the part of a delay that chance may leave out, 0 to 1"),
    ({"jitter": -0.1}, ValueError, "jitter=-0.1"),
    ({"jitter": True}, ValueError, "jitter=True"),
    ({"max_delay": 0}, ValueError, "max_delay=0: give seconds above 0, or None"),
    ({"delay": 3, "max_delay": 2.5}, ValueError, "max_delay=2.5 is less than delay=3: give as much or more"),
    ({"avoid_host": None}, TypeError, "avoid_host=None: give True or False"),
    ({"tries": 3}, TypeError, "unexpected keyword argument 'tries'"),
]
WRONG_POOLS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"local": 0}, ValueError, "local=0: give the number of slots .* \\(0 needs hosts=\\)"),
    ({"local": -2}, ValueError, "local=-2"),
    ({"local": 2.0}, ValueError, "local=2.0"),
    ({"local": True}, ValueError, "local=True"),
    ({"local": "all"}, ValueError, """local='all': .*"serial\""""),
    ({"max_tasks_per_slot": 0}, ValueError, "max_tasks_per_slot=0"),
    ({"preload": "numpy"}, TypeError, r"preload='numpy': give a list of module names, as in preload=\['numpy'\]"),
    ({"preload": [math]}, TypeError, "preload="),
    ({"seed": "x"}, TypeError, "seed='x': give an int, or None"),
    ({"name": 3}, TypeError, "name=3: give a str"),
    ({"python": 3}, TypeError, "python=3: give the path of an interpreter"),
    ({"workers": 3}, TypeError, "unexpected keyword"),
    ({"reserve": -1}, ValueError, "reserve=-1: give a number of CPUs"),
    ({"heartbeat": 0}, ValueError, "heartbeat=0: give seconds above 0"),
    ({"lost_grace": math.inf}, ValueError, "lost_grace=inf: give seconds above 0"),
    ({"heartbeat": 20, "orphan_after": 30}, ValueError, "give at least two heartbeats"),
    ({"hosts": "box"}, TypeError, r"give a list of hosts, as in hosts=\['box'\]"),
    ({"hosts": ["box", "box"]}, ValueError, "names 'box' twice"),
    ({"hosts": 3}, TypeError, "hosts=3: give a list of hosts, or an async iterator"),
]


@pytest.mark.parametrize(("arguments", "kind", "text"), WRONG_POOLS)
def test_wrong_arguments_of_pool(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Pool(**arguments)


def test_wrong_options() -> None:
    pool = Pool(local=1)
    for arguments, kind, text in WRONG:
        with pytest.raises(kind, match=text):
            pool.options(**arguments)
    with pytest.raises(ValueError, match="retries must be 0"):
        pool.options(retries=2).options(idempotent=False)
    with pytest.raises(SerializationError):
        pool.options(data=open)._pool.options(data=(i for i in []))


@pytest.mark.parametrize(("arguments", "kind", "text"), WRONG_RETRIES)
def test_wrong_retries(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Retry(**arguments)


def test_retries_are_short_for_a_value() -> None:
    pool = Pool(local=1)
    assert pool.options(retries=2)._options.retry == Retry(attempts=3)
    assert pool.options()._options.retry == pool.options(retry=None)._options.retry == Retry()
    assert pool.options(retry=Retry(attempts=3, delay=1.0)).options(timeout=3)._options.retry.delay == 1.0
    assert pool.options(retry=Retry(attempts=9, delay=1.0)).options(retries=1)._options.retry == Retry(attempts=2)
    assert pool.options(retries=1).options(retry=Retry(delay=2.0))._options.retry == Retry(delay=2.0)
    assert pool.options(retries=1).options(retry=None)._options.retry == Retry()
    assert pool.options(idempotent=False, retry=Retry(delay=2.0))._options.idempotent is False
    assert repr(pool.options(retry=Retry(attempts=2, on=OSError))) == (
        "<options(retry=Retry(attempts=2, on=(<class 'OSError'>,))) of <Pool 'pool' new>>"
    )
    assert Retry(on=[OSError, KeyError]) == Retry(on=(OSError, KeyError)) != Retry(on=OSError) == Retry(on=(OSError,))
    assert hash(Retry(delay=1.0)) == hash(Retry(delay=1.0)) and pickle.loads(pickle.dumps(Retry(on=OSError))) == Retry(on=OSError)
    with pytest.raises(AttributeError, match="frozen"):
        Retry().attempts = 3  # type: ignore[misc]


def test_views_are_frozen_values() -> None:
    pool = Pool(local=1)
    view = pool.options(timeout=5, retries=2)
    more = view.options(timeout=None, name="x")
    assert (view._options.timeout, view._options.retries, more._options.timeout, more._options.retries) == (5, 2, None, 2)
    assert pool._options is DEFAULTS
    assert repr(view) == "<options(timeout=5, retries=2) of <Pool 'pool' new>>"
    with pytest.raises(AttributeError):
        view._options.timeout = 3  # type: ignore[misc]


async def test_timeout_and_deadline_say_which_it_was(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        await pool.submit(arrive, gate.path)
        (first,) = await gate.met()
        task = pool.options(timeout=0.3).submit(stay, gate.path)
        neighbour = pool.submit(abs, -4)
        with pytest.raises(TaskTimeout, match=r"one attempt ran longer than timeout=0.3 s") as caught:
            await task
        assert (caught.value.limit, caught.value.seconds) == ("timeout", 0.3)
        assert isinstance(caught.value, TimeoutError)
        assert "on local/0" in caught.value.__notes__[0]
        assert gone(first) and task.attempts[0].outcome == "timed out" and task.attempts[0].stopped == "killed"
        assert await neighbour == 4
        await gate.met()
        task = pool.options(deadline=0.5, timeout=100).submit(stay, gate.path)
        with pytest.raises(TaskTimeout, match=r"queue, attempts and retries together took longer than deadline=0\.5 s") as caught:
            await task
        assert caught.value.limit == "deadline"


async def test_a_deadline_in_the_queue(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        await gate.met()
        queued = [pool.options(deadline=0.2).submit(abs, 1), pool.options(deadline=0.2, isolate=True).submit(abs, 1)]
        later = pool.options(deadline=60).submit(abs, -1)
        for task in queued:
            with pytest.raises(TaskTimeout) as caught:
                await task
            assert caught.value.limit == "deadline" and task.attempts == ()
        assert (pool.status().queued, pool.status().failed) == (1, 2)
        gate.open()
        await blocker
        assert await later == 1


async def test_a_deadline_behind_a_slow_task_in_the_slot(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        await asyncio.gather(*(pool.submit(maybe_stay, False, gate.path) for _ in range(50)))
        slow = pool.submit(maybe_stay, True, gate.path)
        ahead = [pool.options(deadline=0.2).submit(maybe_stay, False, gate.path) for _ in range(10)]
        await gate.met()
        found = await asyncio.gather(*ahead, return_exceptions=True)
        assert [type(error) for error in found] == [TaskTimeout] * 10
        gate.open()
        assert await slow is None


def maybe_stay(stays: bool, path: str) -> None:
    if stays:
        pass_gate(path)


async def test_a_deadline_goes_across_retries(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        await pool.submit(arrive, gate.path)
        began = time.monotonic()
        task = pool.options(deadline=1.0, timeout=0.3, retries=100).submit(stay, gate.path)
        with pytest.raises(TaskTimeout) as caught:
            await task
        assert caught.value.limit == "deadline" and time.monotonic() - began < 4
        assert 2 <= len(task.attempts) <= 5
        assert {attempt.outcome for attempt in task.attempts} == {"timed out"}


async def test_retries_are_counted() -> None:
    async with Pool(local=2) as pool:
        task = pool.options(retries=3).submit(fail_until, 3)
        assert await task == 3
        assert [(attempt.number, attempt.outcome) for attempt in task.attempts] == [(1, "failed"), (2, "failed"), (3, "succeeded")]
        assert repr(task).endswith("succeeded on local/0, attempt 3>") or repr(task).endswith("succeeded on local/1, attempt 3>")
        with pytest.raises(LookupError) as caught:
            await pool.options(retries=1).submit(fail_until, 3)
        assert caught.value.args == (2,) and "attempt 2, on local/" in caught.value.__notes__[0]
        task = pool.options(retries=2).submit(crash_until, 3)
        assert await task == 3
        assert [attempt.outcome for attempt in task.attempts] == ["died", "died", "succeeded"]
        with pytest.raises(WorkerDied):
            await pool.options(retries=1).submit(os._exit, 4)
        with pytest.raises(aioparallel.TaskExited):
            await pool.options(retries=1).submit(exit)
        assert pool.status().retried == 2 + 1 + 2 + 1 + 1


def fail_until(number: int) -> int:
    attempt = aioparallel.current_task().attempt
    if attempt < number:
        raise LookupError(attempt)
    return attempt


def crash_until(number: int) -> int:
    attempt = aioparallel.current_task().attempt
    if attempt < number:
        os._exit(4)
    return attempt


async def test_grace() -> None:
    began = time.monotonic()
    async with Pool(local=1) as pool:
        await pool.submit(seen)
        for fn in (stop_well, stop_well_later):
            task = pool.options(grace=20.0, timeout=0.7).submit(fn)
            with pytest.raises(TaskTimeout) as caught:
                await task
            assert caught.value.limit == "timeout" and task.attempts[0].stopped == "asked"
        task = pool.options(grace=0.2, timeout=0.5).submit(stop_never)
        with pytest.raises(TaskTimeout):
            await task
        assert task.attempts[0].stopped == "killed"
    assert time.monotonic() - began < 15, "the limits of the later ones are kept, too"


def stop_well() -> str:
    try:
        time.sleep(1000)
    except aioparallel.TaskCancelled:
        return "it does not matter"
    return "never"


async def stop_well_later() -> str:
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return "it does not matter"
    return "never"


def stop_never() -> None:
    while True:
        try:
            time.sleep(1000)
        except aioparallel.TaskCancelled:
            pass


async def test_a_request_to_stop_may_come_at_any_moment() -> None:
    """Also while the slot imports what the task needs: it must be able to import that later."""
    async with Pool(local=1) as pool:
        for delay in range(1, 200, 15):
            task = pool.options(grace=20.0, timeout=delay / 1000).submit(stop_well)
            with pytest.raises(TaskTimeout):
                await task
        assert await pool.submit(fail_until, 1) == 1


async def test_isolate() -> None:
    async with Pool(local=2) as pool:
        isolated = [pool.options(isolate=True).submit(os.getpid) for _ in range(6)]
        plain = [pool.submit(os.getpid) for _ in range(20)]
        alone, shared = await asyncio.gather(*isolated), await asyncio.gather(*plain)
        assert len(set(alone)) == 6 and not set(alone) & set(shared)


async def test_max_tasks_per_slot() -> None:
    async with Pool(local=1, max_tasks_per_slot=3) as pool:
        pids = await asyncio.gather(*(pool.submit(os.getpid) for _ in range(10)))
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3, 1]


async def test_name_and_data() -> None:
    async with Pool(local=1) as pool:
        data = {"a": [1]}
        view = pool.options(name="mine", data=data)
        data["a"].append(2)
        task = view.submit(seen)
        assert (task.name, task.data) == ("mine", {"a": [1, 2]})
        assert await task == ("mine", {"a": [1]}), "what travels is what it was when it was given"
        assert await pool.submit(seen) == ("tests.pool.test_options.seen", None)
        with pytest.raises(ZeroDivisionError) as caught:
            await pool.options(name="the odd one").submit(operator.truediv, 1, 0)
        assert "'the odd one'" in caught.value.__notes__[0]


def seen() -> tuple[str, Any]:
    task = aioparallel.current_task()
    return task.name, task.data


async def test_seeds() -> None:
    found = []
    for seed in (1, 1, 2):
        async with Pool(local=2, seed=seed) as pool:
            seeds = await asyncio.gather(*(pool.submit(get_seed) for _ in range(10)))
            mapped = await pool.map(map_seed, range(40), chunk=None)
            assert mapped == await pool.map(map_seed, range(40), chunk=7) or len(set(mapped)) == 40
            assert len(set(seeds)) == 10
            found.append((seeds, mapped))
            assert len(set(await asyncio.gather(*(pool.submit(roll) for _ in range(8))))) == 8
            task = pool.options(retries=1).submit(seed_of_both)
            assert await task is True
    assert found[0] == found[1] != found[2]


def roll() -> float:
    return random.random()


def get_seed() -> int:
    return aioparallel.current_task().seed


def map_seed(_: int) -> int:
    return aioparallel.current_task().seed


def seed_of_both() -> bool:
    task = aioparallel.current_task()
    path = f"/tmp/aioparallel-test-seed-{os.getppid()}"
    if task.attempt == 1:
        with open(path, "w") as file:
            file.write(str(task.seed))
        raise ValueError("again")
    try:
        with open(path) as file:
            return file.read() == str(task.seed)
    finally:
        os.unlink(path)
