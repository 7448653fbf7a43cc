"""What waits for hosts of which none is up: it is told so when that has lasted, or at once where none ever will be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import HostLost, UsageError
from .lanes import describe, may_come

if TYPE_CHECKING:
    from ..options import Options
    from .host_record import HostRecord
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
        return
    if not allowed and lane.allowed is not None:
        for task in lane.queue.take_all():
            if may_come(state, task._options):
                lane.queue.push(task)
            else:
                why = impossible(state, task._options)
                lost = HostLost(f"its host was lost while it ran the task, and {why}") if task._losses else None
                state.endings.failed(task, lost or UsageError(why), None, now, actions)
    look_whether_alone(state, lane)


def look_who_is_alone(state: State) -> None:
    """Have the clock ring for those that wait for hosts of which none is up."""
    for lane in state.all_lanes():
        look_whether_alone(state, lane)


def look_whether_alone(state: State, lane: Lane) -> None:
    """Have the clock ring for what waits first in a lane, if none of its hosts is up."""
    head = lane.queue.head()
    if head is not None and (since := _alone_since(state, lane)) is not None:
        state.alone_due = min(state.alone_due, max(since, head._queued) + state.lost_grace)


def _alone_since(state: State, lane: Lane) -> float | None:
    """Return since when none of a lane's hosts is up; None: one is, or will be (one that is near)."""
    hosts = lane.hosts(state)
    if any(_may_serve(lane, host) for host in hosts):
        return None
    lost = max((host.lost_at for host in hosts), default=state.left_at)
    return max(lost, state.left_at) if lane.allowed is None else lost


def _may_serve(lane: Lane, host: HostRecord) -> bool:
    if host.backlog is not None:
        return host.is_up
    return host.failed is None or (host.is_up and not lane.isolated)


def give_up(state: State, now: float, actions: list[Action]) -> None:
    """Tell what has waited for `lost_grace` seconds, in which no host was up that it may use."""
    state.alone_due = float("inf")
    for lane in state.all_lanes():
        since = _alone_since(state, lane)
        if since is None:
            continue
        reasons = "; ".join(f"{host.name}: {host.why or 'not reached yet'}" for host in lane.hosts(state)) or "there is none yet"
        what = "no host" if lane.allowed is None else "no host that these tasks may use"
        while (task := lane.queue.head()) is not None and max(since, task._queued) + state.lost_grace <= now:
            lane.queue.pop()
            state.endings.failed(task, HostLost(f"{what} was up for {state.lost_grace:g} s ({reasons})"), None, now, actions)
        look_whether_alone(state, lane)


def impossible(state: State, options: Options) -> str:
    """Say that no host is one that options allow."""
    names = ", ".join(f"{host.name} (which is being removed)" if host.leaving else host.name for host in state.hosts.values())
    return f"no host of this pool is allowed by options({describe(options)}); it has {names or 'none'}"
