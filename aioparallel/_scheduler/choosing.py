"""Tasks are placed one by one, where a policy chooses among hosts.

Guarantees
    Whoever waits longest is placed first. While one waits for a slot of a host, nobody younger is sent there ahead, so a slot falls idle.

How it works
    The policy is asked for the task that waits first, with the hosts that are up and allowed. One that chooses to wait, or for a host
    without room, is asked again when something changes, or when the task would have been done elsewhere. A policy that raises is logged
    once, and the default one decides.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from ..policies import NAMED, HostView, LeastLoaded, TaskView
from ..status import RETIRING
from . import near
from .alone import tell_hopeless
from .assign_far import attempt as far_attempt, launch as far_launch
from .backlog import Backlog
from .lanes import Lane, interrupt, policy_key
from .ledger import Slot

if TYPE_CHECKING:
    from .host_record import HostRecord
    from .state import State
    from .stimuli import Action

log = logging.getLogger("aioparallel")

SHORT = 4
"""While fewer tasks wait than so many for each slot (of the slowest, where hosts differ), it matters where each goes."""
LOOK_SECONDS = 0.002
"""A policy of the user's that has a task wait is asked again after this, at the soonest."""
LOOK_AGAIN = 0.25
"""Beyond that it is asked again after this part of the time that the task has waited."""
LONGEST_LOOK = 1.0
FEW_LANES = 8
"""Where there are more, those of which all hosts are full are passed over."""
MAX_ROTAS = 1000
"""Of so many policies it is known how many tasks they placed."""
_LEAST_LOADED = LeastLoaded()


def matters(state: State) -> bool:
    """Return whether the tasks that may go anywhere are to be placed one by one."""
    return len(state.queue) < state.short


def short_of(state: State) -> float:
    """Return below how many waiting tasks it matters where each goes."""
    if len(state.hosts) < 2 and state.selection is None:
        return 0.0
    if not (state.selection in (None, "least-loaded") or isinstance(state.selection, LeastLoaded)):
        return float("inf")
    up = [host for host in state.hosts.values() if host.width]
    weights = [host.weight for host in up] or [1.0]
    return SHORT * sum(host.width for host in up) * max(weights) / min(weights) + 1


def split(state: State, moment: float) -> tuple[list[Lane], list[Lane]]:
    """Return the lanes in which something waits since before a moment, and the others."""
    older: list[Lane] = []
    younger: list[Lane] = []
    for lane in state.lanes.values():
        head = lane.queue.head()
        (older if head is not None and head._queued < moment else younger).append(lane)
    return older, younger


def place_in_order(state: State, lanes: list[Lane], now: float, actions: list[Action]) -> None:
    """Place what waits in lanes, where something has waited longest first."""
    full = {host.name for host in state.hosts.values() if host.is_full} if len(lanes) > FEW_LANES else set[str]()
    if full:
        lanes = [lane for lane in lanes if not _is_shut(lane, full)]
    waiting = [(head._queued, lane) for lane in lanes if (head := lane.queue.head()) is not None]
    if len(waiting) > 1:
        waiting.sort(key=lambda entry: entry[0])
    for _, lane in waiting:
        if not _is_shut(lane, full):
            place(state, lane, now, actions)
            if len(lanes) > FEW_LANES:
                full.update(host.name for host in lane.hosts(state) if host.is_full)


def _is_shut(lane: Lane, full: set[str]) -> bool:
    """Return whether none of a lane's hosts takes anything."""
    return bool(lane.allowed) and not lane.isolated and full.issuperset(lane.allowed or ())


def place(state: State, lane: Lane, now: float, actions: list[Action]) -> None:
    """Give the tasks of a lane, in order, the hosts that their policy chooses, while it does."""
    hosts = lane.candidates(state)
    if not hosts or (lane.isolated and all(host.failed is not None for host in hosts)):
        tell_hopeless(state, lane, now, actions)
        return
    sent: dict[Any, list[Attempt]] = {}
    claimed: list[HostRecord] = []
    while (task := lane.queue.head()) is not None:
        places = {host.name: _opening(state, host, task) for host in hosts}
        if not _mark_room(state, hosts, places, now):
            claimed = hosts
            break
        host = _choose(state, lane, task, hosts, now)
        if host is None:
            break
        lane.queue.pop()
        _count_turn(state, lane)
        place = places[host.name]
        if place is None:
            index = near.free_index(state, host, now)
            assert index is not None
            place = near.begin(state, host, index, now, actions)
        _put(state, task, host, place, sent, now)
    if lane.isolated and lane.queue:
        for host in hosts:
            near.make_room(state, len(lane.queue), host.near_slots(), actions)
        if any(slot.state == RETIRING for host in hosts for slot in host.near_slots()):
            claimed = [host for host in claimed if host.backlog is not None]
    state.claimed.update(host.name for host in claimed)
    for place, batch in sent.items():
        if isinstance(place, Backlog):
            far_launch(state, place, batch, actions)
        else:
            near.launch(state, place, batch, now, actions)


def _rota(state: State, lane: Lane) -> Hashable:
    """Return by what the turns of a lane's policy are counted: lanes come and go, and those of one policy among the same hosts go on."""
    return policy_key(lane.selection or state.selection), lane.allowed


def _count_turn(state: State, lane: Lane) -> None:
    """A policy has placed one more task. Those that did not for longest are forgotten."""
    turns, rota = state.turns, _rota(state, lane)
    turns[rota] = turns.pop(rota, 0) + 1
    if len(turns) > MAX_ROTAS:
        del turns[next(iter(turns))]


def _opening(state: State, host: HostRecord, task: Task[Any]) -> Slot | Backlog | None:
    estimate = state.estimate(task) / host.weight
    if host.backlog is None:
        return near.opening(state, host, task, estimate)
    backlog = host.backlog
    if task._options.isolate or host.name in state.claimed:
        return backlog if len(backlog.attempts) < backlog.width else None
    return backlog if backlog.takes(task, estimate) else None


def _mark_room(state: State, hosts: list[HostRecord], places: dict[str, Any], now: float) -> bool:
    """Note which hosts would take the task; return whether any would."""
    any_room = False
    for host in hosts:
        host.room = places[host.name] is not None or (host.backlog is None and near.free_index(state, host, now) is not None)
        any_room = any_room or host.room
    return any_room


def _choose(state: State, lane: Lane, task: Task[Any], hosts: list[HostRecord], now: float) -> HostRecord | None:
    """Ask the policy. None: the task waits."""
    if len(hosts) == 1 and lane.selection is None and state.selection is None:
        return hosts[0]
    view = TaskView(
        task.name,
        estimate=state.estimate(task),
        is_known=state.ledger.knows(task),
        attempt=1 if task._attempt is None else task._attempt.number + 1,
        avoid=lane.avoid,
        locality=task._options.locality,
        waited=now - lane.since if lane.asked == task._id else 0.0,
        turn=state.turns.get(_rota(state, lane), 0),
        draw=state.random.random(),
    )
    views = [host.view for host in hosts]
    policy = lane.selection or state.selection or _LEAST_LOADED
    policy = NAMED[policy] if isinstance(policy, str) else policy
    chosen = _ask(state, policy, view, views)
    host = next((host for host in hosts if host.view is chosen), None)
    if host is not None and host.room:
        return host
    if lane.asked != task._id:
        lane.asked, lane.since = task._id, now
    if lane.look_due <= now:
        soonest = min(view.estimate / host.weight for host in hosts if host.room)
        least = 0.0 if isinstance(policy, LeastLoaded) else max(LOOK_SECONDS, LOOK_AGAIN * (now - lane.since))
        lane.look_due = now + min(max(soonest, least), LONGEST_LOOK)
    state.look_due = min(state.look_due, lane.look_due)
    return None


def _ask(state: State, policy: Any, task: TaskView, views: list[HostView]) -> HostView | None:
    error: BaseException | None
    try:
        chosen = policy(task, views)
    except BaseException as raised:  # noqa: BLE001 - it is said below; what was decided before it must not be lost
        interrupt(state, raised)
        wrong, error = "failed", raised
    else:
        if chosen is None or any(chosen is view for view in views):
            return chosen  # type: ignore[no-any-return]
        wrong, error = f"returned {type(chosen).__qualname__}, and not one of the hosts it was given or None", None
    if policy_key(policy) not in state.bad_policies:
        if len(state.bad_policies) < MAX_ROTAS:
            state.bad_policies.add(policy_key(policy))
        log.error("the selection policy %s: LeastLoaded() decides where it does", wrong, exc_info=error)
    return _LEAST_LOADED(task, views)


def _put(state: State, task: Task[Any], host: HostRecord, place: Slot | Backlog, sent: dict[Any, list[Attempt]], now: float) -> None:
    estimate = state.estimate(task) / host.weight
    if isinstance(place, Backlog):
        sent.setdefault(place, []).append(far_attempt(task, place, estimate, now))
        return
    if not place.outstanding:
        near.occupy(place, now)
    place.exclusive = task._options.isolate
    sent.setdefault(place, []).append(near.attempt(task, place, estimate))
