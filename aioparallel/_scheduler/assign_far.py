"""Which waiting task goes to which far host, while so much waits that it hardly matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from .backlog import FAR, Backlog
from .ledger import SILENCE_SECONDS
from .lifecycle import LAUNCHED
from .stimuli import Action, Launch

if TYPE_CHECKING:
    from .state import State


def fill(state: State, now: float, actions: list[Action]) -> None:
    """Send to far hosts what waits, each its even share, the one where it would begin first before the others."""
    queue, claimed = state.queue, state.claimed
    hosts = [host.backlog for host in state.hosts.values() if host.backlog is not None and host.is_up]
    hosts.sort(key=lambda backlog: backlog.wait(now))
    isolated, head = state.isolated.head(), queue.head()
    if isolated is not None and (head is None or isolated._queued <= head._queued):
        _fill_isolated(state, hosts, now, actions)
    left = sum(backlog.power for backlog in hosts)
    for backlog in hosts:
        if not queue:
            break
        share = int(len(queue) * backlog.power / left) + 1
        left -= backlog.power
        batch: list[Attempt] = []
        while len(batch) < share and (task := queue.head()) is not None:
            estimate = state.estimate(task) / backlog.weight
            if not backlog.takes(task, estimate) or (backlog.host in claimed and len(backlog.attempts) >= backlog.width):
                break
            queue.pop()
            batch.append(attempt(task, backlog, estimate, now))
        if batch:
            launch(state, backlog, batch, actions)
    if state.isolated:
        _fill_isolated(state, hosts, now, actions)


def _fill_isolated(state: State, hosts: list[Backlog], now: float, actions: list[Action]) -> None:
    for backlog in hosts:
        while len(backlog.attempts) < backlog.width and (task := state.isolated.head()) is not None:
            state.isolated.pop()
            launch(state, backlog, [attempt(task, backlog, state.estimate(task) / backlog.weight, now)], actions)


def attempt(task: Task[Any], backlog: Backlog, estimate: float, now: float) -> Attempt:
    """Put a task on a far host; `launch` sends it."""
    task._attempt = begun = Attempt(task, task._attempt, backlog, estimate)
    task._state = LAUNCHED[task._state]
    backlog.add(begun, now)
    return begun


def launch(state: State, backlog: Backlog, batch: list[Attempt], actions: list[Action]) -> None:
    """Send attempts to their host."""
    actions.append(Launch(backlog.host, FAR, batch, 0.0))
    if state.races is not None:
        for begun in batch[: max(0, backlog.width - len(backlog.attempts) + len(batch))]:
            state.races.begins(begun, state.now)
    if backlog.behind > 0:
        state.silence_due = min(state.silence_due, max(backlog.silent_until(), state.now + SILENCE_SECONDS))
