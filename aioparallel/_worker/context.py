"""What a task may know about itself: `current_task()` and `report_progress()`.

Works the same in a slot near, in a slot far where only this file travelled, and with `Pool(local="serial")`.
"""

from __future__ import annotations

from ..errors import UsageError

__all__ = ["TaskContext", "current_task", "report_progress"]

PROGRESS_SECONDS = 0.02
"""Reports that follow each other faster than this are dropped, but for the last (`done == total`)."""


class TaskContext:
    """The running task, as its own code sees it. All times are seconds."""

    __slots__ = ("_data", "_scratch", "_send_progress", "_surrounding", "attempt", "deadline", "id", "last_progress", "name")

    def __init__(self, ident: int, attempt: int, name: str, deadline: float | None, data: bytes | None, surrounding: Surrounding) -> None:
        self.id = ident
        """The task's number in its pool."""
        self.attempt = attempt
        """1 for the original, 2 for the first retry ..."""
        self.name = name
        self.deadline = deadline
        """When the task will be killed, on the clock of `time.monotonic()` in this process; None: never."""
        self._data = data
        self._surrounding = surrounding
        self._scratch: str | None = None
        self.last_progress = 0.0

    def __repr__(self) -> str:
        return f"<current task {self.id} {self.name!r} attempt {self.attempt} on {self.host}>"

    @property
    def host(self) -> str:
        """The name of the host this runs on."""
        return self._surrounding.host

    @property
    def data(self) -> object:
        """What `options(data=...)` gave; each access returns a new copy."""
        from _pickle import loads

        return None if self._data is None else loads(self._data)

    @property
    def seed(self) -> int:
        """A number of 64 bits, the same for all attempts of this task, derived from `Pool(seed=)` and the task's id by BLAKE2b."""
        from hashlib import blake2b

        key = f"{self._surrounding.seed}/{self.id}".encode()
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")

    @property
    def scratch(self) -> str:
        """A folder (mode 0700) for this attempt alone, made at first use and removed afterwards."""
        if self._scratch is None:
            import os

            path = os.path.join(self._surrounding.scratch_root, f"{self.id}.{self.attempt}")
            os.makedirs(self._surrounding.scratch_root, mode=0o700, exist_ok=True)
            os.mkdir(path, 0o700)
            self._scratch = path
        return self._scratch

    def leave(self) -> None:
        """Remove what the attempt had on the disk."""
        if self._scratch is not None:
            import shutil

            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None


class Surrounding:
    """What does not change from task to task in one slot."""

    __slots__ = ("host", "in_slot", "scratch_root", "seed", "send_progress")

    def __init__(self, host: str, seed: int, scratch_root: str, send_progress: object, in_slot: bool) -> None:
        self.host = host
        self.seed = seed
        self.scratch_root = scratch_root
        self.send_progress = send_progress
        self.in_slot = in_slot


running: tuple | None = None  # type: ignore[type-arg]
"""The arguments of the running attempt's TaskContext; a tuple, since most tasks never ask."""
_context: TaskContext | None = None
surrounding: Surrounding | None = None


def begin(values: tuple) -> None:  # type: ignore[type-arg]
    """Say that an attempt begins, with the arguments of its TaskContext."""
    global running, _context
    running, _context = values, None


def end() -> None:
    """Say that the attempt has ended, and clean up after it."""
    global running, _context
    running = None
    if _context is not None:
        context, _context = _context, None
        context.leave()


def in_slot() -> bool:
    """Return whether this process is a slot (and so may not open a pool of its own)."""
    return surrounding is not None and surrounding.in_slot


def current_task() -> TaskContext:
    """Return what the running task may know about itself. Raises UsageError outside a task."""
    global _context
    if _context is None:
        if running is None:
            raise UsageError("current_task() was called outside a task: it works in functions that a pool runs")
        _context = TaskContext(*running, surrounding)
    return _context


def report_progress(done: float, total: float | None = None) -> None:
    """Tell the pool how far the running task is: it becomes an event, and shows in `pool.status()`.

    `done` and `total` are in the task's own unit. Raises UsageError outside a task. Costs little: reports that come faster
    than 50 a second are dropped, except the last.
    """
    from time import monotonic

    task = current_task()
    now = monotonic()
    if now - task.last_progress < PROGRESS_SECONDS and done != total:
        return
    task.last_progress = now
    assert surrounding is not None
    surrounding.send_progress(task.id, task.attempt, float(done), float("nan") if total is None else float(total))  # type: ignore[operator]
