"""The names of every state, and what `task.attempts` and `pool.slots` show."""

from __future__ import annotations

from .._wire.records import Record

__all__ = ["AttemptRecord", "SlotStatus"]

# A task's states. What may follow what is the table in `_scheduler/lifecycle`.
QUEUED = "queued"
RUNNING = "running"
STOPPING = "stopping"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"

# A slot's states.
STARTING = "starting"
IDLE = "idle"
BUSY = "busy"
RETIRING = "retiring"
UNCONFIRMED = "unconfirmed"
GONE = "gone"

# How an attempt ended (while it has not: RUNNING).
DIED = "died"
TIMED_OUT = "timed out"
OUT_OF_MEMORY = "out of memory"
LOST = "lost"


class AttemptRecord(Record):
    """One execution of a task on one slot."""

    number: int
    """1 for the original, 2 for the first retry ..."""
    host: str
    slot: int
    pid: int | None
    queued_at: float
    started_at: float | None
    """When it began in the slot; None: it never did, or its slot died before it could say."""
    ended_at: float | None
    outcome: str
    """"running", "succeeded", "failed", "died", "timed out", "out of memory", "lost" or "cancelled"."""
    cpu_seconds: float | None
    """None for attempts too short to measure, or that did not end by themselves."""
    peak_bytes: int | None
    """The most that its processes held, without what the idle slot holds; None without `memory=`."""
    stopped: str | None = None
    """How it was stopped: "asked" (it ended within its grace), "killed", or None."""
    confirmed_dead: bool = True
    """False: the kill was not confirmed when the task was settled, or its host was lost and nobody knows what still runs there."""


class SlotStatus(Record):
    """One slot at the moment of asking."""

    host: str
    index: int
    pid: int | None
    state: str
    task: str | None
    """What it runs, as `<id> <name>`."""
    waiting: int
    """Attempts that were sent ahead and wait in the slot."""
    tasks_done: int
