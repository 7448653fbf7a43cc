"""The policies that choose hosts: pure functions of what they are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from aioparallel.config.settings import SELECTIONS
from aioparallel.policies import NAMED, HostView, LeastLoaded, RoundRobin, TaskView, WeightedRandom


class Facts:
    """A host as a test describes it."""

    is_up = True
    why = ""

    def __init__(self, name: str, slots: int = 2, busy: int = 0, weight: float = 1.0, wait: float = 0.0, room: bool = True) -> None:
        self.name = name
        self.width = slots
        self.busy = busy
        self.weight = weight
        self.wait = wait
        self.room = room
        self.is_local = name == "local"
        self.labels: Mapping[str, str] = {}
        self.round_trip = 0.0

    def occupied(self) -> tuple[int, int]:
        return self.busy, 0


def views(*facts: Facts) -> list[HostView]:
    return [HostView(each) for each in facts]


def choice(policy: Any, task: TaskView, *facts: Facts) -> str | None:
    chosen = policy(task, views(*facts))
    return None if chosen is None else chosen.name


def test_names_mean_policies() -> None:
    assert set(NAMED) == set(SELECTIONS)


@pytest.mark.parametrize("policy", NAMED.values())
def test_nobody_with_room_means_to_wait(policy: Any) -> None:
    full = views(Facts("a", room=False), Facts("b", room=False))
    chosen = policy(TaskView("f", estimate=1.0), full)
    assert chosen is None or not chosen.room


def test_least_loaded_goes_where_it_ends_first() -> None:
    task = TaskView("f", estimate=1.0)
    assert choice(LeastLoaded(), task, Facts("slow", weight=0.5), Facts("fast", weight=2.0), Facts("near", wait=0.1)) == "fast"
    assert choice(LeastLoaded(), task, Facts("a", wait=0.2), Facts("b", wait=0.1)) == "b"


def test_least_loaded_waits_for_a_fast_host_but_not_for_longer_than_a_slow_one_would_take() -> None:
    busy, slow = Facts("fast", weight=10.0, wait=0.5, room=False), Facts("slow", weight=0.1)
    assert choice(LeastLoaded(), TaskView("f", estimate=1.0), busy, slow) == "fast"
    assert choice(LeastLoaded(), TaskView("f", estimate=1.0, waited=9.0), busy, slow) == "fast"
    assert choice(LeastLoaded(), TaskView("f", estimate=1.0, waited=10.0), busy, slow) == "slow"
    assert choice(LeastLoaded(), TaskView("f", estimate=1.0, is_known=False), busy, slow) == "slow", "a guess is no reason to wait"
    busy.wait = 50.0
    assert choice(LeastLoaded(), TaskView("f", estimate=1.0), busy, slow) == "slow"


@pytest.mark.parametrize("policy", NAMED.values())
def test_locality_is_heeded(policy: Any) -> None:
    for turn in range(3):
        task = TaskView("f", estimate=1.0, locality={"b": 1}, turn=turn, draw=turn / 3)
        assert choice(policy, task, Facts("a"), Facts("b", wait=0.5), Facts("c")) == "b"
    assert choice(policy, TaskView("f", estimate=1.0, is_known=False, locality={"b": 1}), Facts("a"), Facts("b", room=False)) == "a"


def test_weighted_random_is_in_proportion_to_free_slots_and_weight() -> None:
    hosts = Facts("a", slots=4, busy=1), Facts("b", slots=2, weight=3.0), Facts("full", slots=8, busy=8, room=False)
    count = Counter(choice(WeightedRandom(), TaskView("f", estimate=1.0, draw=n / 900), *hosts) for n in range(900))
    assert count == {"a": 300, "b": 600}
    ahead = Facts("a", slots=2, busy=2), Facts("b", slots=2, busy=2, weight=3.0)
    count = Counter(choice(WeightedRandom(), TaskView("f", estimate=1.0, draw=n / 400), *ahead) for n in range(400))
    assert count == {"a": 100, "b": 300}, "where no slot is free, by the weight of those that take work ahead"


def test_round_robin_passes_over_those_without_room() -> None:
    hosts = Facts("a"), Facts("b", room=False), Facts("c")
    turns = [choice(RoundRobin(), TaskView("f", estimate=1.0, turn=turn), *hosts) for turn in range(6)]
    assert turns == ["a", "c", "c", "a", "c", "c"]


def test_views_are_read_only_and_say_what_they_are() -> None:
    view = HostView(Facts("box", slots=4, busy=3))
    assert (view.name, view.slots, view.busy, view.free, view.is_up, view.is_local, view.reason) == ("box", 4, 3, 1, True, False, "")
    assert repr(view) == "<host 'box' 3/4 slots busy>"
    with pytest.raises(AttributeError):
        view.slots = 8  # type: ignore[misc]
