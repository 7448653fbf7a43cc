"""What a task may know about itself: `current_task()` and `report_progress()`.

Works the same in a slot near, in a slot far where only this file travelled, and with `Pool(local="serial")`.
"""

from __future__ import annotations

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["TaskContext", "current_task", "report_progress"]

PROGRESS_SECONDS = 0.02
"""Reports that follow each other faster than this are dropped, but for the last (`done == total`)."""


class TaskContext:
    """The running task, as its own code sees it. All times are seconds."""

    __slots__ = ("_data", "_item", "_scratch", "_seed_path", "_surrounding", "attempt", "deadline", "id", "last_progress", "name")

    def __init__(
        self,
        ident: int,
        attempt: int,
        name: str,
        deadline: float | None,
        data: bytes | None,
        seed_path: tuple[Any, ...],
        item: int,
        where: Surrounding,
    ) -> None:
        self.id = ident
        """The task's number in its pool."""
        self.attempt = attempt
        """1 for the original, 2 for the first retry ..."""
        self.name = name
        self.deadline = deadline
        """When the task will be killed, on the clock of `time.monotonic()` in this process; None: never."""
        self._data = data
        self._seed_path = seed_path
        self._item = item
        self._surrounding = where
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
        """A number of 64 bits, the same for all attempts.

        It is derived by BLAKE2b from `Pool(seed=)` and what stands for this task: its id, or the number of its map in the pool and its
        item's index.
        """
        from hashlib import blake2b

        path = self._seed_path
        if len(path) == 3:
            number, first, ranges = path
            path = number, first + (self._item if ranges is None else _numbered(self._item, ranges))
        key = "/".join(map(str, (self._surrounding.seed, *(path or (self.id,))))).encode()
        return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")

    @property
    def scratch(self) -> str:
        """A folder (mode 0700) for this attempt alone, made at first use and removed afterwards."""
        if self._scratch is None:
            import os

            path = os.path.join(self._surrounding.scratch_root, f"{self.id}.{self.attempt}.{self._item}")
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


def _numbered(position: int, ranges: tuple[tuple[int, int], ...]) -> int:
    """Return the number at a position in ranges, each given by its first number and the one behind its last."""
    for first, end in ranges:
        if position < end - first:
            return first + position
        position -= end - first
    raise IndexError(position)


class Surrounding:
    """What does not change from task to task in one slot."""

    __slots__ = ("host", "in_slot", "remedy", "scratch_root", "seed", "send_progress")

    def __init__(
        self, host: str, seed: int, scratch_root: str, send_progress: Callable[[int, int, float, float], None] | None, in_slot: bool
    ) -> None:
        self.host = host
        self.seed = seed
        self.scratch_root = scratch_root
        self.send_progress = send_progress
        self.in_slot = in_slot
        self.remedy: Callable[[ImportError], str] | None = None
        """Far: what to do about an import that fails."""


running: tuple[int, int, str, float | None, bytes | None, tuple[Any, ...]] | None = None
"""The running attempt, as the arguments of its TaskContext; a tuple, since most tasks never ask."""
item = 0
"""Which item of a chunk runs."""
_contexts: dict[int, TaskContext] = {}
"""By item."""
surrounding: Surrounding | None = None


def begin(values: tuple[int, int, str, float | None, bytes | None, tuple[Any, ...]]) -> None:
    """Say that an attempt begins: (id, attempt, name, deadline, pickled data, seed path)."""
    global running, item
    running, item = values, 0


def end() -> None:
    """Say that the attempt has ended, and clean up after it."""
    global running
    running = None
    if _contexts:
        for context in _contexts.values():
            context.leave()
        _contexts.clear()


def in_slot() -> bool:
    """Return whether this process is a slot (and so may not open a pool of its own)."""
    return surrounding is not None and surrounding.in_slot


def current_task() -> TaskContext:
    """Return what the running task may know about itself. Raises UsageError outside a task."""
    context = _contexts.get(item)
    if context is None:
        if running is None or surrounding is None:
            raise UsageError("current_task() was called outside a task: it works in functions that a pool runs")
        context = _contexts[item] = TaskContext(*running, item, surrounding)
    return context


def report_progress(done: float, total: float | None = None) -> None:
    """Tell the pool how far the running task is: it becomes an event, and shows in `pool.status()`.

    `done` and `total` are in the task's own unit. Raises UsageError outside a task. Costs little: reports that come faster
    than 50 a second are dropped, except the last, and so are those for which the pool's event loop is too busy.
    """
    from time import monotonic

    task = current_task()
    now = monotonic()
    if now - task.last_progress < PROGRESS_SECONDS and done != total:
        return
    task.last_progress = now
    assert surrounding is not None
    assert surrounding.send_progress is not None
    surrounding.send_progress(task.id, task.attempt, float(done), float("nan") if total is None else float(total))
