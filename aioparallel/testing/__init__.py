"""What tests of schedulers and policies are made of: no process, no socket, no waiting; time passes when the test says so.

`Simulation` runs the real scheduler over `ScriptedHost`s, whose `ScriptedSlot`s do what the test tells them, within what a host may do.
`ScriptedFarHost`s are hosts that feed their slots themselves, at the end of a link.
`FakeClock` is its clock; `EventRecorder` collects events, of a simulation or of a real pool.

A task whose slot dies under it:

    sim = Simulation(slots=1)
    task = sim.submit(retries=1)
    (slot,) = sim.slots()
    slot.up()
    slot.begin()
    slot.die(signal=11)
    assert task.state == "running" and len(task.attempts) == 2

`VirtualCluster` runs whole batches on machines that do not exist, by the same scheduler: what a policy or a rule for backups is worth.

`SSHServer` is the exception: a real server on this machine, in a process of its own, for trying far hosts where there are none.
"""

from __future__ import annotations

from .recorder import EventRecorder as EventRecorder
from .scripted import FakeClock as FakeClock, ScriptedHost as ScriptedHost, ScriptedSlot as ScriptedSlot
from .scripted_far import ScriptedFarHost as ScriptedFarHost, ScriptedFarSlot as ScriptedFarSlot
from .servers import SSHServer as SSHServer
from .simulation import Simulation as Simulation, make_task as make_task
from .virtual import (
    VirtualCluster as VirtualCluster,
    VirtualHost as VirtualHost,
    VirtualOutcome as VirtualOutcome,
    VirtualReport as VirtualReport,
    VirtualTask as VirtualTask,
)

__all__ = [
    "EventRecorder",
    "FakeClock",
    "SSHServer",
    "ScriptedFarHost",
    "ScriptedFarSlot",
    "ScriptedHost",
    "ScriptedSlot",
    "Simulation",
    "VirtualCluster",
    "VirtualHost",
    "VirtualOutcome",
    "VirtualReport",
    "VirtualTask",
    "make_task",
]
