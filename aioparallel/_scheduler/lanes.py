"""Where tasks wait that may not go to just any host: one lane for all that may go to the same ones, and whose choice is made alike.

How it works
    Which hosts `options(hosts=, labels=)` allow is found out once for each options value and set of hosts. A task that failed on a host
    waits in a lane that avoids it. When hosts come or go for good, what waits is sorted into lanes anew.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from .._jobs.task import Task
from ..options import Options
from ..status import CANCELLED, DIED, FAILED, LOST, OUT_OF_MEMORY, TIMED_OUT
from .host_record import HostRecord
from .queue import Queue

if TYPE_CHECKING:
    from .state import State

log = logging.getLogger("aioparallel")

BLAMED = frozenset({FAILED, DIED, TIMED_OUT, OUT_OF_MEMORY, LOST})
"""An attempt that ended so makes its task avoid the host."""
assert CANCELLED not in BLAMED


class Lane:
    """Tasks that may go to the same hosts, in order."""

    __slots__ = ("allowed", "asked", "avoid", "isolated", "look_due", "queue", "selection", "since")

    def __init__(self, queue: Queue, allowed: frozenset[str] | None, avoid: frozenset[str], selection: Any, isolated: bool) -> None:
        self.queue = queue
        self.allowed = allowed
        """The names of the hosts; None: all."""
        self.avoid = avoid
        self.selection = selection
        """The policy; None: the pool's."""
        self.isolated = isolated
        self.asked = 0
        """The id of the task that a policy was asked for and had wait."""
        self.since = 0.0
        self.look_due = 0.0
        """When it is looked at again, without anything else happening."""

    def hosts(self, state: State) -> list[HostRecord]:
        """Return the hosts that its tasks may go to at all."""
        allowed = self.allowed
        return [host for host in state.hosts.values() if allowed is None or host.name in allowed]

    def candidates(self, state: State) -> list[HostRecord]:
        """Return the hosts that its tasks may go to now: the avoided ones only where no other is up."""
        up = [host for host in self.hosts(state) if host.is_up]
        return [host for host in up if host.name not in self.avoid] or up if self.avoid else up


def queue_of(state: State, task: Task[Any]) -> Queue:
    """Return the queue that a task waits in."""
    options = task._options
    avoid = avoided(task) if (task._failures or task._losses) and len(state.hosts) > 1 else frozenset()
    if not avoid and not options.is_placed:
        return state.isolated if options.isolate else state.queue
    allowed = allowed_by(state, options) if options.is_placed else None
    key = (allowed, avoid, policy_key(options.selection), options.isolate)
    lane = state.lanes.get(key)
    if lane is None:
        lane = state.lanes[key] = Lane(Queue(), allowed, avoid, options.selection, options.isolate)
    return lane.queue


def policy_key(selection: Any) -> Hashable:
    """Return what is the same for policies that decide alike: itself where that can be, else its id."""
    try:
        hash(selection)
    except Exception:  # noqa: BLE001 - it is the user's
        return id(selection)
    return selection  # type: ignore[no-any-return]


def interrupt(state: State, raised: BaseException) -> None:
    """A hook of the user's raised: a KeyboardInterrupt is raised again when everything that was decided has been done."""
    if isinstance(raised, KeyboardInterrupt):
        state.interrupt = raised


def avoided(task: Task[Any]) -> frozenset[str]:
    """Return the names of the hosts where a task failed, unless it need not avoid them."""
    if not task._options.retry.avoid_host:
        return frozenset()
    names: set[str] = set()
    attempt = task._attempt
    while attempt is not None:
        if attempt.outcome in BLAMED:
            names.add(attempt.slot.host)
        attempt = attempt.before
    return frozenset(names)


def allowed_by(state: State, options: Options) -> frozenset[str] | None:
    """Return the names of the hosts that options allow; None: all."""
    known: tuple[object, frozenset[str] | None] | None = options.__dict__.get("_allowed")
    if known is None or known[0] is not state.layout:
        names = [host.name for host in state.hosts.values() if not host.leaving and allows(state, options, host)]
        unbound = options.hosts is None and options.labels is None and options.locality is None
        options.__dict__["_allowed"] = known = (state.layout, None if unbound else frozenset(names))
    return known[1]


def allows(state: State, options: Options, host: HostRecord) -> bool:
    """Return whether options allow a host. A predicate that raises allows nothing, and is said to."""
    hosts, labels, locality = options.hosts, options.labels, options.locality
    if labels is not None and any(host.labels.get(name) != value for name, value in labels.items()):
        return False
    if locality is not None and locality.get(host.name, 0) < 0:
        return False
    if not callable(hosts):
        return hosts is None or host.name in hosts
    state.has_predicates = True
    try:
        verdict: Any = hosts(host.view)
        if hasattr(verdict, "__await__"):
            verdict.close()
            raise TypeError("it is async, and nobody can wait for it here: give a plain function")  # noqa: TRY301 - it is said below
        return bool(verdict)
    except BaseException as raised:
        interrupt(state, raised)
        log.exception("the predicate in options(hosts=) failed for host %s, which is taken as not allowed", host.name)
        return False


def may_come(state: State, options: Options) -> bool:
    """Return whether a host that options allow may be there later, by itself: a predicate may say so of one that is up."""
    if state.hosts_may_come:
        return True
    return callable(options.hosts) and any(not (host.is_up or host.leaving) and host.failed is None for host in state.hosts.values())


def ask_again(state: State) -> None:
    """A host came up, or went down: predicates may say something else of it."""
    if state.has_predicates:
        sort_anew(state)


def sort_anew(state: State) -> None:
    """Hosts came or went: sort what waits into lanes again, in the order in which it was submitted."""
    state.layout = object()
    lanes = state.all_lanes() if len(state.hosts) <= 2 else state.lanes.values()  # where there is one host only, none is avoided
    waiting = [task for lane in lanes for task in lane.queue.take_all()]
    state.lanes.clear()
    for task in sorted(waiting, key=lambda task: (task._queued, task._id), reverse=True):
        queue_of(state, task).push_front(task)


def drop_empty(state: State) -> None:
    """Forget lanes in which nothing waits."""
    for key in [key for key, lane in state.lanes.items() if not lane.queue]:
        del state.lanes[key]


def describe(options: Options) -> str:
    """Return what options say of hosts, as it was written."""
    said = {"hosts": options.hosts, "labels": options.labels, "locality": options.locality}
    return ", ".join(f"{name}={list(value) if isinstance(value, tuple) else value!r}" for name, value in said.items() if value is not None)
