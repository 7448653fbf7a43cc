"""Which waiting task goes to which far host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from .backlog import FAR, Backlog
from .lifecycle import LAUNCHED
from .stimuli import Action, Launch

if TYPE_CHECKING:
    from .state import State


def fill(state: State, actions: list[Action]) -> None:
    """Send to far hosts what waits, each its even share, the one where it would begin first before the others."""
    queue = state.queue
    hosts = sorted((host.backlog for host in state.hosts.values() if host.backlog is not None and host.backlog.width), key=_wait)
    left = sum(backlog.width for backlog in hosts)
    for backlog in hosts:
        if not queue:
            break
        share = -(-len(queue) * backlog.width // left)
        left -= backlog.width
        batch: list[Attempt] = []
        while len(batch) < share and (task := queue.head()) is not None:
            estimate = state.estimate(task)
            if not backlog.takes(task, estimate):
                break
            queue.pop()
            batch.append(_attempt(task, backlog, estimate))
        if batch:
            actions.append(Launch(backlog.host, FAR, batch, 0.0))
    if state.isolated:
        _fill_isolated(state, hosts, actions)


def _fill_isolated(state: State, hosts: list[Backlog], actions: list[Action]) -> None:
    for backlog in hosts:
        while len(backlog.attempts) < backlog.width and (task := state.isolated.head()) is not None:
            state.isolated.pop()
            actions.append(Launch(backlog.host, FAR, [_attempt(task, backlog, state.estimate(task))], 0.0))


def _wait(backlog: Backlog) -> float:
    return backlog.wait


def _attempt(task: Task[Any], backlog: Backlog, estimate: float) -> Attempt:
    task._attempt = attempt = Attempt(task, task._attempt, backlog, estimate)
    task._state = LAUNCHED[task._state]
    backlog.add(attempt)
    return attempt
