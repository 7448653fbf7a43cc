"""The one table: every state can be reached, every other transition raises."""

from __future__ import annotations

import pytest

from aioparallel import status
from aioparallel._scheduler.lifecycle import LAUNCHED, SETTLED, SLOT, SUCCESS, TASK, ImpossibleTransition, slot_after, task_after
from aioparallel.status import BUSY, CANCELLED, FAILED, GONE, IDLE, QUEUED, RETIRING, RUNNING, STARTING, STOPPING, SUCCEEDED, UNCONFIRMED

TASK_STATES = {QUEUED, RUNNING, STOPPING, SUCCEEDED, FAILED, CANCELLED}
SLOT_STATES = {STARTING, IDLE, BUSY, RETIRING, UNCONFIRMED, GONE}


def reachable(table: dict[tuple[str, str], str], first: str) -> set[str]:
    found = {first}
    while more := {after for (state, _), after in table.items() if state in found} - found:
        found |= more
    return found


@pytest.mark.parametrize(("table", "first", "states"), [(TASK, QUEUED, TASK_STATES), (SLOT, STARTING, SLOT_STATES)])
def test_every_state_is_reached_and_none_is_invented(table: dict[tuple[str, str], str], first: str, states: set[str]) -> None:
    assert reachable(table, first) == states
    assert {state for state, _ in table} <= states


@pytest.mark.parametrize(("table", "step", "states"), [(TASK, task_after, TASK_STATES), (SLOT, slot_after, SLOT_STATES)])
def test_every_transition_is_in_the_table_or_raises(table, step, states: set[str]) -> None:
    for state in states:
        for happened in {happened for _, happened in table} | {"imagined"}:
            if (state, happened) in table:
                assert step(state, happened) == table[state, happened]
            else:
                with pytest.raises(ImpossibleTransition, match=f"is {state} cannot be {happened}"):
                    step(state, happened)


def test_a_settled_task_never_waits_nor_runs_again() -> None:
    assert SETTLED == {SUCCEEDED, FAILED, CANCELLED}
    assert {after for (state, _), after in TASK.items() if state in SETTLED} <= SETTLED


def test_a_task_that_is_being_cancelled_can_only_end_as_cancelled() -> None:
    assert {after for (state, _), after in TASK.items() if state == STOPPING} == {CANCELLED}


def test_a_dead_slot_stays_dead() -> None:
    assert not [state for state, _ in SLOT if state == GONE]
    assert all((state, "died") in SLOT for state in SLOT_STATES - {GONE})


def test_the_two_rows_for_every_task_are_rows_of_the_table() -> None:
    assert LAUNCHED == {QUEUED: RUNNING}
    assert SUCCESS == {RUNNING: SUCCEEDED}


def test_the_names_of_the_states_are_public() -> None:
    assert {getattr(status, name.upper()) for name in TASK_STATES | SLOT_STATES} == TASK_STATES | SLOT_STATES
