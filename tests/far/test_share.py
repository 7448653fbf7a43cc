"""`pool.share` over a link: a value crosses it once, waits in nobody's way, and goes with the last reference."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from aioparallel import Pool, SerializationError, WorkerDied
from aioparallel._hosts.encoder import Encoder
from aioparallel._hosts.sender import AHEAD_BYTES, Sender
from aioparallel._jobs.shared import Named
from aioparallel._wire.frames import encode
from aioparallel._wire.lanes import Lanes
from aioparallel._wire.messages import DROP, ROOTS, SHARE, pack, unpack
from aioparallel._worker import commons, region
from aioparallel._worker.commons import Commons
from aioparallel._worker.region import PART_BYTES, Region
from aioparallel._worker.shared import Values

from ..journeys.looks import until
from ..pool.gate import Gate
from . import loopback
from .loopback import Loopback, LoopbackHost
from .visitors import crash_once, kept, look, look_and_stay

BIG = 3 << 20


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the pool has written to far hosts, in bytes."""
    sizes: list[int] = []
    original = loopback._Pipes.write

    def write(pipes: Any, data: bytes) -> None:
        sizes.append(len(data))
        original(pipes, data)

    monkeypatch.setattr(loopback._Pipes, "write", write)
    return sizes


def link_of(pool: Pool) -> Any:
    (host,) = pool._engine.hosts.values()
    return cast("LoopbackHost", host)._link


async def test_it_crosses_the_link_once(written: list[int]) -> None:
    async with Pool(local=0, hosts=[Loopback(slots=2)]) as pool:
        await pool.ready(2)
        one = await pool.share(bytearray(os.urandom(BIG)), name="noise")
        small = await pool.share({"small": 1})
        await pool.submit(look, b"", {"small": 1})  # which brings modules along
        before = sum(written)
        found = await asyncio.gather(*(pool.submit(look, one, small, number) for number in range(200)))
        assert {answer[1:] for answer in found} == {(BIG, 1)} and len({pid for pid, _, _ in found}) == 2
        assert BIG < sum(written) - before < BIG + 200_000
        assert await pool.map(lambda item: item + small["small"], range(100)) == list(range(1, 101))
        before = sum(written)
        assert (await pool.options(isolate=True).submit(look, one, small))[1:] == (BIG, 1)
        with pytest.raises(WorkerDied):
            await pool.submit(lambda value: os._exit(len(value) and 3), one)
        assert (await pool.submit(look, one, small))[1:] == (BIG, 1)
        assert sum(written) - before < 200_000


async def test_the_host_and_its_slots_let_go_with_the_last_reference() -> None:
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        one, small = await pool.share(np.zeros(BIG, dtype="uint8")), await pool.share([1])
        slot, agent, mapped, fds, known = await pool.submit(kept, one, small)
        assert (mapped, fds, known) == (1, 1, 2)
        assert shared_fds(agent) == 1
        del one
        gc.collect()
        await until(lambda: not shared_fds(agent) and "aioparallel-shared" not in Path(f"/proc/{slot}/maps").read_text())
        assert (await pool.submit(kept, None, small))[2:] == (0, 0, 1)


def shared_fds(pid: int) -> int:
    folder = Path(f"/proc/{pid}/fd")
    return sum("aioparallel-shared" in os.readlink(folder / fd) for fd in os.listdir(folder))


async def test_arrays_of_all_slots_are_in_one_memory_and_cannot_be_written() -> None:
    async with Pool(local=0, hosts=[Loopback(slots=2)]) as pool:
        one = await pool.share(np.zeros(BIG, dtype="uint8"))

        def write(array: Any) -> None:
            array[0] = 1

        with pytest.raises(ValueError, match="read-only"):
            await pool.submit(write, one)


async def test_a_lost_host_gets_it_again(tmp_path: Path, written: list[int]) -> None:
    with Gate(tmp_path) as gate:
        await _lose_a_host(gate, written)


async def _lose_a_host(gate: Gate, written: list[int]) -> None:
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        one = await pool.share(bytearray(BIG))
        task = pool.submit(look_and_stay, one, gate.path)
        (slot,) = await gate.met()
        os.kill(parent(slot), signal.SIGKILL)
        await gate.met()
        gate.open()
        assert await task == BIG and [attempt.outcome for attempt in task.attempts] == ["lost", "succeeded"]
        assert sum(written) > 2 * BIG


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_crash_costs_one_attempt(tmp_path: Path) -> None:
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        one = await pool.share(bytearray(BIG))
        assert await pool.options(retries=1).submit(crash_once, one, str(tmp_path / "crashed")) == BIG


async def test_what_waits_for_a_value_is_cancelled_at_once_and_other_work_passes() -> None:
    async with Pool(local=0, hosts=[Loopback(slots=8)]) as pool:
        await pool.ready(8)
        one = await pool.share(bytearray(16 << 20))
        link = link_of(pool)
        link.pause()  # the channel takes nothing
        waiting = [pool.submit(look, one, {"small": number}) for number in range(3)]
        await until(lambda: len(link._sender._held) == 3)
        waiting[0].cancel()
        async with asyncio.timeout(5):
            await asyncio.wait([waiting[0]])
        assert waiting[0].cancelled()
        passing = pool.submit(abs, -7)
        link.resume()
        assert await passing == 7 and not waiting[1].done()
        assert [(await task)[1:] for task in waiting[1:]] == [(16 << 20, 1), (16 << 20, 2)]


async def test_a_value_that_nobody_waits_for_any_more_stops_on_its_way(written: list[int]) -> None:
    size = 16 << 20
    async with Pool(local=0, hosts=[Loopback(slots=1)]) as pool:
        await pool.submit(abs, -1)
        one = await pool.share(bytearray(size))
        link = link_of(pool)
        begun, link._lanes.window = sum(written), 1 << 17
        task = pool.submit(look, one, {"small": 1})
        await until(lambda: sum(written) > begun + 1000)
        link.pause()
        task.cancel()
        await asyncio.wait([task])
        del one
        gc.collect()
        await until(lambda: not link._sender._coming)
        link.resume()
        _, agent, *rest = await pool.submit(kept, None, None)
        assert rest == [0, 0, 0] and shared_fds(agent) == 0 and sum(written) - begun < size
        again = await pool.share(bytearray(BIG))
        assert (await pool.submit(look, again, {"small": 5}))[1:] == (BIG, 5)


# --- the sender and the agent, alone


class _Attempt:
    def __init__(self, ident: int, *handles: Any) -> None:
        payload = Named(b"x")
        payload.shared = handles
        self.ident, self.task = ident, type("task", (), {"_payload": payload})


class _Handle:
    def __init__(self, number: int, size: int) -> None:
        self._number, self._region, self.size = number, Region("it", (size,)), size
        self._region.fill((b"y" * size,))


def test_other_work_waits_behind_a_piece_or_two_and_attempts_for_all_they_name() -> None:
    lanes, encoder = Lanes(), Encoder()
    launched: list[int] = []
    sender = Sender(lanes, encoder, lambda attempts: launched.extend(attempt.ident for attempt in attempts))
    one, two = _Handle(1, 10 * PART_BYTES), _Handle(2, 100)
    attempts: Any = [_Attempt(7, one), _Attempt(8, two), _Attempt(9, one, two), _Attempt(10, two)]
    assert all(sender.holds(attempt) for attempt in attempts)
    assert sender.give_back((10, 11)) == [10]
    while sender.has_more:
        sender.pump()
        assert lanes.waiting < AHEAD_BYTES + PART_BYTES + 1000
        assert lanes.take() and (not launched or not sender.has_more)
        lanes._acknowledged = lanes._sent
    assert launched == [7, 8, 9] and encoder.shared == {1: one.size, 2: two.size}
    assert not sender.holds(attempts[2])
    sender.drop((1, 2, 3))
    assert encoder.shared == {} and sender.holds(attempts[2])


def frames_of(number: int, data: bytes) -> Iterator[Any]:
    source = Region("it", (len(data),))
    source.fill((data,))
    lanes = Lanes()
    there = Lanes()
    for pieces in source.sent(number):
        lanes.work(pieces)
    while lanes.may_take:
        yield from there.feed(b"".join(lanes.take()))
        lanes._acknowledged = lanes._sent


@pytest.mark.parametrize("size", [10, 1 << 16, 5 * PART_BYTES + 1])
def test_the_agent_tells_slots_when_all_has_come(size: int) -> None:
    import pickle

    there = Commons()
    data = pickle.dumps(os.urandom(size), 5)
    *before, last = list(frames_of(4, data))
    assert [there.take(frame) for frame in before] == [[]] * len(before) and there.known() == []
    (news,) = there.take(last)
    assert there.known() == [news] and there.take((ROOTS, 0, 0, pack(("mine",), ()), ())) == [encode(ROOTS, 0, 0, pack(("mine",), ()))]
    values = Values()
    values.tell(4, cast("bytes", news)[16:], ())
    assert values.value(4) == pickle.loads(data) and values.value(4) is values.value(4)
    assert there.take((DROP, 0, 0, pack(4), ())) == [encode(DROP, 0, 0, pack(4))]
    assert there.known() == [encode(ROOTS, 0, 0, pack(("mine",), ()))] and there.own() == []
    values.drop((4, 5))
    with pytest.raises(SerializationError, match="shared value 4 is not here any more"):
        values.value(4)


def test_a_new_slot_is_told_of_all_modules_that_were_ever_sent_anew() -> None:
    there = Commons()
    for name in ("first", "second", "first"):
        assert there.take((ROOTS, 0, 0, pack(("mine",), (name,)), ())) == [encode(ROOTS, 0, 0, pack(("mine",), (name,)))]
    assert there.known() == [encode(ROOTS, 0, 0, pack(("mine",), ("first", "second")))]


def test_memory_that_is_another_file_now_is_not_opened() -> None:
    there = Region("it", (1 << 17,))
    there.fill((bytes(1 << 17),))
    body, _ = there.words()
    name, sizes, (path, device, inode), _ = unpack(body)
    values = Values()
    values.tell(1, pack(name, sizes, (path, device, inode + 1), b""), ())
    with pytest.raises(SerializationError, match="another file now"):
        values.value(1)
    with pytest.raises(PermissionError):
        os.pwrite(there.fd, b"x", 0)


@pytest.mark.parametrize("fails", ["__init__", "add"])
def test_a_host_without_room_says_so_to_the_tasks(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    there = Commons()
    frames = list(frames_of(4, bytes(3 * PART_BYTES)))
    monkeypatch.setattr(region.Region, fails, refuse)
    monkeypatch.setattr(commons, "Region", region.Region)
    monkeypatch.setattr(region.Region, "__del__", lambda self: None if not hasattr(self, "fd") else self.close())
    news = [frame for frame in frames for frame in there.take(frame)]
    assert len(news) == 1 and news == there.known() and news[0][0] == SHARE
    values = Values()
    values.tell(4, cast("bytes", news[0])[16:], ())
    with pytest.raises(SerializationError, match=r"the shared value 4 'it' .*its host has no room for it: .*No space left"):
        values.value(4)
