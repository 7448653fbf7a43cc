"""What happens, as a file for Perfetto.

How it works
    The Trace Event Format ("Trace Event Format", Google, 2016), as an array of events, one a line: a process is a host, a thread is a
    slot, and each attempt is a complete event ("X") on it. An attempt that never began is an instant ("i"). What did not succeed has a
    colour of its own (`cname`), and its outcome among its arguments.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ..events import AttemptEnded, AttemptStarted, BackupStarted, Event, HostDown, HostUp, SlotStarted, TaskEnded, TaskSubmitted, _Lines
from ..status import CANCELLED, LOST, SUCCEEDED

COLOURS = {CANCELLED: "grey", LOST: "black"}
"""Of what neither succeeded nor failed by its own doing: names that the format reserves."""
WRONG = "terrible"


class ChromeTrace:
    """Takes a pool's events, and writes them."""

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        self._file = _Lines(path)
        self._pool = name
        self._rows: dict[str, int] = {}
        self._named: set[tuple[str, int]] = set()
        self._names: dict[int, str] = {}
        self._sent: dict[tuple[int, int], float] = {}
        self._backups: dict[tuple[int, int], str] = {}
        """Why there is a backup, by task and attempt."""
        self._free: dict[tuple[str, int], float] = {}
        """When the last attempt on a slot ended."""
        self._first = True

    def __repr__(self) -> str:
        return f"<trace of {self._pool!r}>"

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, TaskSubmitted):
            self._names[event.task] = event.name
        elif isinstance(event, AttemptStarted):
            self._sent[event.task, event.attempt] = event.at
        elif isinstance(event, BackupStarted):
            self._backups[event.task, event.attempt] = event.reason
        elif isinstance(event, AttemptEnded):
            self._ended(event)
        elif isinstance(event, TaskEnded):
            self._names.pop(event.task, None)
        elif isinstance(event, SlotStarted):
            self._row(event.host, event.slot)
            self._free[event.host, event.slot] = event.at
        elif isinstance(event, (HostUp, HostDown)):
            reason = event.reason if isinstance(event, HostDown) else ""
            self._put({"name": type(event).__name__, "ph": "i", "s": "p", "ts": event.at * 1e6, "args": {"reason": reason}}, event.host, 0)

    def _ended(self, event: AttemptEnded) -> None:
        sent = self._sent.pop((event.task, event.attempt), event.at)
        place = event.host, event.slot
        began = event.started_at if event.started_at is not None else max(sent, self._free.get(place, sent))
        ended = event.at if event.started_at is None or event.seconds is None else event.started_at + event.seconds
        self._free[place] = max(ended, self._free.get(place, ended))
        bar: dict[str, Any] = {
            "name": self._names.get(event.task, f"task {event.task}"),
            "cat": event.outcome,
            "ph": "X",
            "ts": began * 1e6,
            "dur": max(0.0, ended - began) * 1e6,
            "args": {"task": event.task, "attempt": event.attempt, "outcome": event.outcome, "waited_ms": max(0.0, began - sent) * 1e3},
        }
        why = self._backups.pop((event.task, event.attempt), None)
        if why is not None:
            bar["args"]["backup"] = why
            bar["name"] += " (backup)"
        if event.outcome != SUCCEEDED:
            bar["cname"] = COLOURS.get(event.outcome, WRONG)
            bar["name"] += f" ({event.outcome})"
        self._put(bar, *place)

    def _row(self, host: str, slot: int) -> int:
        """Return the number of a host, after its name and the slot's were written."""
        number = self._rows.get(host)
        if number is None:
            number = self._rows[host] = len(self._rows) + 1
            self._write({"name": "process_name", "ph": "M", "pid": number, "tid": 0, "args": {"name": f"{self._pool}: {host}"}})
        if (host, slot) not in self._named:
            self._named.add((host, slot))
            name = f"slot {slot}" if slot >= 0 else "not known"
            self._write({"name": "thread_name", "ph": "M", "pid": number, "tid": slot + 1, "args": {"name": name}})
        return number

    def _put(self, event: dict[str, Any], host: str, slot: int) -> None:
        self._write({**event, "pid": self._row(host, slot), "tid": slot + 1})

    def _write(self, event: dict[str, Any]) -> None:
        # The bracket at the end may be missing: the format allows for a program that did not come to write it.
        self._file.put(("[\n" if self._first else ",\n") + json.dumps(event))
        self._first = False

    def close(self) -> None:
        """Write the end."""
        self._file.close("[\n]\n" if self._first else "\n]\n")


__all__ = ["ChromeTrace"]
