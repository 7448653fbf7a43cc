"""Pure decisions: which host a task goes to, and when it is worth a second copy. See `Pool(selection=, backup=)` and `pool.options`.

A policy of one's own is a function of a TaskView and the hosts that may be chosen, each a HostView; it returns one of them, or None to
wait until something changes. It decides from what it is given alone.

    def nearest(task, hosts):
        return min((host for host in hosts if host.room), key=lambda host: host.round_trip, default=None)
"""

from __future__ import annotations

from .backup import Backup as Backup
from .racing import Bet as Bet, Copy as Copy, Rule as Rule, Scene as Scene, Stop as Stop
from .selection import (
    NAMED as NAMED,
    LeastLoaded as LeastLoaded,
    RoundRobin as RoundRobin,
    Selection as Selection,
    WeightedRandom as WeightedRandom,
)
from .views import Hosts as Hosts, HostView as HostView, Slots as Slots, TaskView as TaskView

__all__ = [
    "NAMED",
    "Backup",
    "Bet",
    "Copy",
    "HostView",
    "Hosts",
    "LeastLoaded",
    "RoundRobin",
    "Rule",
    "Scene",
    "Selection",
    "Slots",
    "Stop",
    "TaskView",
    "WeightedRandom",
]
