"""What `pool.status()` and `task.attempts` show: frozen values, and the names of every state.

All times are seconds since the epoch (as `time.time()`), all durations seconds, all sizes bytes. Nothing here holds arguments, results
or environment values.
"""

from __future__ import annotations

from ._wire.records import Record

__all__ = ["AttemptRecord", "PoolStatus", "SlotStatus"]

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


class PoolStatus(Record):
    """A pool at the moment of asking."""

    name: str
    state: str
    uptime_seconds: float
    slots: tuple[SlotStatus, ...]
    max_slots: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    retried: int
    run_seconds: float
    """The sum of all ended attempts' run times."""
    notes: tuple[str, ...] = ()
    """What is out of the ordinary: why slots are exec'ed, why none can start ..."""

    def __str__(self) -> str:
        busy = sum(slot.state == BUSY for slot in self.slots)
        head = (
            f"pool {self.name!r} {self.state} for {self.uptime_seconds:.1f} s: {busy} of {self.max_slots} slots busy, "
            f"{self.queued} queued, {self.running} running, "
            f"{self.succeeded} succeeded, {self.failed} failed, {self.cancelled} cancelled"
        )
        slots = [
            f"  {slot.host}/{slot.index:<3} {slot.state:9} pid {slot.pid or '-'!s:>8}  {slot.tasks_done:>7} done"
            + (f"  runs {slot.task}" if slot.task else "")
            + (f" (+{slot.waiting})" if slot.waiting else "")
            for slot in self.slots
        ]
        return "\n".join([head, *slots, *(f"  note: {note}" for note in self.notes)])
