"""What `pool.events()` yields: one frozen record for each thing that happened.

No record holds arguments, results or environment values. Times (`at`) are seconds since the epoch.
"""

from __future__ import annotations

from typing import Any, ClassVar, dataclass_transform

__all__ = [
    "AttemptEnded",
    "AttemptStarted",
    "CancelUnconfirmed",
    "Event",
    "EventsLost",
    "HostDown",
    "HostUp",
    "SlotEnded",
    "SlotStarted",
    "TaskEnded",
    "TaskProgressed",
    "TaskSubmitted",
]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """A frozen record of named fields.

    Not a dataclass, though it looks like one to type checkers: a dozen of those would take a tenth of the time that a pool takes to
    start, and most pools have no subscriber.
    """

    _fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = (*cls._fields, *cls.__annotations__)

    def __init__(self, **values: Any) -> None:
        if tuple(values) != self._fields and set(values) != set(self._fields):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self._fields)}, not {', '.join(values)}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"events are frozen: {name!r} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in self._fields)})"


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
