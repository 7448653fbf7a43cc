"""What waits for hosts of which none is up: it is told so when that has lasted, or at once where none ever will be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import HostLost, UsageError
from ..status import QUEUED
from .lanes import describe

if TYPE_CHECKING:
    from ..options import Options
    from .lanes import Lane
    from .state import State
    from .stimuli import Action

NEVER = float("inf")


def tell_hopeless(state: State, lane: Lane, now: float, actions: list[Action]) -> None:
    """None of a lane's hosts can take anything: fail what waits if none ever will, else see how long that lasts."""
    if not lane.queue:
        return
    allowed = lane.hosts(state)
    if allowed and all(host.failed is not None for host in allowed):
        state.endings.fail_waiting(lane.queue, allowed[0], now, actions)
    elif not allowed and lane.allowed is not None and not state.hosts_may_come:
        for task in lane.queue.take_all():
            state.endings.failed(task, UsageError(impossible(state, task._options)), None, now, actions)
    else:
        look_whether_alone(state, lane, now)


def look_who_is_alone(state: State, now: float) -> None:
    """Start the clocks of those that wait for hosts of which none is up, and stop those of others."""
    for lane in state.all_lanes():
        look_whether_alone(state, lane, now)


def look_whether_alone(state: State, lane: Lane, now: float) -> None:
    """Start the clock where no host is left to wait for; stop it where one is."""
    if not is_alone(state, lane):
        lane.alone_until = NEVER
    elif lane.alone_until == NEVER:
        lane.alone_until = now + state.lost_grace
        state.at(lane.alone_until, "alone", lane)


def is_alone(state: State, lane: Lane) -> bool:
    """Return whether none of a lane's hosts is up, nor near and about to be."""
    for host in lane.hosts(state):
        if host.failed is None:
            if host.is_up or host.backlog is None:
                return False
        elif host.is_up and not lane.isolated:
            return False
    return True


def give_up(state: State, lane: Lane, now: float, actions: list[Action]) -> None:
    """No host was up for `lost_grace` seconds: whatever waits in a lane is told so."""
    if now < lane.alone_until:
        return  # one was up meanwhile
    lane.alone_until = NEVER
    if not is_alone(state, lane):
        return
    reasons = "; ".join(f"{host.name}: {host.why or 'not reached yet'}" for host in lane.hosts(state)) or "there is none yet"
    what = "no host" if lane.allowed is None else "no host that these tasks may use"
    for task in lane.queue.take_all():
        assert task._state == QUEUED
        state.endings.failed(task, HostLost(f"{what} was up for {state.lost_grace:g} s ({reasons})"), None, now, actions)


def impossible(state: State, options: Options) -> str:
    """Say that no host is one that options allow."""
    return f"no host of this pool is allowed by options({describe(options)}); it has {', '.join(state.hosts) or 'none'}"
