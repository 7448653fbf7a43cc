"""What `pool.events()` yields: one frozen record for each thing that happened.

No record holds arguments, results or environment values. Times (`at`) are seconds since the epoch.
"""

from __future__ import annotations

import json
import logging
import os
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self

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
    "JsonLines",
    "RetryPlanned",
    "RetryRefused",
    "SlotEnded",
    "SlotStarted",
    "TaskEnded",
    "TaskProgressed",
    "TaskSubmitted",
    "to_jsonl",
]

log = logging.getLogger("aioparallel")

WAITING_LINES = 100_000
"""So many lines wait for a slow disk at the most."""
END_SECONDS = 5.0
"""How long `close` waits for it."""


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
    started_at: float | None = None
    """When it began in its slot, if that is known."""
    seconds: float | None = None
    """How long it ran from then on."""


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


class JsonLines:
    """Writes each event that it is called with to a file, as a JSON object on a line of its own. See `to_jsonl`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lines = _Lines(path)
        self._dropped = 0

    def __call__(self, event: Event) -> None:
        """Have an event written, soon."""
        if self._lines.dropped > self._dropped:
            lost, self._dropped = self._lines.dropped - self._dropped, self._lines.dropped
            self._lines.put(as_json(EventsLost(at=event.at, count=lost)))
        self._lines.put(as_json(event))

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<events to {self._lines.name}>"


def to_jsonl(path: str | os.PathLike[str]) -> JsonLines:
    """Return what writes events to a file, one JSON object a line: `pool.events(to_jsonl("run.jsonl"))`.

    Or call it with events that you read yourself; then close it (or use `with`). Raises OSError where the file cannot be written.
    """
    return JsonLines(path)


def as_json(event: Event) -> str:
    """Return an event as a line."""
    return json.dumps({"event": type(event).__name__} | {name: getattr(event, name) for name in event._fields}) + "\n"


class _Lines:
    """A file, and the thread that writes to it, which begins with the first line.

    It is opened at once: a path that cannot be written is an OSError at the caller's line. The event loop never waits for the disk:
    beyond a bound, lines are dropped, and counted. A disk that is full ends the writing, not the pool.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "w", encoding="utf-8", buffering=1 << 16)  # noqa: SIM115 - it is closed in `close`
        self.name = os.fspath(path)
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._failed = False
        self.dropped = 0
        self.is_closed = False

    def put(self, line: str) -> None:
        """Have a line written, soon."""
        if self.is_closed or self._failed:
            return
        if self._lines.qsize() >= WAITING_LINES:
            self.dropped += 1
            return
        self._lines.put(line)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="aioparallel writes events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self._file.write(line)
                if self._lines.empty():
                    self._file.flush()  # for who looks at it meanwhile, and for a program that is killed
        except OSError as error:
            self._failed = True
            log.warning("events are written no more to %s: %s", self.name, error)

    def close(self, last: str = "") -> None:
        """Write what waits, and this, and close the file; wait some seconds at the most."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join(END_SECONDS)
            if self._thread.is_alive():
                log.warning("the disk of %s takes too long: the end of it is missing", self.name)
                return
        try:
            if not self._failed:
                self._file.write(last)
            self._file.close()
        except OSError as error:
            log.warning("the end of %s could not be written: %s", self.name, error)
