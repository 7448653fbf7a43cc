"""What a far host's slots are known by, in whatever order its two lanes bring the news."""

from __future__ import annotations

from aioparallel._scheduler.backlog import Backlog


def test_a_late_word_of_a_slot_that_ended_makes_it_no_living_one() -> None:
    backlog = Backlog("far")
    first = backlog.slot(0, 1)
    assert backlog.slot(0, 1) is first and backlog.slots == {0: first}
    del backlog.slots[0]
    backlog.slot(0, 1).done += 1
    assert backlog.slots == {}
    second = backlog.slot(0, 2)
    assert backlog.slot(0, 1) is not second and backlog.slots == {0: second}
