"""Random histories with room for backups: many slots, few tasks, most of them raced. What must hold is in `test_histories`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import initialize, rule

from aioparallel.testing import Simulation

from .test_far_histories import GRACE, Checked, FarHistories
from .test_histories import Histories, Wishes

RACED: list[dict[str, Any]] = [
    {"backup": True},
    {"backup": True},
    {"backup": True, "retries": 1},
    {"backup": True, "retries": 2, "grace": 1.0},
    {"backup": True, "isolate": True},
    {"backup": True, "timeout": 1.0},
    {"backup": True, "deadline": 2.0, "retries": 1},
    {"backup": True, "memory": 1000},
    {"backup": True, "idempotent": False},
    {},
]
ROOMY = [{"a": 3}, {"a": 4}, {"a": 6}]
FAR_ROOMY = [({"a": 2}, {"x": 2, "y": 2}), ({}, {"x": 2, "y": 2, "z": 1}), ({}, {"x": 3}), ({"a": 3}, {"x": 3})]


class RacingHistories(Histories):
    """Near hosts."""

    @initialize(layout=st.sampled_from(ROOMY), limit=st.sampled_from([None, None, 3]), watched=st.booleans())
    def begin(self, layout: dict[str, int], limit: int | None, watched: bool) -> None:  # type: ignore[override]
        self.sim = Simulation(layout, max_tasks_per_slot=limit, watched=watched)
        self._start(limit, watched)

    def _start(self, limit: int | None, watched: bool) -> None:
        self.limit, self.watched, self.ending, self.hopeless = limit, watched, "answer", False
        self.tasks, self.asked_at, self.delivered, self.steps = [], {}, [], 0
        self.rule = Wishes()
        self.submit({"backup": True}, "h", 1)

    @rule(call=st.sampled_from(RACED), function=st.sampled_from("gh"), count=st.sampled_from([1, 1, 1, 2]))
    def submit(self, call: dict[str, Any], function: str, count: int) -> None:  # type: ignore[override]
        self._submit(count, function, None, call)


class FarRacingHistories(FarHistories):
    """Near and far hosts."""

    @initialize(layout=st.sampled_from(FAR_ROOMY), watched=st.booleans())
    def begin(self, layout: Any, watched: bool) -> None:  # type: ignore[override]
        near, far = layout
        self.sim = Checked(near, far=far, lost_grace=GRACE, watched=watched)
        self.ever = list(self.sim.far.values())
        for host in self.ever:
            host.come_up()
        self.limit, self.watched, self.ending, self.hopeless = None, watched, "answer", False
        self.tasks, self.asked_at, self.delivered, self.steps = [], {}, [], 0
        self.rule = Wishes()
        self.submit({"backup": True}, "h", 1)

    @rule(call=st.sampled_from(RACED), function=st.sampled_from("gh"), count=st.sampled_from([1, 1, 1, 2]))
    def submit(self, call: dict[str, Any], function: str, count: int) -> None:  # type: ignore[override]
        self._submit(count, function, None, call)


TestRacingHistories = RacingHistories.TestCase
TestRacingHistories.settings = Histories.TestCase.settings
TestFarRacingHistories = FarRacingHistories.TestCase
TestFarRacingHistories.settings = settings(FarHistories.TestCase.settings)
