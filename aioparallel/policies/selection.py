"""Which host a task goes to.

Every policy is given the hosts that are up and allowed; those where the task failed before only when no other is left, and none that
`options(locality=)` forbids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._wire.records import Record
from .views import HostView, TaskView

__all__ = ["LeastLoaded", "RoundRobin", "Selection", "WeightedRandom"]

Selection = Callable[[TaskView, Sequence[HostView]], "HostView | None"]
"""What a policy is: it returns one of the hosts, or None: wait until something changes."""


class LeastLoaded(Record):
    """Where it is expected to end first: the wait there, and its own time by the host's weight. The default.

    A host that is busy and fast may be better than one that is free and slow; but a task that waited for as long as the slow one would
    have taken goes there. (That bounds the loss to a factor of two, as for renting or buying skis: Karlin et al., Competitive snoopy
    caching, 1988.) A function never seen goes wherever there is room.
    """

    def __call__(self, task: TaskView, hosts: Sequence[HostView]) -> HostView | None:
        """Return the best host; one without room is worth waiting for."""
        locality = task.locality

        def finish(host: HostView) -> tuple[int, float]:
            return -locality.get(host.name, 0), host.wait + task.estimate / host.weight

        best = min(hosts, key=finish)
        if best.room:
            return best
        open_hosts = [host for host in hosts if host.room]
        if not open_hosts:
            return None
        second = min(open_hosts, key=finish)
        if not task.is_known or task.waited >= task.estimate / second.weight:
            return second
        return best


class WeightedRandom(Record):
    """By chance, with a probability proportional to free slots x weight; where none is free, to the weight of those with room."""

    def __call__(self, task: TaskView, hosts: Sequence[HostView]) -> HostView | None:
        """Return one of the hosts with room."""
        open_hosts = _best_placed(task, hosts)
        shares = [host.free * host.weight for host in open_hosts]
        if not any(shares):
            shares = [host.weight for host in open_hosts]
        left = task.draw * sum(shares)
        for host, share in zip(open_hosts, shares, strict=True):
            left -= share
            if left < 0:
                return host
        return open_hosts[-1] if open_hosts else None


class RoundRobin(Record):
    """One after the other, passing over those without room."""

    def __call__(self, task: TaskView, hosts: Sequence[HostView]) -> HostView | None:
        """Return the next host with room."""
        start, best = task.turn % len(hosts), _best_placed(task, hosts)
        return next((host for host in (*hosts[start:], *hosts[:start]) if host in best), None)


def _best_placed(task: TaskView, hosts: Sequence[HostView]) -> list[HostView]:
    """Return the hosts with room, of the highest locality that any of them has."""
    locality = task.locality
    open_hosts = [host for host in hosts if host.room]
    best = max((locality.get(host.name, 0) for host in open_hosts), default=0)
    return [host for host in open_hosts if locality.get(host.name, 0) == best]


NAMED: dict[str, Selection] = {"least-loaded": LeastLoaded(), "round-robin": RoundRobin(), "weighted-random": WeightedRandom()}
"""What `selection="..."` means, in a file or a variable too."""
