"""What waits for hosts of which none is up, and when it is told so."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from aioparallel import HostLost, UsageError
from aioparallel._scheduler.stimuli import (
    Clock,
    FarUnreachable,
    FarUp,
    HostCame,
    HostDown,
    HostFailed,
    HostGone,
    NoMoreHosts,
    RemoveHost,
    Withdraw,
)
from aioparallel.testing import Simulation

GRACE = 60.0


class FarStub:
    """A far host that hears its orders and says nothing."""

    live: ClassVar[dict[int, Any]] = {}

    def launch(self, *_: Any) -> None:
        """See `Host`."""

    def close(self) -> None:
        """See `Host`."""


def pool(*names: str, local: int = 0) -> Simulation:
    sim = Simulation({"local": local} if local else {})
    sim._perform[Withdraw] = lambda _: None
    for name in names:
        add(sim, name)
    return sim


def add(sim: Simulation, name: str) -> None:
    sim.hosts[name] = FarStub()  # type: ignore[assignment]
    sim.feed(HostCame(name, 1, 1.0, {}))


def later(sim: Simulation, seconds: float) -> None:
    """Let time pass as the engine does: the clock's word comes when it was asked for."""
    end = sim.clock.now + seconds
    while sim.state.next_due <= end:
        sim.clock.now = max(sim.clock.now, sim.state.next_due)
        sim.feed(Clock())
    sim.clock.now = end


def down(sim: Simulation, name: str) -> None:
    sim.feed(HostDown(name, "the link was cut", {}))


def test_time_in_which_a_host_was_up_does_not_count() -> None:
    sim = pool("a")
    sim.feed(FarUnreachable("a", "refused"))
    task = sim.submit()
    later(sim, GRACE / 2)
    sim.feed(FarUp("a", 1, ""))
    assert task.state == "running"
    later(sim, GRACE / 3)
    down(sim, "a")
    later(sim, GRACE - 1)
    assert not task.done()
    later(sim, 1)
    with pytest.raises(HostLost, match=r"no host was up for 60 s \(a: the link was cut\)"):
        task.result()
    assert sim.state.next_due == float("inf")


def test_each_task_waits_its_own_time() -> None:
    sim = pool("a")
    tasks = [sim.submit()]
    later(sim, 10)
    tasks.append(sim.submit())
    later(sim, GRACE - 10)
    assert [task.done() for task in tasks] == [True, False]
    later(sim, 10)
    assert tasks[1].done()


def test_hosts_that_come_and_go_do_not_put_it_off() -> None:
    sim = pool("a", local=1)
    task = sim.submit(hosts=["a"])
    for number in range(5):
        name = f"other{number}"
        add(sim, name)
        sim.feed(FarUp(name, 1, ""))
        later(sim, GRACE / 5)
        down(sim, name)
        sim.feed(HostGone(name))
    with pytest.raises(HostLost, match=r"no host that these tasks may use was up for 60 s \(a: not reached yet\)"):
        task.result()


def test_tasks_that_wait_keep_no_timers() -> None:
    sim = pool("a", local=1)
    for number in range(100):
        sim.submit(hosts=["a"], selection=lambda task, hosts, number=number: None).cancel()
    assert len(sim.state._timers) == 0


def test_a_host_that_is_removed_takes_nothing_more_and_who_waits_for_it_is_told() -> None:
    sim = pool("a", "b")
    sim.feed(FarUp("a", 1, ""))
    running, waiting = sim.submit(hosts=["a"]), sim.submit(hosts=["a"])
    anywhere = sim.submit()
    sim.feed(RemoveHost("a", True))
    with pytest.raises(UsageError, match=r"options\(hosts=\['a'\]\); it has a \(which is being removed\), b"):
        waiting.result()
    assert not running.done()
    later(sim, GRACE)
    with pytest.raises(HostLost, match="no host was up for 60 s"):
        anywhere.result()


def test_the_time_runs_from_when_the_last_host_left() -> None:
    sim = pool("a", "b")
    sim.feed(FarUp("a", 1, ""))
    sim.submit()
    later(sim, 2 * GRACE)
    waiting = sim.submit()
    later(sim, 2 * GRACE)
    down(sim, "a")
    sim.feed(RemoveHost("a", False))
    sim.feed(HostGone("a"))
    later(sim, GRACE - 1)
    assert not waiting.done()
    later(sim, 1)
    assert waiting.done()


def test_who_waits_for_hosts_to_come_is_told_when_none_will() -> None:
    sim = pool(local=1)
    sim.state.hosts_may_come = True
    task = sim.submit(hosts=["x"])
    later(sim, 1)
    assert not task.done()
    sim.feed(NoMoreHosts())
    with pytest.raises(UsageError, match=r"no host of this pool is allowed by options\(hosts=\['x'\]\); it has local"):
        task.result()


def test_a_machine_of_ours_that_offers_nothing_more_is_not_waited_for() -> None:
    sim = pool("a", local=1)
    sim.submit()
    (slot,) = sim.slots()
    slot.up()
    sim.feed(HostFailed("local", "5 agents in a row were lost"))
    waiting = sim.submit()
    slot.die()
    later(sim, GRACE)
    with pytest.raises(HostLost, match=r"local: 5 agents in a row were lost; a: not reached yet"):
        waiting.result()
