"""Work that waits in a place is taken back for one that has none: where the place is silent, or has more than it should.

How it works
    What has not begun can be called back. A slot near, or a far host, that is silent for longer than what it runs should take has what
    waits behind that called back. When a slot falls idle and nothing waits here, the place with the most work waiting gives it up, if that
    is worth the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ledger import EVEN_SECONDS, Slot
from .near import recall
from .stimuli import Action, Withdraw

if TYPE_CHECKING:
    from .backlog import Backlog
    from .state import State

NEVER = float("inf")


def call_back_from_silent(state: State, now: float, actions: list[Action]) -> None:
    """Call back what waits behind a slot's long task, to run elsewhere."""
    state.silence_due = NEVER
    for slot in state.slots.values():
        if len(slot.outstanding) < 2 or slot.stuck:
            continue
        due = slot.silent_until()
        if due <= now:
            recall(state, slot, actions)
        elif due < state.silence_due:
            state.silence_due = due
    if state.has_far:
        _call_back_from_silent_hosts(state, now, actions)


def _call_back_from_silent_hosts(state: State, now: float, actions: list[Action]) -> None:
    for host in state.hosts.values():
        backlog = host.backlog
        if backlog is None or backlog.behind <= 0 or backlog.stuck:
            continue
        due = backlog.silent_until()
        if due > now:
            state.silence_due = min(state.silence_due, due)
        elif len(state.hosts) > 1:
            withdraw(backlog, backlog.behind, actions)


def withdraw(backlog: Backlog, count: int, actions: list[Action]) -> None:
    """Call back the attempts that were sent last, of which no more will be sent ahead until it answers."""
    backlog.stuck = True
    idents = list(backlog.attempts)[-count:]
    actions.append(Withdraw(backlog.host, idents))


def even_out(state: State, distance: float, actions: list[Action]) -> None:
    """A slot, so many seconds away (and back), has nothing to do: if nothing waits here, call back what waits elsewhere."""
    if state.queue or state.isolated:
        return  # (what waits in lanes could not go there)
    worth = EVEN_SECONDS + distance
    fullest = max(state.slots.values(), key=Slot.behind, default=None)
    if fullest is not None and fullest.behind() >= worth and not fullest.stuck:
        recall(state, fullest, actions)
    if state.has_far:
        _even_out_hosts(state, worth, actions)


def _even_out_hosts(state: State, worth: float, actions: list[Action]) -> None:
    backlogs = [host.backlog for host in state.hosts.values() if host.backlog is not None and host.backlog.behind > 0]
    fullest = max(backlogs, key=lambda backlog: backlog.load / backlog.width, default=None)
    if fullest is None or fullest.stuck:
        return
    behind = fullest.load * fullest.behind / len(fullest.attempts) / fullest.width
    if behind >= worth + fullest.round_trip:
        withdraw(fullest, -(-fullest.behind // 2), actions)
