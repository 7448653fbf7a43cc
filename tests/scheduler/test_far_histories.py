"""Random histories of near and far hosts, with restrictions, policies, and hosts that come and go. All of `test_histories` holds here too.

After every step
    What is believed to be on a far host is what was sent there and not heard of again, in that order, and its load is the sum of that.
    A host that leaves gets nothing new, and is closed as soon as nothing is there. One that said it will not offer slots gets nothing.
    A task goes to no host that its options do not allow, and to one where it failed only when no other that is allowed is up.
    No wake-up is lost: whoever can begin now, began, unless a policy chose to wait; then a look at it is due. What waits for hosts of
    which none is up has its clock running; what waits for hosts that there are not was told so.
    A far host was told of every cancel, and of every deadline that passed. No cancel waits for the end of an agent that has a successor.
In the end
    Every task is settled when every host answers; when far hosts are lost and `lost_grace` passes; and when the pool is closed.

`HISTORIES=20000 pytest tests/scheduler/test_far_histories.py` looks longer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import initialize, precondition, rule

from aioparallel._jobs.task import Attempt, Task
from aioparallel._scheduler.host_record import HostRecord
from aioparallel._scheduler.lanes import may_come
from aioparallel._scheduler.stimuli import Launch, NoMoreHosts, Submitted
from aioparallel._wire.messages import BY_CANCEL, BY_DEADLINE, BY_ITSELF, BY_MEMORY, BY_TIMEOUT, OK
from aioparallel.policies import HostView, LeastLoaded, RoundRobin, TaskView, WeightedRandom
from aioparallel.status import DIED, FAILED, LOST, OUT_OF_MEMORY, RUNNING, STOPPING, TIMED_OUT
from aioparallel.testing import ScriptedFarHost, ScriptedFarSlot, Simulation

from .calls import CALLS
from .test_histories import ENDS, SECONDS, Histories, Sink, Wishes, which

LAYOUTS: list[tuple[dict[str, int], dict[str, int]]] = [
    ({"near": 1}, {"x": 1}),
    ({"near": 2}, {"x": 2, "y": 1}),
    ({"near": 1}, {"x": 1, "y": 1, "z": 3}),
    ({}, {"x": 1}),
    ({}, {"x": 2, "y": 1}),
    ({}, {"x": 1, "y": 2, "z": 1}),
    ({}, {}),
]
WEIGHTS = {"x": 0.5, "y": 2.0}
LABELS = {"x": {"gpu": "yes"}, "z": {"gpu": "yes", "disk": "big"}}
PLACES: list[dict[str, Any]] = [
    {"hosts": ("x",)},
    {"hosts": ("x", "y")},
    {"hosts": ("near", "z")},
    {"hosts": lambda host: host.name != "x"},
    {"labels": {"gpu": "yes"}},
    {"locality": {"near": -1}},
    {"locality": {"y": 2, "x": -1}},
    {"selection": RoundRobin()},
    {"selection": "weighted-random", "hosts": ("near", "x", "y", "w")},
]
GRACE = 10.0
BLAMED = {FAILED, DIED, TIMED_OUT, OUT_OF_MEMORY, LOST}
STEPS = [
    "leave",
    "arrive",
    "give",
    "give",
    "up",
    "take",
    "begin",
    "finish",
    "pass on",
    "deliver",
    "look",
    "bury",
    "all arrives",
    "all comes",
]


def moody(task: TaskView, hosts: Sequence[HostView]) -> Any:
    """Do now and then all that a policy may do, and may not."""
    if task.draw < 0.1:
        raise ValueError("not today")
    if task.draw < 0.3:
        return None
    if task.draw < 0.4:
        return "x"
    if task.draw < 0.6:
        return hosts[-1]
    return next((host for host in hosts if host.room), None)


POLICIES = [None, None, LeastLoaded(), RoundRobin(), WeightedRandom(), "least-loaded", moody]


class Checked(Simulation):
    """It looks at every launch."""

    def launch(self, action: Launch) -> None:
        hosts = self.state.hosts
        assert not hosts[action.host].leaving
        assert action.host in self.hosts or hosts[action.host].failed is None
        for attempt in action.attempts:
            assert allows(attempt.task, hosts[action.host])
            if action.host in blamed(attempt.task) and attempt.task._options.retry.avoid_host:
                others = [host for host in hosts.values() if host.name not in blamed(attempt.task)]
                assert not any(allows(attempt.task, host) and serves(host) for host in others)
        super().launch(action)


def allows(task: Task[Any], host: HostRecord) -> bool:
    options = task._options
    names = options.hosts
    by_name = names is None or (names(host.view) if callable(names) else host.name in names)
    return bool(by_name) and {**host.labels, **(options.labels or {})} == host.labels and (options.locality or {}).get(host.name, 0) >= 0


def blamed(task: Task[Any]) -> set[str]:
    names, attempt = set(), task._attempt
    while attempt is not None:
        names |= {attempt.slot.host} if attempt.outcome in BLAMED else set()
        attempt = attempt.before
    return names


def serves(host: HostRecord) -> bool:
    """Return whether a host runs what it is sent now."""
    if host.backlog is not None:
        return host.backlog.width > 0 and host.failed is None and not host.leaving
    return not host.down and (host.failed is None or any(slot.serves for slot in host.near_slots()))


class FarHistories(Histories):
    """See the module."""

    @initialize(
        layout=st.sampled_from(LAYOUTS),
        limit=st.sampled_from([None, None, None, 2]),
        policy=st.sampled_from(POLICIES),
        ending=st.sampled_from(["answer", "answer", "lost", "close"]),
        hopeless=st.sampled_from([False, False, False, True]),
        may_come=st.booleans(),
        up=st.sampled_from([True, True, False]),
        watched=st.booleans(),
    )
    def begin(
        self, layout: Any, limit: int | None, policy: Any, ending: str, hopeless: bool, may_come: bool, up: bool, watched: bool
    ) -> None:
        near, far = layout
        self.sim = Checked(
            near, far=far, weights=WEIGHTS, labels=LABELS, selection=policy, lost_grace=GRACE, max_tasks_per_slot=limit, watched=watched
        )
        self.sim.state.hosts_may_come = may_come
        self.limit, self.watched, self.ending, self.hopeless = limit, watched, ending, hopeless
        self.tasks: list[Task[Any]] = []
        self.asked_at: dict[Task[Any], float] = {}
        self.delivered: list[Any] = []
        self.ever = list(self.sim.far.values())
        """Every far host that there was."""
        self.steps = 0
        self.rule = Wishes()
        for host in self.ever if up else ():
            host.come_up()
        self.submit({}, {}, "f", 8, False)

    # --- users

    @rule(
        call=st.sampled_from(CALLS),
        place=st.one_of(st.just({}), st.sampled_from(PLACES)),
        function=st.sampled_from("fffgh"),
        count=st.sampled_from([1, 1, 2, 3, 5, 8, 25]),
        chunk=st.sampled_from([False, False, True]),
    )
    def submit(self, call: dict[str, Any], place: dict[str, Any], function: str, count: int, chunk: bool) -> None:
        sink = Sink() if chunk and "isolate" not in call else None
        self._submit(count, function, sink, {**call, **place})

    # --- far slots, their agents and links

    def _up(self, number: int) -> ScriptedFarHost | None:
        """Return a host that is up, if there is one; rather one that has something to do."""
        hosts = [host for host in self.sim.far.values() if host.is_up]
        hosts = [host for host in hosts if host.out or host.news or host.answers] or hosts
        return hosts[number % len(hosts)] if hosts else None

    def _far_slot(self, number: int, *, running: bool = False) -> ScriptedFarSlot | None:
        slots = [slot for slot in self.sim.far_slots() if slot.alive and (slot.running or not running)]
        return slots[number % len(slots)] if slots else None

    @precondition(lambda self: self._up(0))
    @rule(number=which, step=st.sampled_from(STEPS), count=st.integers(1, 4))
    def far_step(self, number: int, step: str, count: int) -> None:
        """Let something move on."""
        self._far_step(self._up(number), number, step, count)

    def _far_step(self, host: Any, number: int, step: str, count: int) -> None:
        slots = [slot for slot in host.live.values() if slot.outstanding or slot.unconfirmed] or list(host.live.values())
        if step in ("leave", "arrive", "pass on", "deliver"):
            getattr(host, step.replace(" ", "_"))(count)
        elif step == "give":
            host.give(number % host.slots, count)
        elif step == "all arrives":
            self._all_arrives(host)
        elif step == "all comes":
            host.pass_on()
            host.deliver()
        elif slots:
            self._slot_step(slots[number % len(slots)], step)

    def _all_arrives(self, host: ScriptedFarHost) -> None:
        host.leave()
        host.arrive()
        for index in range(host.slots):
            host.give(index, 2)

    def _slot_step(self, slot: ScriptedFarSlot, step: str) -> None:
        if step == "bury" and slot.unconfirmed:
            slot.bury()
        if not slot.alive:
            return
        if step == "up" and not slot.pid:
            slot.up()
        elif step == "take" and slot.outstanding and slot.taken is None and slot.pid:
            slot.take()
        elif step == "begin" and slot.outstanding and slot.running is None:
            self._begin_far(slot)
        elif step == "finish" and slot.running is not None:
            self._finish_far(slot, OK)
        elif step == "look" and slot.killing is not None:
            slot.look_at_kill()

    def _begin_far(self, slot: ScriptedFarSlot) -> None:
        if not slot.pid:
            slot.up()
        slot.begin()

    def _finish_far(self, slot: ScriptedFarSlot, status: int) -> None:
        assert slot.running is not None
        slot.finish(status, seconds=SECONDS[slot.running.task.name], payload=b"%d" % slot.running.ident)
        if slot.exclusive:
            slot.die(exit_code=0)

    @precondition(lambda self: self._up(0))
    @rule(
        number=which,
        status=st.sampled_from(ENDS),
        count=st.sampled_from([0, 1, 1, 2, 4]),
        then=st.sampled_from(["deliver", "begin", "keep"]),
    )
    def far_work(self, number: int, status: int, count: int, then: str) -> None:
        """Let the slots of a far host end some attempts; their answers arrive at once, or later."""
        host = self._up(number)
        assert host is not None
        self._all_arrives(host)
        for slot in [slot for slot in host.live.values() if slot.outstanding][-1 - number % 3 :]:
            for _ in range(count):
                if slot.alive and slot.outstanding:
                    self._slot_step(slot, "begin")
                    self._finish_far(slot, status)
        if then != "keep":
            host.pass_on()
            host.deliver()
        if then == "begin":
            self._all_arrives(host)
            for slot in list(host.live.values()):
                self._slot_step(slot, "begin")

    @precondition(lambda self: self._far_slot(0))
    @rule(number=which, signal=st.booleans(), why=st.sampled_from([BY_ITSELF, BY_TIMEOUT, BY_DEADLINE, BY_MEMORY]), confirmed=st.booleans())
    def far_die(self, number: int, signal: bool, why: int, confirmed: bool) -> None:
        """Let a far slot die; not `confirmed`: it was killed, and may live."""
        slot = self._far_slot(number, running=number % 3 > 0) or self._far_slot(number)
        assert slot is not None
        options = slot.running.task._options if slot.running is not None else None
        if options is None or (why == BY_TIMEOUT and options.timeout is None) or (why == BY_MEMORY and options.memory is None):
            why = BY_ITSELF
        elif why == BY_DEADLINE and slot.running is not None and slot.running.task._deadline > self.sim.clock.now:
            why = BY_ITSELF
        killed = slot.running is not None and slot.killing is slot.taken
        why = BY_CANCEL if killed else why
        slot.die(None if signal else 3, 11 if signal else None, why=why, confirmed=confirmed or why == BY_ITSELF)

    @precondition(lambda self: self._up(0))
    @rule(number=which, skip=st.integers(0, 3), then=st.lists(st.sampled_from([*STEPS, "pause"]), max_size=5))
    def far_interrupt(self, number: int, skip: int, then: list[str]) -> None:
        """Cancel what a far host has while that goes on."""
        host = self._up(number)
        assert host is not None
        slot = self._far_slot(number, running=True) if skip % 2 else None
        if slot is not None:
            host = slot.host
        for attempt in list(host.out.values())[skip : skip + 1] if slot is None else [slot.outstanding[0].attempt]:
            if not attempt.task.done():
                attempt.task.cancel()
                self.asked_at.setdefault(attempt.task, self.sim.clock.now)
        for step in then:
            if step == "pause":
                self.sim.advance(0.002)
            elif host.is_up:
                self._far_step(host, number, step, 1)
        if host.is_up and number % 3 == 0:
            self._all_arrives(host)
            self._far_step(host, number, "look", 1)
        elif host.is_up and number % 3 == 1:
            host.lose()

    # --- far hosts

    @precondition(lambda self: self.sim.far)
    @rule(number=which, what=st.sampled_from(["up", "up", "up", "lose", "lose", "unreachable", "round trip", "round trip", "fail"]))
    def far_host(self, number: int, what: str) -> None:
        host = list(self.sim.far.values())[number % len(self.sim.far)]
        failed, closing = self.sim.state.hosts[host.name].failed is not None, self.sim.state.closing is not None
        if what == "up" and not host.is_up and not failed and not closing:
            host.come_up()
        elif what == "lose" and (host.is_up or host.closing):
            host.lose(gone=number % 3 > 0)
        elif what == "unreachable" and not host.is_up:
            self.sim.far_unreachable(host.name, "no route")
        elif what == "round trip" and host.is_up:
            self.sim.far_round_trip(host.name, (0.0005, 0.03, 0.3)[number % 3])
        elif what == "fail" and host.is_up and self.hopeless and self.steps > 20:
            host.fail()

    @precondition(lambda self: self.steps % 3 == 1 and self.sim.state.closing is None)
    @rule(number=which, what=st.sampled_from(["add", "add and up", "drain", "remove"]))
    def come_or_go(self, number: int, what: str) -> None:
        sim = self.sim
        name = "wxyz"[number % 4]
        if what in ("drain", "remove"):
            if name in sim.far:
                sim.remove_host(name, drain=what == "drain")
        elif name not in sim.far:
            host = sim.add_host(name, 1 + number % 2, weight=WEIGHTS.get(name, 1.0), labels=LABELS.get(name))
            self.ever.append(host)
            if what == "add and up":
                host.come_up()

    @precondition(lambda self: self.steps > 10 and self.sim.state.hosts_may_come)
    @rule()
    def no_more_will_come(self) -> None:
        self.sim.feed(NoMoreHosts())

    # --- what holds

    def _slots_are_as_believed(self) -> None:
        super()._slots_are_as_believed()
        assert {name for name, record in self.sim.state.hosts.items() if record.backlog is not None} == set(self.sim.far)
        for name, host in self.sim.far.items():
            record = self.sim.state.hosts[name]
            backlog = record.backlog
            assert backlog is not None
            assert list(backlog.attempts.items()) == list(host.out.items())
            assert abs(backlog.load - sum(attempt.estimate for attempt in host.out.values())) < 1e-9
            assert record.down is not host.is_up
            assert record.down or not record.limbo
            assert backlog.width == (host.slots if host.is_up else 0)
            assert all(attempt.slot.host == name for attempt in host.out.values())
            if record.leaving and not host.out:
                assert host.closing

    def _out(self) -> list[Attempt]:
        return super()._out() + [attempt for host in self.sim.far.values() for attempt in host.out.values()]

    def _begun(self) -> list[Attempt]:
        return super()._begun() + [attempt for host in self.ever for attempt in host.begun]

    def _no_wake_up_is_lost(self) -> None:
        state, now = self.sim.state, self.sim.clock.now
        if state.next_due <= now or state.closing is not None:
            return
        chosen: set[Task[Any]] = set()
        """What waits because a policy said so."""
        for lane in state.all_lanes():
            head = lane.queue.head()
            if head is None:
                continue
            hosts = [host for host in state.hosts.values() if allows(head, host)]
            may_serve = [host for host in hosts if serves(host) or (host.backlog is None and host.failed is None)]
            assert may_serve or state.alone_due <= now + GRACE
            assert lane.isolated or not hosts or any(host.failed is None or serves(host) for host in hosts)
            assert any(not host.leaving for host in hosts) or lane.allowed is None or may_come(state, head._options)
            if lane.asked == head.id and lane.look_due > now:
                assert state.next_due <= lane.look_due
                chosen |= {task for task in lane.queue._tasks if not task.done()}
        full: set[Any] = {slot.key for slot in state.slots.values() if slot.outstanding}
        full |= {(name, -1) for name, host in self.sim.far.items() if len(host.out) >= host.slots}
        for action in self.sim.feed(Submitted([])):
            if isinstance(action, Launch):
                assert (action.host, action.slot) in full or chosen.issuperset(attempt.task for attempt in action.attempts)
            else:
                assert type(action).__name__ == "Emit" or (type(action).__name__ in ("Spawn", "Retire") and chosen)

    def _cancelling_is_pursued(self) -> None:
        super()._cancelling_is_pursued()
        for host in self.sim.far.values():
            for ident, attempt in host.out.items():
                if attempt.task._state == STOPPING:
                    assert ident in host.stopped
                elif self.sim.state.next_due > self.sim.clock.now and attempt.task._state == RUNNING:
                    assert attempt.task._deadline > self.sim.clock.now or ident in host.called_back

    # --- the end

    def _lose_all(self) -> None:
        super()._lose_all()
        for host in list(self.sim.far.values()):
            if host.is_up or host.closing:
                host.lose()

    def _let_all_answer(self) -> None:
        super()._let_all_answer()
        for host in list(self.sim.far.values()):
            failed = self.sim.state.hosts[host.name].failed is not None
            if host.closing or ((failed or self.ending == "lost") and host.is_up):
                host.lose()
            elif not host.is_up and not failed and self.ending == "answer":
                host.come_up()
            if host.is_up:
                self._let_host_answer(host)

    def _let_host_answer(self, host: ScriptedFarHost) -> None:
        self._all_arrives(host)
        for slot in list(host.live.values()):
            self._slot_step(slot, "bury")
            for step in ("up", "begin", "look", "look", "finish"):
                self._slot_step(slot, step)
            if slot.alive and not slot.outstanding and slot.launched and host.queue:
                slot.die(exit_code=0)  # what waits may need a fresh one
        host.pass_on()
        host.deliver()


TestFarHistories = FarHistories.TestCase
TestFarHistories.settings = settings(
    max_examples=int(os.environ.get("HISTORIES", "300")),
    stateful_step_count=60,
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
