"""`pool.share`: a value is pickled once, put on the host once, and stands in place of its handle in every task that names it."""

from __future__ import annotations

import asyncio
import copy
import errno
import functools
import gc
import os
import pickle
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from aioparallel import Pool, PoolClosed, SerializationError, Shared, UsageError, WorkerDied
from aioparallel._jobs import shared as shared_values
from aioparallel._worker import region

from ..journeys.looks import until
from .gate import Gate, arrive, pass_gate, stay

BIG = 3 << 20
MEMORY = "aioparallel-shared"


class Raw:
    """What hands its bytes out as a large buffer, and counts in a file how often it is made again."""

    def __init__(self, data: Any, notes: str | None = None) -> None:
        self.data, self.notes = data, notes

    def __reduce__(self) -> Any:
        return _raw_again, (pickle.PickleBuffer(self.data), self.notes)


def _raw_again(data: Any, notes: str | None) -> Raw:
    if notes is not None:
        with open(notes, "a") as file:
            file.write(f"{os.getpid()}\n")
    return Raw(memoryview(data), notes)


def look(value: Raw, _: Any = None) -> tuple[int, int, bool]:
    return os.getpid(), sum(value.data[::4096]), value.data.readonly


def mapped(pid: int | str = "self") -> set[str]:
    """Return the inodes of the shared memory that a process has mapped."""
    return {line.split()[4] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if MEMORY in line}


def held() -> list[str]:
    """Return the shared memory that this process keeps."""
    fds = Path("/proc/self/fd")
    return [link for fd in os.listdir(fds) if (fds / fd).is_symlink() and MEMORY in (link := os.readlink(fds / fd))]


def known() -> tuple[int, int]:
    """Return how many values this slot knows, and has opened."""
    from aioparallel._worker.shared import current

    return len(current), len(current._opened)


def where(value: Raw, gate: str) -> tuple[int, set[str]]:
    assert value.data
    pass_gate(gate)
    return os.getpid(), mapped()


async def test_the_value_stands_in_place_of_its_handle_at_any_depth() -> None:
    async with Pool(local=1) as pool:
        one: Shared[list[int]] = await pool.share([1, 2, 3])
        two = await pool.share("text")
        assert await pool.submit(sum, one) == 6
        assert await pool.submit(lambda x, *, y: (x, y), {"a": [(one, one)]}, y={two: one}) == (
            {"a": [([1, 2, 3], [1, 2, 3])]},
            {"text": [1, 2, 3]},
        )
        assert await pool.submit(lambda: (one, two)) == ([1, 2, 3], "text")
        assert await pool.submit(functools.partial(max, one)) == 3
        assert await pool.submit("{} {}".format, one, two) == "[1, 2, 3] text"
        assert await pool.submit(lambda pair: pair[0] is pair[1], (one, one))


class _ByValue:
    def __init__(self, found: Any) -> None:
        self.found = found

    def __call__(self, item: int) -> Any:
        return item + self.found[0]


async def test_in_a_map() -> None:
    async with Pool(local=2) as pool:
        one = await pool.share([10])
        assert await pool.map(lambda item: item + one[0], range(100)) == list(range(10, 110))
        assert await pool.map(_ByValue(one), range(100)) == list(range(10, 110))
        assert await pool.map(lambda pair: pair[0] + pair[1][0], [(i, one) for i in range(100)], chunk=7) == list(range(10, 110))
        assert await pool.map(lambda item, base: item + base[0], range(100), [one] * 100) == list(range(10, 110))
        assert await pool.options(timeout=20).map(lambda item, base: item + base[0], range(9), [one] * 9) == list(range(10, 19))


async def test_what_is_sent_again_of_a_chunk_still_has_its_values(tmp_path: Path) -> None:
    def fragile(number: int, base: Any, other: Any = None) -> Any:
        if number == 3:
            os._exit(5)
        return number + base[0] + extra[0]

    async with Pool(local=1) as pool:
        base, extra = await pool.share([10]), await pool.share([100])
        results = pool.map(fragile, range(8), [base] * 8, chunk=8, on_error="return")
        stream = aiter(results)  # it has begun
        base = extra = None
        gc.collect()
        found = [result async for result in stream]
        assert isinstance(found[3], WorkerDied) and [*found[:3], *found[4:]] == [number + 110 for number in (0, 1, 2, 4, 5, 6, 7)]
        del results, stream
        gc.collect()
        await until(lambda: not shared_values.HANDLES and not pool._maker.shares._gone)
        assert await pool.submit(known) == (0, 0)


async def test_it_is_a_snapshot() -> None:
    value = {"list": [1], "raw": Raw(bytearray(BIG))}
    async with Pool(local=1) as pool:
        one = await pool.share(value)
        value["list"].append(2)
        value["raw"].data[:] = b"x" * BIG
        assert await pool.submit(lambda found: (found["list"], bytes(found["raw"].data[:3])), one) == ([1], b"\0\0\0")


async def test_it_is_pickled_once_and_opened_once_in_each_slot(tmp_path: Path) -> None:
    pickled = 0

    class Counting(Raw):
        def __reduce__(self) -> Any:
            nonlocal pickled
            pickled += 1
            return super().__reduce__()

    notes = tmp_path / "notes"
    async with Pool(local=2) as pool:
        one = await pool.share(Counting(bytes([7]) * BIG, str(notes)))
        looks = await asyncio.gather(*(pool.submit(look, one, number) for number in range(100)))
        assert {found[1:] for found in looks} == {(7 * BIG // 4096, True)}
        pids = [int(line) for line in notes.read_text().split()]
        assert pickled == 1 and sorted(pids) == sorted({found[0] for found in looks})
        same = await asyncio.gather(*(pool.submit(lambda value: (os.getpid(), id(value)), one) for _ in range(20)))
        assert len(set(same)) == len({pid for pid, _ in same})
        fresh = await pool.options(isolate=True).submit(look, one)
        assert fresh[0] not in pids and len(notes.read_text().split()) == len(pids) + 1


async def test_slots_map_one_memory_and_let_go_of_it_with_the_last_reference(gate: Gate) -> None:
    async with Pool(local=2) as pool:
        one = await pool.share(Raw(bytes(BIG)), name="zeros")
        assert len(held()) == 1
        tasks = [pool.submit(where, one, gate.path) for _ in range(2)]
        pids = await gate.met(2)
        gate.open(2)
        found = await asyncio.gather(*tasks)
        assert sorted(pid for pid, _ in found) == sorted(pids)
        assert len(found[0][1]) == 1 and found[0][1] == found[1][1]
        tasks.clear()
        assert mapped(pids[0]) == mapped(pids[1]) == found[0][1]
        del one
        gc.collect()
        assert held() == []
        await until(lambda: not mapped(pids[0]) and not mapped(pids[1]))  # though no task comes
        assert {await pool.submit(known) for _ in range(4)} == {(0, 0)}
        assert await pool.submit(os.getpid) in pids


async def test_idle_slots_with_values_go_on_as_before(gate: Gate) -> None:
    """What was called back from a slot is read by it while it idles, and still never begins."""
    async with Pool(local=1) as pool:
        one, two = await pool.share([1]), await pool.share([2])
        assert await pool.submit(sum, one) == 1
        for _ in range(3):
            blocker = pool.submit(pass_gate, gate.path, 7)
            await gate.met()
            behind = [pool.submit(pass_gate, gate.path, number) for number in range(5)]
            named = pool.submit(sum, two)
            for task in behind:
                task.cancel()
            gate.open()
            assert await blocker == 7 and await named == 2
            assert all(task.cancelled() for task in behind)
        del named, two
        gc.collect()
        assert await pool.submit(abs, -3) == 3
        await until(lambda: not pool._maker.shares._gone)
        assert await pool.submit(known) == (1, 1)


async def test_a_task_that_waits_keeps_its_values(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        blocker = pool.submit(pass_gate, gate.path)
        await gate.met()
        waiting = [pool.submit(look, await pool.share(Raw(bytes([number]) * BIG))) for number in range(3)]
        by_value = await pool.share(Raw(bytes([9]) * BIG))
        waiting.append(pool.submit(lambda: look(by_value)))
        by_value = None
        gc.collect()
        assert len(held()) == 4
        waiting[1].cancel()
        gate.open()
        await blocker
        assert [(await waiting[number])[1] for number in (0, 2)] == [0, 2 * BIG // 4096]
        assert (await waiting[3])[1] == 9 * BIG // 4096
        assert held() == []  # though the tasks are there


async def test_after_a_crash_the_next_slot_opens_it_again(tmp_path: Path) -> None:
    def crash_once(value: Raw) -> int:
        try:
            (tmp_path / "crashed").touch(exist_ok=False)
        except FileExistsError:
            return len(value.data)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    async with Pool(local=1) as pool:
        one = await pool.share(Raw(bytes(BIG)))
        assert await pool.options(retries=1).submit(crash_once, one) == BIG
        with pytest.raises(WorkerDied):
            await pool.submit(lambda value: os._exit(len(value.data) and 3), one)
        assert (await pool.submit(look, one))[1] == 0


async def test_after_the_agent_was_lost_the_next_one_has_it(gate: Gate) -> None:
    async with Pool(local=1) as pool:
        one, small = await pool.share(Raw(bytes(BIG))), await pool.share([4])
        task = pool.submit(lambda value, other, path: (arrive(path), len(value.data), other)[1:], one, small, gate.path)
        await task
        await gate.met()
        staying = pool.submit(lambda value, path: pass_gate(path, len(value.data)), one, gate.path)
        await gate.met()
        (host,) = pool._engine.hosts.values()
        os.kill(host._agent_pid, signal.SIGKILL)
        await gate.met()
        gate.open()
        assert await staying == BIG and [attempt.outcome for attempt in staying.attempts] == ["lost", "succeeded"]
        assert await pool.submit(sum, small) == 4


async def test_shared_memory_is_not_charged_to_the_task_that_opens_it() -> None:
    size = 200 << 20
    async with Pool(local=1) as pool:
        one = await pool.share(Raw(bytes(size)))
        limited = pool.options(memory=100 << 20)
        for _ in range(2):
            assert (await limited.submit(look, one))[1] == 0
        peak = limited.submit(look, one)
        await peak
        assert (peak.attempts[0].peak_bytes or 0) < size // 2


async def test_where_no_memory_can_be_mapped_each_slot_gets_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region, "_can_be_mapped", lambda: False)
    async with Pool(local=2) as pool:
        one = await pool.share(Raw(bytearray([3]) * BIG))
        found = await asyncio.gather(*(pool.submit(look, one, number) for number in range(20)))
        assert {(total, readonly) for _, total, readonly in found} == {(3 * BIG // 4096, True)}
        assert held() == []


@pytest.mark.parametrize("value", [None, 7, "é" * BIG, b"x" * BIG, [1, "two"], list(range(30_000)), bytes(70_000), Raw(bytes(70_000))])
async def test_values_of_all_sizes(value: Any) -> None:
    async with Pool(local=1) as pool:
        one = await pool.share(value)
        found = await pool.submit(lambda found: bytes(found.data) if hasattr(found, "data") else found, one)
        assert found == (value.data if isinstance(value, Raw) else value)
        assert one.size >= 1 and one.name == type(value).__name__


async def test_serial_gives_the_same_results() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        async with Pool(local="serial") as pool:
            one, two = await pool.share(Raw(bytes([5]) * BIG)), await pool.share([1])
            for _ in range(2):
                assert await pool.submit(look, one) == (os.getpid(), 5 * BIG // 4096, True)
            assert await pool.map(lambda item: item + two[0], range(50)) == list(range(1, 51))
            (host,) = pool._engine.hosts.values()
            values: Any = host._values
            assert len(values) == 2
            one = two = None
            await until(lambda: gc.collect() >= 0 and len(values) == 0 and not mapped() and not held())


# --- what cannot be


class Stubborn:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise LookupError("not here")


async def test_a_value_that_cannot_be_rebuilt_costs_the_tasks_that_name_it() -> None:
    async with Pool(local=1) as pool:
        one = await pool.share(Stubborn(), name="mule")
        for _ in range(2):
            with pytest.raises(SerializationError, match="the shared value 1 'mule' could not be rebuilt: LookupError: not here"):
                await pool.submit(type, one)
        assert await pool.submit(abs, -3) == 3


async def test_what_cannot_be_pickled_raises_at_the_line() -> None:
    async with Pool(local=1) as pool:
        with pytest.raises(SerializationError, match=r"the value 'lock' could not be pickled: .*lock"):
            await pool.share(threading.Lock())
        with pytest.raises(SerializationError, match="cannot travel to a slot"):
            await pool.share([pool])
        one = await pool.share([1])
        with pytest.raises(SerializationError, match="stands in a value that is to be shared: share both apart"):
            await pool.share({"nested": [one]})
        with pytest.raises(TypeError, match="name=3: give a str"):
            await pool.share(1, name=3)
        assert await pool.submit(sum, one) == 1


async def test_a_handle_travels_only_in_calls_of_its_own_pool() -> None:
    async with Pool(local=1) as pool, Pool(local=1) as other:
        one = await pool.share([1])
        with pytest.raises(SerializationError, match=r"belongs to another pool: share the value with the pool of the call"):
            other.submit(sum, one)
        with pytest.raises(SerializationError, match="belongs to another pool"):
            await other.map(lambda item: one, range(3))
        with pytest.raises(UsageError, match="travels only as an argument"):
            pickle.dumps(one)
        with pytest.raises(SerializationError, match="travels only as an argument"):
            pool.options(data=one)
        assert copy.deepcopy([one])[0] is one and copy.copy(one) is one
        await pool.aclose()
        with pytest.raises(SerializationError, match=r"closed> belongs to a pool that is closed"):
            other.submit(sum, one)
        with pytest.raises(PoolClosed):
            pool.submit(sum, one)
        with pytest.raises(PoolClosed):
            await pool.share(1)
        assert await other.submit(abs, -1) == 1
    with pytest.raises(UsageError, match="not open"):
        await Pool(local=1).share(1)


async def test_a_closed_pool_keeps_no_memory() -> None:
    async with Pool(local=1) as pool:
        one = await pool.share(Raw(bytes(BIG)))
        assert repr(one) == f"<Shared 1 'Raw', {one.size:,} bytes>" and BIG < one.size < BIG + 1000
    assert held() == [] and repr(one).endswith("closed>")
    del one
    gc.collect()
    assert not shared_values.HANDLES


async def test_without_memory_or_descriptors_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with Pool(local=1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(os, "memfd_create", refuse)
            with pytest.raises(UsageError, match=r"the value 'Raw' could not be put into shared memory .*Too many open files.*share less"):
                await pool.share(Raw(bytes(BIG)))
        assert (await pool.submit(look, await pool.share(Raw(bytes(BIG)))))[1] == 0


async def test_a_cancelled_share_leaves_nothing() -> None:
    async with Pool(local=1) as pool:
        sharing = asyncio.create_task(pool.share(Raw(bytes(64 << 20))))
        await until(lambda: held() or sharing.done())
        sharing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sharing
        await until(lambda: not held())
        assert not shared_values.HANDLES


async def test_a_hook_that_fails_leaves_the_next_call_alone(gate: Gate) -> None:
    class Failing:
        def __init__(self, *parts: Any) -> None:
            self.parts = parts

        def __reduce__(self) -> Any:
            pickle.dumps(self.parts)
            raise ValueError("no")

    async with Pool(local=1) as pool:
        one = await pool.share([1])
        with pytest.raises(SerializationError, match="no"):
            pool.submit(print, Failing(one))
        del one
        gc.collect()
        task = pool.submit(stay, gate.path)
        await gate.met()
        assert type(task._payload) is not shared_values.Named and not shared_values.HANDLES
        task.cancel()
