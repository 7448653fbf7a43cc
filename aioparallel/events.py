"""What `pool.events()` yields: one frozen record for each thing that happened.

No record holds arguments, results or environment values. Times (`at`) are seconds since the epoch.
"""

from __future__ import annotations

from ._wire.records import Record

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "BackupStarted",
    "CancelUnconfirmed",
    "Event",
    "EventsLost",
    "HostDown",
    "HostUp",
    "RetryPlanned",
    "RetryRefused",
    "SlotEnded",
    "SlotStarted",
    "TaskEnded",
    "TaskProgressed",
    "TaskSubmitted",
]


class Event(Record):
    """The root of all events."""

    at: float


class EventsLost(Event):
    """This subscriber was too slow: so many events were dropped at this place."""

    count: int


class TaskSubmitted(Event):
    """A task was queued."""

    task: int
    name: str


class TaskEnded(Event):
    """A task was settled; `outcome` is "succeeded", "failed" or "cancelled"."""

    task: int
    name: str
    outcome: str


class TaskProgressed(Event):
    """A task said how far it is; `total` is None where it did not say."""

    task: int
    attempt: int
    done: float
    total: float | None


class AttemptStarted(Event):
    """An attempt was sent to a slot (it may wait there a moment behind another)."""

    task: int
    attempt: int
    host: str
    slot: int


class AttemptEnded(Event):
    """An attempt ended; `outcome` as in `AttemptRecord`."""

    task: int
    attempt: int
    host: str
    slot: int
    outcome: str


class BackupStarted(Event):
    """A task got one more copy because the first is late; `age`: how long that has run (seconds).

    `probability`: that the copy ends first; `price`: what a slot-second was worth, in seconds of latency; `reason`: the rule's, in words.
    """

    task: int
    attempt: int
    host: str
    age: float
    probability: float
    price: float
    reason: str


class RetryPlanned(Event):
    """A task's attempt failed, and another follows after so many seconds (0: as soon as a slot is free)."""

    task: int
    attempt: int
    seconds: float


class RetryRefused(Event):
    """The function in `Retry(on=)` raised when it was asked about an attempt's failure, so that no other follows; `reason` is what."""

    task: int
    attempt: int
    reason: str


class CancelUnconfirmed(Event):
    """A task was settled although the death of its process tree was not confirmed; the slot serves nobody until it is."""

    task: int
    host: str
    slot: int


class SlotStarted(Event):
    """A slot can work."""

    host: str
    slot: int
    pid: int


class SlotEnded(Event):
    """A slot and everything below it is dead; one of `exit_code` and `signal` is set."""

    host: str
    slot: int
    exit_code: int | None
    signal: int | None


class HostUp(Event):
    """A host's agent supervises."""

    host: str


class HostDown(Event):
    """A host's agent was lost, or it offers no slots, for this reason."""

    host: str
    reason: str
