"""A far host's queue and its slots, without processes: the test plays the slots and the pool."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from typing import Any

import pytest

from aioparallel._wire.frames import Frame, FrameReader, encode, encode_head
from aioparallel._wire.lanes import Lanes
from aioparallel._wire.messages import (
    BOUND,
    CALL,
    ESTIMATE_SHIFT,
    FAILED,
    OK,
    OUTCOME,
    OUTCOME_HEAD,
    PERMIT,
    READY,
    RUN,
    RUN_HEAD,
    STAMP,
    WITHDRAWN,
    pack,
)
from aioparallel._worker import feeder as feeder_module
from aioparallel._worker.feeder import CHOKED_BYTES, LOSSES, START_FAILURES, Feeder
from aioparallel._worker.shelf import Shelf
from aioparallel._worker.watch import Watch

SHORT, LONG = 27, 41
"""As estimates: 0.1 ms and 2 s."""


class Host:
    """A feeder, its slots' ends, and what it told."""

    def __init__(self, slots: int) -> None:
        self.lanes = Lanes()
        self.told: list[tuple[Any, ...]] = []
        self.kills: list[tuple[int, int]] = []
        self.slots: dict[int, list[int]] = {}
        self.watch = Watch()
        self.feeder = Feeder(
            slots, None, Shelf({}), self.lanes, self.watch, lambda *said: self.told.append(said), self.spawn,
            lambda index, ident, grace: self.kills.append((index, ident)), lambda index: None,
        )  # fmt: skip

    def spawn(self, index: int, incarnation: int, fds: list[int]) -> None:
        self.slots[index] = fds

    def send(self, *idents: int, estimate: int = SHORT) -> None:
        for ident in idents:
            body = RUN_HEAD.pack(0, 1, CALL | estimate << ESTIMATE_SHIFT, inf, inf, 0.0, 0)
            self.feeder.take((RUN, 0, ident, body, ()))
        self.feeder.turn_ended()

    def up(self) -> None:
        for index, fds in self.slots.items():
            os.write(fds[2], encode(READY, 0, 1000 + index, b""))
        self.watch.wait(0)
        self.feeder.turn_ended()

    def permits(self, index: int) -> int:
        """Take all permits that a slot has."""
        try:
            return len(os.read(self.slots[index][1], 4096)) // PERMIT.size
        except BlockingIOError:
            return 0

    def answer(self, index: int, *idents: int) -> None:
        os.write(self.slots[index][2], b"".join(encode(OUTCOME, OK, ident, OUTCOME_HEAD.pack(0, 0, 0, 0)) for ident in idents))
        self.watch.wait(0)
        self.feeder.turn_ended()

    def die(self, index: int, ident: int = 0) -> int:
        fds = self.slots.pop(index)
        for fd in fds:
            os.close(fd)
        blamed = self.feeder.slot_ended(index, ident, "with code 1", confirmed=True)
        self.feeder.turn_ended()
        return blamed

    def answers(self) -> list[tuple[int, int]]:
        """Return (kind, ident) of what left for the pool."""
        reader = FrameReader()
        data = b"".join(bytes(piece) for piece in self.lanes.take()[1:])
        return [(frame[0], frame[2]) for frame in reader.feed(data)]


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(2)
    yield host
    for index in list(host.slots):
        for fd in host.slots.pop(index):
            os.close(fd)
    for end in host.feeder._ends.values():
        if not end.closed:
            end.close()
    os.close(host.feeder._library._shelf._fd)


def test_slots_are_begun_as_work_arrives_and_answers_are_stamped(host: Host) -> None:
    host.send(1, estimate=LONG)
    assert list(host.slots) == [0] and host.permits(0) == 1
    host.up()
    assert host.told[0][:2] == (BOUND, 1) and host.told[1] == (READY, 0, 0, 1, 1000)
    host.answer(0, 1)
    assert host.answers() == [(STAMP, 1), (OUTCOME, 1)]


def test_an_answer_that_nobody_asked_for_goes_nowhere(host: Host) -> None:
    host.send(1)
    host.up()
    host.answer(0, 7, 1, 1)
    assert host.answers() == [(STAMP, 1), (OUTCOME, 1)]


def test_what_a_dead_slot_had_not_begun_runs_elsewhere_and_what_ran_is_blamed(host: Host) -> None:
    host.send(1)
    host.up()
    host.answer(0, 1)
    host.send(*range(2, 12))
    assert len(host.feeder._ends) == 2
    given = [item.ident for item in host.feeder._ends[0].outstanding]
    assert len(given) > 1
    assert host.die(0, given[0]) == given[0]
    waiting = [item.ident for item in host.feeder._queue] + [item.ident for end in host.feeder._ends.values() for item in end.outstanding]
    assert sorted(waiting) == [ident for ident in range(2, 12) if ident != given[0]]


def test_what_waits_is_given_back_and_what_runs_is_killed(host: Host) -> None:
    host.send(1, 2, 3, estimate=LONG)
    host.up()
    host.feeder.stop(3, 0.0)
    assert host.told[-1] == (WITHDRAWN, 0, 3)
    assert host.permits(0) == host.permits(1) == 1  # both have begun
    host.feeder.stop(1, 0.0)
    assert host.kills == [(0, 1)]
    host.feeder.withdraw([1, 2, 3, 99])
    assert [said for said in host.told if said[0] == WITHDRAWN] == [(WITHDRAWN, 0, 3)]


def test_what_has_not_begun_in_its_slot_is_given_back_too(host: Host) -> None:
    host.send(1, estimate=LONG)
    host.up()
    host.feeder.stop(1, 0.0)
    assert host.told[-1] == (WITHDRAWN, 0, 1) and host.permits(0) == 0 and not host.kills


def test_slots_that_die_as_they_start_back_off_and_are_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(feeder_module, "monotonic", lambda: now[0])
    host.send(1)
    for number in range(START_FAILURES):
        assert host.die(0) == 0
        assert not host.slots, "it waits before it tries again"
        assert number == START_FAILURES - 1 or host.feeder.due > now[0]
        now[0] = host.feeder.due
        host.feeder.look_at_clock(now[0])
        assert host.feeder.due == inf, "a loop would spin"
        host.feeder.turn_ended()
    assert host.told[-1][0] == FAILED and "the last with code 1" in host.told[-1][-1]


def test_who_meets_one_dying_slot_after_the_other_takes_the_blame_in_the_end(host: Host) -> None:
    host.send(1)
    for _ in range(LOSSES):
        host.up()
        assert host.die(0) == 0
    host.up()
    assert host.die(0) == 1


def test_a_slot_that_may_live_serves_nobody(host: Host) -> None:
    host.send(1, 2, estimate=LONG)
    host.up()
    for index in (0, 1):
        host.permits(index)
    assert host.feeder.slot_ended(0, 1, "with signal 9", confirmed=False) == 1
    host.send(3, estimate=LONG)
    host.feeder.take((8, 0, 0, pack((), ()), ()))  # ROOTS, to all who live
    assert [item.ident for item in host.feeder._queue] == [3]
    assert host.die(0) == 0
    assert [item.ident for item in host.feeder._ends[0].outstanding] == [3]


def large_answer(ident: int, size: int) -> bytes:
    """Return the head of an answer with one buffer."""
    return encode_head(OUTCOME, OK, ident, OUTCOME_HEAD.pack(0, 0, 0, 0), [size])


def test_a_large_answer_is_passed_on_as_it_comes_and_waits_in_its_slot_while_the_pool_is_slow(host: Host) -> None:
    host.send(1, estimate=LONG)
    host.up()
    end, _, answers = host.slots[0]
    size = 4 * CHOKED_BYTES
    os.write(answers, large_answer(1, size))
    os.set_blocking(end, False)
    sent = 0
    for _ in range(size // (1 << 16)):
        with suppress(BlockingIOError):
            sent += os.write(end, bytes(min(1 << 20, size - sent)))
        host.watch.wait(0)
        host.feeder.turn_ended()
    assert CHOKED_BYTES < host.lanes.waiting < CHOKED_BYTES + (1 << 20) and sent < size
    there = Lanes()
    arrived: list[Frame] = []
    while not arrived:
        arrived += there.feed(b"".join(map(bytes, host.lanes.take())))
        host.lanes.feed(b"".join(map(bytes, there.take())))
        with suppress(BlockingIOError):
            sent += os.write(end, bytes(min(1 << 20, size - sent)))
        host.watch.wait(0)
        host.feeder.turn_ended()
        arrived = [frame for frame in arrived if frame[0] == OUTCOME]
    assert [len(buffer) for buffer in arrived[0][4]] == [size] and sent == size


def test_a_slot_that_dies_in_the_midst_of_its_answer_takes_that_along_and_no_others(host: Host) -> None:
    host.send(1, 2, estimate=LONG)
    host.up()
    for index in (0, 1):
        os.write(host.slots[index][2], large_answer(1 + index, 100_000))
        os.write(host.slots[index][0], bytes(50_000))
        host.watch.wait(0)
        host.watch.wait(0)
    assert host.die(0, 1) == 1
    os.write(host.slots[1][0], bytes(50_000))
    host.watch.wait(0)
    there = Lanes()
    arrived: list[Frame] = []
    while pieces := host.lanes.take():
        arrived += there.feed(b"".join(map(bytes, pieces)))
        host.lanes.feed(b"".join(map(bytes, there.take())))
    assert [frame[2] for frame in arrived if frame[0] == OUTCOME] == [2] and not there._inner._coming
