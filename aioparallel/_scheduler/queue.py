"""What waits for a slot: first come, first served, and cheap to leave.

Guarantees
    Leaving the queue is O(1): the entry stays and is passed over later; entries of tasks that left never outnumber those that wait by
    more than a constant.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from .._jobs.task import Task
from ..status import QUEUED

SLACK = 1024
"""So many dead entries are let be."""


class Queue:
    """Waiting tasks, in order."""

    __slots__ = ("_dead", "_tasks")

    def __init__(self) -> None:
        self._tasks: deque[Task[Any]] = deque()
        self._dead = 0

    def __len__(self) -> int:
        return len(self._tasks) - self._dead

    def push(self, task: Task[Any]) -> None:
        """Add a task at the end."""
        self._tasks.append(task)

    def push_front(self, task: Task[Any]) -> None:
        """Add a task that was waiting before all others."""
        self._tasks.appendleft(task)

    def leave(self) -> None:
        """Say that one of the waiting tasks is not QUEUED any more; its entry is dropped when it is met."""
        self._dead += 1
        if self._dead > SLACK and self._dead * 2 > len(self._tasks):
            self._tasks = deque(task for task in self._tasks if task._state == QUEUED)
            self._dead = 0

    def head(self) -> Task[Any] | None:
        """Return the first waiting task, which stays."""
        tasks = self._tasks
        while tasks:
            task = tasks[0]
            if task._state == QUEUED:
                return task
            tasks.popleft()
            self._dead -= 1
        return None

    def pop(self) -> Task[Any]:
        """Take the task that `head` returned."""
        return self._tasks.popleft()

    def take_all(self) -> list[Task[Any]]:
        """Empty the queue and return what waited."""
        tasks = [task for task in self._tasks if task._state == QUEUED]
        self._tasks.clear()
        self._dead = 0
        return tasks
