"""What may follow what: the one table of a task's and a slot's states.

A transition that is not in the table is a bug of ours and raises at once, instead of leaving a task that nobody settles.
"""

from __future__ import annotations

from ..status import BUSY, CANCELLED, FAILED, GONE, IDLE, QUEUED, RETIRING, RUNNING, STARTING, STOPPING, SUCCEEDED, UNCONFIRMED

TASK: dict[tuple[str, str], str] = {
    (QUEUED, "launched"): RUNNING,
    (QUEUED, "cancelled"): CANCELLED,
    (QUEUED, "failed"): FAILED,
    (RUNNING, "recalled"): QUEUED,
    (RUNNING, "retried"): QUEUED,
    (RUNNING, "lost"): QUEUED,
    (RUNNING, "stopping"): STOPPING,
    (RUNNING, "succeeded"): SUCCEEDED,
    (RUNNING, "failed"): FAILED,
    (STOPPING, "cancelled"): CANCELLED,
    (SUCCEEDED, "unreadable"): FAILED,
    (FAILED, "unreadable"): FAILED,
    (SUCCEEDED, "withdrawn"): CANCELLED,
    (FAILED, "withdrawn"): CANCELLED,
    (CANCELLED, "withdrawn"): CANCELLED,
}
"""From (state, what happened) to the next state. STOPPING: its cancelling waits for the death of its process tree.
"unreadable", "withdrawn": of an answer that was still being rebuilt, before its future was set."""

SLOT: dict[tuple[str, str], str] = {
    (STARTING, "up"): IDLE,
    (STARTING, "launched"): STARTING,
    (STARTING, "emptied"): STARTING,
    (STARTING, "died"): GONE,
    (STARTING, "retired"): RETIRING,
    (IDLE, "launched"): BUSY,
    (IDLE, "retired"): RETIRING,
    (IDLE, "died"): GONE,
    (BUSY, "launched"): BUSY,
    (BUSY, "emptied"): IDLE,
    (BUSY, "died"): GONE,
    (RETIRING, "died"): GONE,
    (RETIRING, "emptied"): RETIRING,
    (RETIRING, "up"): RETIRING,
    (STARTING, "unconfirmed"): UNCONFIRMED,
    (IDLE, "unconfirmed"): UNCONFIRMED,
    (BUSY, "unconfirmed"): UNCONFIRMED,
    (RETIRING, "unconfirmed"): UNCONFIRMED,
    (UNCONFIRMED, "up"): UNCONFIRMED,
    (UNCONFIRMED, "died"): GONE,
}
"""The same for slots. UNCONFIRMED: its attempt is settled as if it were dead, but some of it may live; it serves nobody."""

LAUNCHED = {state: after for (state, happened), after in TASK.items() if happened == "launched"}
SUCCESS = {state: after for (state, happened), after in TASK.items() if happened == "succeeded"}
"""Two rows of TASK, for the two steps that every task takes; a KeyError is an ImpossibleTransition."""

SETTLED = frozenset({SUCCEEDED, FAILED, CANCELLED})


class ImpossibleTransition(AssertionError):
    """A bug of the scheduler's: something happened to a task or slot that cannot happen in its state."""


def task_after(state: str, happened: str) -> str:
    """Return a task's next state. Raises ImpossibleTransition."""
    try:
        return TASK[state, happened]
    except KeyError:
        raise ImpossibleTransition(f"a task that is {state} cannot be {happened}") from None


def slot_after(state: str, happened: str) -> str:
    """Return a slot's next state. Raises ImpossibleTransition."""
    try:
        return SLOT[state, happened]
    except KeyError:
        raise ImpossibleTransition(f"a slot that is {state} cannot be {happened}") from None
