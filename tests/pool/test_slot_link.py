"""The pool's end of a slot's link: answers in the order in which they were given, and nothing lost by an exception or a full socket."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from aioparallel import Pool, SerializationError
from aioparallel._hosts import encoder
from aioparallel._hosts.slot_link import SlotLink
from aioparallel._wire.frames import FrameReader, encode
from aioparallel._wire.messages import FORGET, OK, OUTCOME, OUTCOME_HEAD, PART, unpack
from aioparallel.options import DEFAULTS

MIB = 1 << 20


class Reports:
    """Note what is reported, and do something at a part."""

    def __init__(self, at_part: Callable[[], None]) -> None:
        self.heard: list[tuple[str, int]] = []
        self.at_part = at_part
        self.came = asyncio.Event()

    def answered(self, host: str, index: int, incarnation: int, outcomes: list[Any]) -> None:
        self.heard += [("outcome", outcome.ident) for outcome in outcomes]
        self.came.set()

    def part(self, host: str, index: int, incarnation: int, ident: int, status: int, body: bytes) -> None:
        self.heard.append(("part", ident))
        self.at_part()


def outcome(ident: int) -> bytes:
    return encode(OUTCOME, OK, ident, OUTCOME_HEAD.pack(0.0, 0.0, 0.0, 0))


class Slot:
    """The slot's end."""

    def __init__(self, at_part: Callable[[], None]) -> None:
        self.reports = Reports(at_part)
        self.link = SlotLink("host", 0, 1, self.reports, lambda index: None)  # type: ignore[arg-type]
        self.fds = self.link.open()

    def say(self, *frames: bytes) -> None:
        os.write(self.fds[2], b"".join(frames))

    def close(self) -> None:
        self.link.close()
        for fd in self.fds:
            os.close(fd)


async def test_what_comes_while_others_are_reported_waits_for_them() -> None:
    def at_part() -> None:
        slot.say(outcome(3))
        slot.link.glance()

    slot = Slot(at_part)
    slot.say(outcome(1), encode(PART, OK, 2, b""), outcome(2))
    slot.link.glance()
    slot.close()
    assert slot.reports.heard == [("outcome", 1), ("part", 2), ("outcome", 2), ("outcome", 3)]


async def test_what_stands_behind_a_report_that_raised_is_reported_before_all_else() -> None:
    def at_part() -> None:
        raise KeyboardInterrupt

    slot = Slot(at_part)
    slot.say(outcome(1), encode(PART, OK, 2, b""), outcome(2))
    with pytest.raises(KeyboardInterrupt):
        slot.link.glance()
    slot.say(outcome(3))
    slot.link.glance()
    slot.close()
    assert slot.reports.heard == [("outcome", 1), ("part", 2), ("outcome", 2), ("outcome", 3)]


async def test_a_link_that_let_answers_wait_hears_the_next_ones_though_a_report_raised() -> None:
    def at_part() -> None:
        raise KeyboardInterrupt

    slot = Slot(at_part)
    slot.link.nap()
    slot.say(encode(PART, OK, 1, b""))
    with pytest.raises(KeyboardInterrupt):
        slot.link.wake_up()
    slot.say(outcome(1))
    await asyncio.wait_for(slot.reports.came.wait(), 20)
    slot.close()
    assert slot.reports.heard == [("part", 1), ("outcome", 1)]


def attempt(ident: int, payload: bytes, function: Any = "f") -> Any:
    task = SimpleNamespace(
        _function=function, _options=DEFAULTS, _extras=b"", _payload=payload, _buffers=(), _deadline=float("inf"), _sink=None
    )  # fmt: skip
    return SimpleNamespace(task=task, ident=ident, number=1, estimate=0.0)


async def test_what_a_slot_does_not_take_waits_in_the_pool_and_is_taken_back_without_a_trace() -> None:
    slot = Slot(lambda: None)
    slot.link.launch([attempt(1, b"x" * 8 * MIB)])
    assert slot.link.is_on_its_way(1)
    held = [attempt(number, b"x" * 8 * MIB) for number in range(2, 10)]
    for one in held:
        slot.link.launch([one])
    assert sum(map(len, slot.link._pending)) <= 8 * MIB + 100
    assert slot.link.recall() == 9 and not slot.link._held
    slot.close()


async def test_a_dead_slot_does_not_raise_sigpipe() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: heard.append(number))
    try:
        slot = Slot(lambda: None)
        os.close(slot.fds[0])
        slot.link.launch([attempt(1, b"")])
        slot.link.close()
        for fd in slot.fds[1:]:
            os.close(fd)
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert not heard


def test_the_other_end_is_to_remember_so_many_bytes_of_functions_and_no_more() -> None:
    said, pieces = encoder.Encoder(), []
    known: set[int] = set()
    reader = FrameReader()
    for number in range(1, 200):
        function = SimpleNamespace(number=number, name="f", fresh=False, data=b"x" * MIB)
        said.attempt(attempt(number, b"", function), 0, 0, float("inf"), pieces := [])
        known.add(number)
        for kind, _, _, body, _ in reader.feed(b"".join(pieces)):
            if kind == FORGET:
                known -= set(unpack(body))
        assert number in known and len(known) * MIB <= encoder.KNOWN_BYTES


async def test_recalls_beyond_number_before_a_slot_is_up() -> None:
    async with Pool(local=1) as pool:
        for number in range(600):
            pool.submit(abs, -number).cancel()
        assert await pool.submit(abs, -7) == 7
        assert [await pool.submit(abs, -number) for number in range(3)] == [0, 1, 2]


async def test_a_call_that_cannot_be_written_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(payload: Any, buffers: Any) -> Any:
        if payload is poisoned._payload:
            raise MemoryError("none left")
        return original(payload, buffers)

    original = encoder.written
    async with Pool(local=1) as pool:
        monkeypatch.setattr(encoder, "written", written)
        tasks = [pool.submit(len, "x" * (5000 + number)) for number in range(20)]  # (smaller ones are written as they are submitted)
        poisoned = tasks[10] if tasks[10]._attempt is None else tasks[19]
        await asyncio.wait(tasks)
        with pytest.raises(SerializationError, match="MemoryError: none left"):
            poisoned.result()
        assert [task.result() for task in tasks if task is not poisoned] == [5000 + n for n in range(20) if tasks[n] is not poisoned]


async def test_names_that_do_not_encode_or_are_cut() -> None:
    async with Pool(local=1) as pool:
        for name in ("a\ud800", "fg" + "\u00e9" * 600):
            function = lambda: 3
            function.__qualname__ = name
            assert await pool.submit(function) == 3


def length_of_data() -> int:
    from aioparallel import current_task

    return len(current_task().data)  # type: ignore[arg-type]


async def test_large_data_travels() -> None:
    async with Pool(local=1) as pool:
        assert await pool.options(data=b"x" * 2 * MIB).submit(length_of_data) == 2 * MIB
        both = pool.options(data=b"x" * 2 * MIB).submit(len, b"y" * 3 * MIB)
        assert await both == 3 * MIB and both.data[:1] == b"x"


async def test_a_slot_for_which_there_are_no_descriptors_is_begun_later(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[int] = []

    def refuse(link: SlotLink) -> Any:
        if len(refused) < 2:
            refused.append(1)
            raise OSError(24, "Too many open files")
        return original(link)

    original = SlotLink.open
    monkeypatch.setattr(SlotLink, "open", refuse)
    async with Pool(local=1) as pool:
        assert await pool.submit(abs, -3) == 3
    assert len(refused) == 2


async def test_a_function_whose_first_call_cannot_be_written_is_known_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(payload: Any, buffers: Any) -> Any:
        if payload is poisoned._payload:
            raise MemoryError("none left")
        return original(payload, buffers)

    original = encoder.written
    factor = 3
    scaled = lambda data: len(data) * factor
    async with Pool(local=1) as pool:
        poisoned = pool.submit(scaled, bytes(100_000))
        monkeypatch.setattr(encoder, "written", written)
        with pytest.raises(SerializationError, match="none left"):
            await poisoned
        again = [pool.submit(scaled, bytes(10)) for _ in range(2)]
        assert await asyncio.gather(*again) == [30, 30]
