"""A class that is nowhere installed."""

from __future__ import annotations

import aioparallel.config
import aioparallel.testing.simulation  # public modules can be imported far away, though they are not there
from aioparallel.policies import HostView, RoundRobin

NAMES = aioparallel.config.HostAdded, aioparallel.testing.simulation.Simulation, HostView
Policy = RoundRobin


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number
