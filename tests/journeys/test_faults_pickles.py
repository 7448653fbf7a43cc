"""What cannot be pickled or rebuilt, on either side, ends its own task with words; hooks that exit or crash cost no more."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from aioparallel import RemoteError, SerializationError, TaskExited, TaskTimeout, WorkerDied

from . import deeds, hooks

# --- arguments, at the user's line


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        hooks.make_generator,
        sys._getframe,
        lambda: hooks.RaisesOnReduce(ValueError, "no"),
        lambda: hooks.RaisesOnReduce(SystemExit, 3),
        lambda: hooks.RaisesOnReduce(deeds.OwnBaseException, "no"),
    ],
)
async def test_an_argument_that_cannot_be_pickled_raises_at_submit(open_pool, make):
    async with open_pool() as pool:
        argument = make()
        for args, kwargs in (((argument,), {}), (([{"deep": (argument,)}],), {}), ((), {"key": argument})):
            with pytest.raises(SerializationError, match="the call of print could not be pickled"):
                pool.submit(print, *args, **kwargs)


async def test_keyboard_interrupt_while_pickling_is_the_users(open_pool):
    async with open_pool() as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(print, hooks.RaisesOnReduce(KeyboardInterrupt))


async def test_a_function_that_cannot_be_pickled_raises_at_submit(open_pool):
    lock = threading.Lock()
    async with open_pool() as pool:
        with pytest.raises(SerializationError, match="lambda"):
            pool.submit(lambda: lock)
        with pytest.raises(SerializationError):
            pool.submit(lock.acquire)


async def test_pool_view_and_task_in_an_argument_are_errors_that_say_what_to_do(open_pool):
    async with open_pool() as pool:
        task = pool.submit(abs, -1)
        for argument in (pool, [pool], {"a": pool.options(timeout=1)}, lambda: pool):
            with pytest.raises(SerializationError, match="submit from the controller"):
                pool.submit(print, argument)
        for argument in (task, ((task,),), lambda: task):
            with pytest.raises(SerializationError, match="await it and pass on its result"):
                pool.submit(print, argument)
        with pytest.raises(SerializationError, match="submit from the controller"):
            pool.submit(pool.submit, print)
        assert await task == 1


# --- arguments, rebuilt in the slot


@pytest.mark.parametrize("kind", [ValueError, MemoryError, ImportError])
async def test_an_argument_whose_rebuilding_raises(open_pool, kind):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(SerializationError, match=r"arguments could not be rebuilt.*the reason"):
            await pool.submit(print, hooks.Rebuilt("slot", hooks.raise_it, kind, "the reason"))
        assert await pool.submit(deeds.own_pid) == pid


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, deeds.OwnBaseException])
async def test_an_argument_whose_rebuilding_exits(open_pool, kind):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(TaskExited) as caught:
            await pool.submit(print, hooks.Rebuilt("slot", hooks.raise_it, kind, "the reason"))
        assert type(caught.value.cause) is kind and caught.value.cause.args == ("the reason",)
        assert await pool.submit(deeds.own_pid) == pid


async def test_an_argument_whose_rebuilding_crashes(open_pool):
    async with open_pool() as pool:
        with pytest.raises(WorkerDied) as caught:
            await pool.submit(print, hooks.Rebuilt("slot", os._exit, 9))
        assert caught.value.exit_code == 9


async def test_an_argument_whose_rebuilding_never_ends(open_pool):
    async with open_pool() as pool:
        with pytest.raises(TaskTimeout):
            await pool.options(timeout=0.2).submit(print, hooks.Rebuilt("slot", deeds.loop_in_c))


async def test_a_function_whose_rebuilding_raises_or_crashes(open_pool):
    async with open_pool() as pool:
        raising, crashing = hooks.Rebuilt("slot", hooks.raise_it, ValueError, "no"), hooks.Rebuilt("slot", os._exit, 9)
        with pytest.raises(SerializationError, match="ValueError: no"):
            await pool.submit(lambda: raising)
        with pytest.raises(WorkerDied):
            await pool.submit(lambda: crashing)


# --- results


@pytest.mark.parametrize("make", [hooks.make_unpicklable, hooks.make_generator])
async def test_a_result_that_cannot_be_pickled(open_pool, make):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(SerializationError, match=r"its result, a (lock|generator), could not be pickled"):
            await pool.submit(make)
        assert await pool.submit(deeds.own_pid) == pid


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, deeds.OwnBaseException])
async def test_a_result_whose_reduce_raises_or_exits(open_pool, kind):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(SerializationError, match=f"RaisesOnReduce, could not be pickled: .*{kind.__name__}"):
            await pool.submit(hooks.make_raises_on_reduce, kind, "no")
        assert await pool.submit(deeds.own_pid) == pid


@pytest.mark.parametrize("kind", [ValueError, SystemExit, GeneratorExit, deeds.OwnBaseException])
async def test_a_result_whose_rebuilding_in_the_controller_raises_or_exits(open_pool, kind):
    async with open_pool() as pool:
        with pytest.raises(SerializationError, match=f"result of .*make_rebuilt' could not be rebuilt: {kind.__name__}: no"):
            await pool.submit(hooks.make_rebuilt, "controller", hooks.raise_it, kind, "no")


async def test_a_large_result_whose_rebuilding_raises(open_pool):
    async with open_pool() as pool:
        with pytest.raises(SerializationError, match="could not be rebuilt"):
            await pool.submit(hooks.make_rebuilt, "controller", hooks.raise_it, ValueError, "x" * (3 << 20))


# --- exceptions


async def test_an_exception_that_can_travel_arrives_whole(open_pool):
    async with open_pool() as pool:
        with pytest.raises(hooks.WellMade) as caught:
            await pool.submit(deeds.raise_it, hooks.WellMade, 7, "seven")
        assert caught.value.args == (7, "seven") and caught.value.extra == [7]
        assert "in raise_it" in caught.value.__notes__[0] and "WellMade: (7, 'seven')" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("kind", "args", "text"),
    [
        (hooks.TwoArguments, (7, "seven"), "7: seven"),
        (hooks.HoldsALock, (), "lock"),
        (hooks.ReducesBadly, ("why",), "why"),
        (hooks.BreaksInController, ("why",), "why"),
        (hooks.ExitsInController, ("why",), "why"),
        (hooks.NoText, (), "unprintable"),
    ],
)
async def test_an_exception_that_cannot_travel_arrives_as_text(open_pool, kind, args, text):
    async with open_pool(1) as pool:
        pid = await pool.submit(deeds.own_pid)
        with pytest.raises(RemoteError, match=text) as caught:
            await pool.submit(deeds.raise_it, kind, *args)
        assert caught.value.type_name == f"tests.journeys.hooks.{kind.__name__}" and text in caught.value.text
        assert "Traceback (most recent call last)" in caught.value.__notes__[0]
        assert await pool.submit(deeds.own_pid) == pid


async def test_a_local_exception_class_travels_by_value(open_pool):
    async with open_pool() as pool:
        with pytest.raises(Exception, match="from inside a function") as caught:
            await pool.submit(hooks.raise_local_class)
        assert type(caught.value).__name__ == "Local"


async def test_the_cause_of_an_exception_is_told_in_its_note(open_pool):
    def chained():
        try:
            return {}["missing"]
        except KeyError as error:
            raise ValueError("outer") from error

    async with open_pool() as pool:
        with pytest.raises(ValueError, match="outer") as caught:
            await pool.submit(chained)
        assert "KeyError: 'missing'" in caught.value.__notes__[0]


async def test_many_of_them_at_once(open_pool):
    """None of these ends takes any other task along."""
    async with open_pool() as pool:
        tasks = []
        for number in range(20):
            tasks.append(pool.submit(abs, -number))
            tasks.append(pool.submit(hooks.make_unpicklable))
            tasks.append(pool.submit(deeds.raise_it, hooks.HoldsALock))
            tasks.append(pool.submit(print, hooks.Rebuilt("slot", hooks.raise_it, ValueError, "no")))
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert ended[::4] == list(range(20))
        assert {type(error) for error in ended[1::4]} == {SerializationError}
        assert {type(error) for error in ended[2::4]} == {RemoteError}
        assert {type(error) for error in ended[3::4]} == {SerializationError}
