"""The scoreboard: a pool, its hosts and what runs, at one moment.

How it works
    What there is one of for each slot or host (`slots`, `attempts`, `hosts`) is noted when the status is taken, and made into records when
    it is first looked at: to take a status costs the pool's loop little, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._wire.records import Record
from .states import SlotStatus
from .words import Table, as_html, as_lines, as_plain, in_units

SHOWN = 30
"""So many running attempts are printed; `attempts` holds all."""


class HostStatus(Record):
    """One host at the moment of asking."""

    name: str
    state: str
    """"up", "down", "failed" (for good), "leaving" or "gone" (it was removed)."""
    reason: str
    """Why it is not up, or was not at the last attempt; "" where there is nothing to say."""
    speed: float
    """How fast one of its slots is; 1.0 is this machine's. For now the declared weight."""
    weight: float
    """The same, as declared."""
    slots: int
    busy: int
    in_flight: int
    """Attempts that are there: running, or sent ahead."""
    finished: int
    """Attempts that succeeded there."""
    failures: int
    """Attempts that failed, died, ran into a limit or were lost there."""
    p50: float | None
    """Seconds that attempts ran, of those that succeeded; None until there are two."""
    p95: float | None
    round_trip: float
    """Seconds there and back; 0.0 for this machine."""


class RunningAttempt(Record):
    """One attempt that runs at the moment of asking."""

    task: str
    """The task's id, as messages show it."""
    name: str
    function: str
    host: str
    slot: int
    pid: int | None
    attempt: int
    """1 for the original, 2 for the first retry ..."""
    seconds: float
    """Since it began, by what is known here."""
    over_host_p95: bool
    """Whether that is more than 95 % of what succeeded on its host took (False until two did)."""
    over_function_p95: bool
    """The same for what succeeded of its function."""
    backup_of: int | None = None
    """The number of the attempt that it is a backup of."""


class _Later:
    """A field that is made when it is first looked at, of what the status holds for it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, status: Any, owner: type | None = None) -> Any:
        if status is None:
            return ()
        make: Callable[[], tuple[Any, ...]] = status.__dict__.pop(f"make_{self._name}", tuple)
        made = status.__dict__[self._name] = make()
        return made


def _later() -> Any:
    return _Later()


class PoolStatus(Record):
    """A pool at the moment of asking. Print it; `as_dict()` is for JSON, and a notebook shows it as tables."""

    name: str
    state: str
    uptime_seconds: float
    slots: tuple[SlotStatus, ...] = _later()
    max_slots: int
    queued: int
    running: int
    """Attempts that were sent, and have not ended."""
    succeeded: int
    failed: int
    cancelled: int
    retried: int
    run_seconds: float
    """The sum of all ended attempts' run times."""
    notes: tuple[str, ...] = ()
    """What is out of the ordinary: why slots are exec'ed, why none can start ..."""
    submitted: int = 0
    busy: int = 0
    """Slots that have something to do."""
    p50: float | None = None
    """Seconds that attempts ran, of those that succeeded; None until there are two. Right to 2 %."""
    p95: float | None = None
    p99: float | None = None
    hosts: tuple[HostStatus, ...] = _later()
    """Those that there are, and those that were used."""
    attempts: tuple[RunningAttempt, ...] = _later()
    """What runs, longest first."""
    backups_launched: int = 0
    backups_won: int = 0
    backups_lost: int = 0
    extra_work: float = 0.0
    """Seconds that copies ran for nothing, in % of those of tasks that may be raced."""

    @property
    def finished(self) -> int:
        """How many tasks ended, in whatever way."""
        return self.succeeded + self.failed + self.cancelled

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it."""
        whole: dict[str, Any] = as_plain(self)
        return whole

    def _lines(self) -> list[str]:
        head = (
            f"pool {self.name!r} {self.state} for {self.uptime_seconds:.1f} s: {self.busy} of {self.max_slots} slots busy, "
            f"{self.queued} queued, {self.running} running, "
            f"{self.succeeded} succeeded, {self.failed} failed, {self.cancelled} cancelled"
        )
        counts = f"  {self.finished} of {self.submitted} finished, {self.retried} retried"
        quantiles = f"; p50 {in_units(self.p50)}, p95 {in_units(self.p95)}, p99 {in_units(self.p99)}" if self.p50 is not None else ""
        backups = (
            f"; {self.backups_launched} backups, {self.backups_won} won, {self.backups_lost} lost, {self.extra_work:.1f} % extra work"
            if self.backups_launched
            else ""
        )
        return [head, counts + quantiles + backups]

    def _hosts_table(self) -> Table:
        names = ("host", "speed", "weight", "busy", "in flight", "finished", "failures", "p50", "p95", "health")
        return names, [
            (
                host.name, f"{host.speed:.2f}", f"{host.weight:.2f}", f"{host.busy}/{host.slots}", str(host.in_flight), str(host.finished),
                str(host.failures), in_units(host.p50), in_units(host.p95), host.state + (f": {host.reason}" if host.reason else ""),
            )
            for host in self.hosts
        ]  # fmt: skip

    def _attempts_table(self, shown: int | None) -> Table:
        names = ("runs", "for", "on", "attempt", "")
        rows: list[tuple[str, ...]] = []
        for attempt in self.attempts[:shown]:
            tags = [f"> {attempt.host}'s p95"] * attempt.over_host_p95 + ["> its function's p95"] * attempt.over_function_p95
            tags += [f"backup of attempt {attempt.backup_of}"] * (attempt.backup_of is not None)
            place = f"{attempt.host}/{attempt.slot} (pid {attempt.pid or '-'})"
            rows.append(
                (f"{attempt.task} {attempt.name}", in_units(attempt.seconds), place, str(attempt.attempt), ", ".join(tags))
            )  # fmt: skip
        return names, rows

    def __str__(self) -> str:
        more = len(self.attempts) - SHOWN
        lines = [*self._lines(), *as_lines(self._hosts_table()), *as_lines(self._attempts_table(SHOWN))]
        return "\n".join([*lines, *([f"  ... and {more} more"] if more > 0 else []), *(f"  note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return as_html([*self._lines(), *notes], [self._hosts_table(), self._attempts_table(None)])

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields}  # (what is noted for later cannot travel)
