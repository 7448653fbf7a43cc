"""The pool's end of a slot's link: answers are reported in the order in which they were given, whatever a report leads to."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from aioparallel._hosts.slot_link import SlotLink
from aioparallel._wire.frames import encode
from aioparallel._wire.messages import OK, OUTCOME, OUTCOME_HEAD, PART


class Reports:
    """Note what is reported, and do something at a part."""

    def __init__(self, at_part: Callable[[], None]) -> None:
        self.heard: list[tuple[str, int]] = []
        self.at_part = at_part

    def answered(self, host: str, index: int, incarnation: int, outcomes: list[Any]) -> None:
        self.heard += [("outcome", outcome.ident) for outcome in outcomes]

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
