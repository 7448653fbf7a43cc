"""Random histories into the scheduler. Whatever users, slots, hosts and time do, within what `_hosts/base` allows them, this holds.

After every step
    No slot is double-booked: what the scheduler believes to be on a slot is what is there, in that order; no attempt and no task is on
    two slots; an isolated task's slot ran nothing else; no slot ran more than `max_tasks_per_slot`.
    No host has more slots than it offers, and none while it is down.
    Every task that is not settled is in exactly one place: the queue, one slot, or the limbo of a lost host.
    No task is settled twice; none that was asked to be cancelled is settled otherwise (`Simulation` checks both).
    No answer is taken but the one that the slot gave which was asked, for the attempt that was asked.
    No task begins more often than its retries and its losses allow; one with `idempotent=False` begins once.
    A task that waits out a delay is in no queue, and the clock rings for it, before its deadline.
    The counts agree: what is unfinished, what waits, what is on each slot.
    No wake-up is lost: whoever can begin now, began.
    Being cancelled is pursued: a task that is to die never waits in a slot, and while it runs there a kill is under way; after five
    seconds it is settled in any case. What is past its deadline waits nowhere.
In the end
    When every slot answers, or when the pool is closed, every task is settled, and each has one TaskEnded.

`HISTORIES=20000 pytest tests/scheduler/test_histories.py` looks longer. Under `CI` the histories are the same in every run, so that a red
run is the change's doing; elsewhere they are new each time, and a failing one is kept (and printed as a program, with its blob).
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aioparallel._hosts.base import Death, Outcome
from aioparallel._jobs.task import Attempt, Task
from aioparallel._scheduler.slots import AGAIN_SECONDS
from aioparallel._scheduler.state import CONFIRM_SECONDS
from aioparallel._scheduler.stimuli import CancelAsked, Launch, Submitted, Wanted
from aioparallel._wire.messages import BY_DEADLINE, BY_ITSELF, BY_MEMORY, BY_TIMEOUT, OK, OUT_OF_MEMORY, RAISED
from aioparallel.events import TaskEnded, TaskSubmitted
from aioparallel.policies.racing import Bet, Copy, Scene, Stop
from aioparallel.status import LOST, QUEUED, RUNNING, STOPPING
from aioparallel.testing import ScriptedSlot, Simulation

from .calls import CALLS

LAYOUTS = [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 1, "b": 2}]
PAUSES = [0.0005, 0.002, 0.002, 0.005, 0.03, 0.3, 1.1, 6.0, 100.0]
ENDS = [OK, OK, OK, RAISED, OUT_OF_MEMORY]
SECONDS = {"f": 0.0001, "g": 0.001, "h": 0.05}
"""How long each function runs."""
LARGE = bytes(100_000)
BOGUS = b"nobody asked for this"
which = st.integers(0, 11)


class Wishes:
    """A rule for backups that wishes for what it is told to."""

    max_copies = 3

    def __init__(self) -> None:
        self.wishes: list[Bet | Stop] = []
        self.running: set[tuple[int, int]] = set()
        self.launched: Counter[int] = Counter()

    def look(self, scene: Scene) -> tuple[list[Bet | Stop], float]:
        assert self.running == {(copy.task, copy.number) for copies in scene.running() for copy in copies}
        assert all(len({copy.number for copy in copies}) == len(copies) <= self.max_copies for copies in scene.running())
        wishes, self.wishes = self.wishes, []
        return wishes, float("inf")

    def began(self, copy: Copy, now: float) -> None:
        assert (copy.task, copy.number) not in self.running
        self.running.add((copy.task, copy.number))

    def ended(self, copy: Copy, now: float, how: str, seconds: float | None = None) -> None:
        self.running.remove((copy.task, copy.number))


class Sink:
    """The sink of a chunk, as far as the scheduler sees it."""

    estimate = 0.0005


class Histories(RuleBasedStateMachine):
    """See the module."""

    @initialize(
        layout=st.sampled_from(LAYOUTS),
        limit=st.sampled_from([None, None, 1, 2, 3]),
        watched=st.booleans(),
        ending=st.sampled_from(["answer", "answer", "close"]),
        hopeless=st.sampled_from([False, False, False, False, True]),
    )
    def begin(self, layout: dict[str, int], limit: int | None, watched: bool, ending: str, hopeless: bool) -> None:
        self.sim = Simulation(layout, max_tasks_per_slot=limit, watched=watched)
        self.limit = limit
        self.watched = watched
        self.ending = ending
        self.hopeless = hopeless
        """Whether a host may fail for good."""
        self.tasks: list[Task[Any]] = []
        self.asked_at: dict[Task[Any], float] = {}
        self.delivered: list[tuple[ScriptedSlot, Outcome]] = []
        self.steps = 0
        self.rule = Wishes()
        self.submit({}, "f", 8, False)

    # --- users

    @rule(
        call=st.sampled_from(CALLS), function=st.sampled_from("fffgh"), count=st.integers(1, 8), chunk=st.sampled_from([False, False, True])
    )
    def submit(self, call: dict[str, Any], function: str, count: int, chunk: bool) -> None:
        sink = Sink() if chunk and "isolate" not in call else None
        self._submit(count, function, sink, call)

    def _submit(self, count: int, function: str, sink: Any, options: dict[str, Any]) -> None:
        if "backup" in options:
            options = {**options, "backup": self.rule}
        tasks = [self.sim.task(function, sink=sink, payload=LARGE if n == 6 else b"", **options) for n in range(count)]
        self.tasks += tasks
        self.sim.feed(Submitted(list(tasks)))

    @precondition(lambda self: self.rule.running)
    @rule(number=which)
    def give_up(self, number: int) -> None:
        """Wish for the end of a copy."""
        copies = sorted(self.rule.running)
        self.rule.wishes = [Stop(*copies[number % len(copies)], "enough")]
        self.sim.feed(Submitted([]))
        self.rule.wishes = []

    @precondition(lambda self: self.rule.running)
    @rule(number=which, times=st.integers(1, 3), host=st.sampled_from([None, None, "a", "b", "x"]))
    def back_up(self, number: int, times: int, host: str | None) -> None:
        """Wish for a copy of what runs."""
        ids = sorted({task for task, _ in self.rule.running})
        chosen = ids[number % len(ids)]
        host = host if host in self.sim.state.hosts else None
        for _ in range(times):
            before = {attempt.ident for attempt in self._out()}
            self.rule.wishes = [Bet(chosen, host)] if any(task == chosen for task, _ in self.rule.running) else []
            self.sim.feed(Submitted([]))
            self.rule.wishes = []
            new = [attempt for attempt in self._out() if attempt.ident not in before and attempt.is_backup]
            self.rule.launched.update(attempt.task.id for attempt in new)

    @precondition(lambda self: self.sim.state.unfinished())
    @rule(number=which, whom=st.sampled_from(["anybody", "running", "waiting there", "both"]), again=st.booleans())
    def cancel(self, number: int, whom: str, again: bool) -> None:
        slots = self.sim.slots()
        if whom == "anybody":
            found = [task for task in self.tasks if not task.done()]
        elif whom == "running":
            found = [slot.running.task for slot in slots if slot.running is not None]
        else:
            found = [attempt.task for slot in slots for attempt in slot.outstanding[whom != "both" :]]
        for task in [found[number % len(found)]] * (2 if again else 1) if found else []:
            assert task.cancel() or task in self.sim.settled
            self.asked_at.setdefault(task, self.sim.clock.now)

    @precondition(lambda self: self.steps % 4 == 1)
    @rule(slots=st.integers(1, 3), close=st.sampled_from([False, False, False, True]))
    def want_or_close(self, slots: int, close: bool) -> None:
        if close and self.steps > 40:
            self.sim.close()
        else:
            self.sim.feed(Wanted(slots))

    # --- slots

    def _slot(self, number: int, *, laden: bool = False) -> ScriptedSlot:
        slots = [slot for slot in self.sim.slots() if slot.outstanding or not laden]
        return slots[number % len(slots)]

    def _is_any_laden(self) -> bool:
        return any(slot.outstanding for slot in self.sim.slots())

    @precondition(lambda self: self.sim.slots())
    @rule(number=which, step=st.sampled_from(["up", "take", "begin", "begin", "finish", "deliver", "look", "look", "retire"]))
    def step(self, number: int, step: str) -> None:
        """Let a slot or its agent take one step, if it can."""
        self._step(self._slot(number), step)

    def _step(self, slot: ScriptedSlot, step: str) -> None:
        if step == "up" and not slot.pid:
            slot.up()
        elif step in ("take", "begin"):
            self._begin(slot, step)
        elif step == "finish" and slot.running is not None:
            self._finish(slot, OK)
        elif step == "deliver" and slot.written:
            slot.deliver(1)
        elif step == "look" and slot.kills:
            slot.look_at_kill()
        elif step == "retire" and slot.retiring:
            slot.die(exit_code=0)

    @precondition(_is_any_laden)
    @rule(number=which, status=st.sampled_from(ENDS), count=st.integers(1, 4), then=st.sampled_from(["deliver", "begin", "keep"]))
    def work(self, number: int, status: int, count: int, then: str) -> None:
        """Let a slot end some attempts; their answers arrive at once, in one piece, or later."""
        slot = self._slot(number, laden=True)
        for _ in range(count):
            if slot.running is None:
                self._begin(slot, "begin")
            if slot.running is not None:
                self._finish(slot, status)
        if then == "begin":
            self._begin(slot, "begin")
        elif then == "deliver":
            slot.deliver()

    def _begin(self, slot: ScriptedSlot, step: str) -> None:
        if not slot.pid:
            slot.up()
        if slot.running is None and step == "begin" and (slot.taken or slot.waiting):
            slot.begin()
        elif slot.running is None and slot.taken is None and slot.waiting:
            slot.take()

    def _finish(self, slot: ScriptedSlot, status: int) -> None:
        assert slot.running is not None
        seconds = SECONDS[slot.running.task.name]
        outcome = slot.finish(status, seconds=seconds, payload=b"%d" % slot.running.ident)
        self.delivered = [*self.delivered[-9:], (slot, outcome)]

    @precondition(lambda self: self.sim.slots())
    @rule(number=which, signal=st.booleans(), why=st.sampled_from([BY_ITSELF, BY_TIMEOUT, BY_DEADLINE, BY_MEMORY]), late=st.booleans())
    def die(self, number: int, signal: bool, why: int, late: bool) -> None:
        """Let a slot die; `late`: before it wiped its page of an attempt whose answer it had written."""
        slot = self._slot(number)
        if not slot.pid and number % 4:
            slot.up()  # five that die as they start, in a row, are the end of their host
        running = slot.running.task if slot.running is not None else None
        if (
            running is None
            or (why == BY_TIMEOUT and running._options.timeout is None)
            or (why == BY_MEMORY and running._options.memory is None)
        ):
            why = BY_ITSELF
        if running is not None and why == BY_DEADLINE and running._deadline > self.sim.clock.now:
            why = BY_ITSELF
        named = slot.written[-1][0].ident if late and running is None and slot.written else None
        slot.die(None if signal else 3, 11 if signal else None, why=why, named=named)

    @precondition(_is_any_laden)
    @rule(
        number=which,
        which_task=st.integers(0, 2),
        then=st.lists(st.sampled_from(["begin", "finish", "deliver", "look", "pause"]), max_size=4),
    )
    def interrupt(self, number: int, which_task: int, then: list[str]) -> None:
        """Cancel what a slot has while that goes on."""
        slot = self._slot(number, laden=True)
        if number % 2:
            self._begin(slot, "begin")
        for attempt in slot.outstanding[which_task : which_task + 1]:
            attempt.task.cancel()
            self.asked_at.setdefault(attempt.task, self.sim.clock.now)
        for step in then:
            if not slot.alive:
                break
            if step == "pause":
                self.sim.advance(0.002)
            else:
                self._step(slot, step)

    # --- what nobody asked for

    @precondition(lambda self: self.sim.slots())
    @rule(number=which, other=which, what=st.sampled_from(["again", "again", "dead", "another", "behind", "missed", "cancel"]))
    def disturb(self, number: int, other: int, what: str) -> None:
        """Say what is not, or not any more."""
        slot = self._slot(number)
        name, index, incarnation = slot.host.name, slot.index, slot.incarnation
        if what == "again" and self.delivered:
            slot, outcome = self.delivered[number % len(self.delivered)]
            if not any(outcome is written for _, written in slot.written):
                self.sim.answered(slot.host.name, slot.index, slot.incarnation, [outcome._replace(payload=BOGUS)])
        elif what == "dead" and slot.outstanding:
            self._speak_as_the_dead(slot, incarnation - 1 - other % 2)
        elif what in ("another", "behind"):
            idents = [attempt.ident for attempt in (slot.outstanding[1:] if what == "behind" else self._slot(other).outstanding)]
            head = [attempt.ident for attempt in slot.outstanding[:1]]
            self.sim.answered(name, index, incarnation, [_bogus(ident) for ident in idents if ident not in head])
        elif what == "missed":
            self.sim.missed(name, index, incarnation, 12345)
        elif what == "cancel" and (asked := [task for task in self.tasks if task._asked]):
            self.sim.feed(CancelAsked(asked[other % len(asked)]))

    def _speak_as_the_dead(self, slot: ScriptedSlot, incarnation: int) -> None:
        name, index, ident = slot.host.name, slot.index, slot.outstanding[0].ident
        self.sim.answered(name, index, incarnation, [_bogus(ident)])
        self.sim.missed(name, index, incarnation, ident)
        self.sim.slot_up(name, index, incarnation, 1)
        self.sim.slot_died(name, Death(index, incarnation, 1, None, ident, BY_ITSELF, 0, 0, False, False))

    # --- hosts and time

    @precondition(lambda self: self.steps % 4 == 3 and self.sim.hosts)
    @rule(number=which, what=st.sampled_from(["lose", "up", "up", "lose", "fail"]))
    def host(self, number: int, what: str) -> None:
        names = list(self.sim.hosts)
        host = self.sim.hosts[names[number % len(names)]]
        down, closing = self.sim.state.hosts[host.name].down, self.sim.state.closing is not None
        if what == "up" and not closing:
            host.come_up()
        elif what == "lose" and not down:
            host.lose()
        elif what == "fail" and self.hopeless and self.steps > 30:
            host.fail()

    @rule(seconds=st.sampled_from(PAUSES), how=st.sampled_from(["advance", "advance", "jump", "late"]))
    def wait(self, seconds: float, how: str) -> None:
        """Let time pass; "late": and the loop has not come to look at the clock."""
        {"advance": self.sim.advance, "jump": self.sim.jump, "late": self.sim.clock.advance}[how](seconds)

    # --- what holds

    @invariant()
    def all_is_well(self) -> None:
        """One invariant and not six: a failing history is printed with each of them after each step."""
        self._slots_are_as_believed()
        self._every_task_is_in_one_place()
        self._no_task_runs_too_often()
        self._answers_come_from_who_was_asked()
        self._no_wake_up_is_lost()
        self._cancelling_is_pursued()
        self.steps += 1

    def _slots_are_as_believed(self) -> None:
        sim = self.sim
        believed = sim.state.slots
        there = {(slot.host.name, slot.index): slot for slot in sim.slots()}
        assert believed.keys() == there.keys()
        for key, slot in believed.items():
            assert slot.incarnation == there[key].incarnation
            assert list(slot.outstanding) == there[key].outstanding
            assert abs(slot.load - sum(attempt.estimate for attempt in slot.outstanding)) < 1e-9
            assert slot.pid == (there[key].pid or None)
        for name, record in sim.state.hosts.items():
            count = sum(host == name for host, _ in believed)
            assert count <= (0 if record.down else record.slots)
            assert all(0 <= index < record.slots for host, index in believed if host == name)

    def _every_task_is_in_one_place(self) -> None:
        state = self.sim.state
        places = Counter(attempt.task for attempt in self._out() if not attempt.task.done())
        for live in state.races.live.values() if state.races is not None else ():
            task = live[0].task
            assert not task.done() and places[task] == len(live) <= Wishes.max_copies and set(live) <= set(self._out())
            places[task] = 1
        places.update(task for host in state.hosts.values() for task in host.limbo if not task.done())
        for task in [task for task in places if self.rule.launched[task.id] and task._state == STOPPING]:
            lost = [attempt for attempt in task._history() if attempt.outcome == LOST]
            assert sum(task in host.limbo for host in state.hosts.values()) <= len(lost) and places[task] <= Wishes.max_copies
            places[task] = 1  # it waits for the end of each of its copies
        waiting = Counter(task for lane in state.all_lanes() for task in lane.queue._tasks if task._state == QUEUED)
        assert max([*places.values(), *waiting.values()], default=1) == 1
        delayed = state.retrying.waiting
        assert delayed.isdisjoint(waiting) and all(task._state == QUEUED and task in self.tasks for task in delayed)
        if state.next_due > self.sim.clock.now:
            assert all(self._is_put_off(task) for task in delayed)
        for task in self.tasks:
            if task.done():
                assert task not in waiting
                continue
            assert (task in waiting or task in delayed) == (task._state == QUEUED)
            assert (task in places) == (task._state in (RUNNING, STOPPING))
        for lane in state.all_lanes():
            assert len(lane.queue) == sum(state.queue_of(task) is lane.queue for task in waiting)
            assert all(task._options.isolate == lane.isolated for task in lane.queue._tasks if task._state == QUEUED)
        assert state.unfinished() == sum(not task.done() for task in self.tasks)

    def _is_put_off(self, task: Task[Any]) -> bool:
        """Return whether the clock will ring for a task that waits out a delay, in time."""
        retry, now = task._options.retry, self.sim.clock.now
        rings = [when for when, _, kind, what in self.sim.state._timers._heap if kind == "retry" and what() is task and when > now]
        return len(rings) == 1 and rings[0] < task._deadline and rings[0] - now <= retry.delay * retry.backoff ** (task._failures - 1)

    def _out(self) -> list[Attempt]:
        """Return every attempt that is believed to be somewhere."""
        return [attempt for slot in self.sim.state.slots.values() for attempt in slot.outstanding]

    def _begun(self) -> list[Attempt]:
        """Return every attempt that was begun, anywhere."""
        return [attempt for host in self.sim.hosts.values() for attempt in host.begun]

    def _no_task_runs_too_often(self) -> None:
        for task, count in Counter(attempt.task for attempt in self._begun()).items():
            allowed = 1 if task._options.idempotent is False else 1 + task._options.retries + task._losses + self.rule.launched[task.id]
            assert count <= allowed
            assert len(task._history()) <= allowed
            losses = sum(attempt.outcome == LOST for attempt in task._history())
            assert losses <= task._options.retry.infrastructure + (task._state not in (QUEUED, RUNNING)) + self.rule.launched[task.id]
        by_slot: dict[Any, list[Task[Any]]] = {}
        for attempt in (attempt for host in self.sim.hosts.values() for attempt in host.begun):
            by_slot.setdefault(id(attempt.slot), []).append(attempt.task)
        for ran in by_slot.values():
            assert self.limit is None or len(ran) <= self.limit
            assert len(ran) == 1 or not any(task._options.isolate for task in ran)

    def _answers_come_from_who_was_asked(self) -> None:
        begun = {attempt.ident for attempt in self._begun()}
        for task in self.sim.settled:
            ident, payload = self.sim.answers.get(task.id, (0, b""))
            if ident:
                assert payload == b"%d" % ident and ident in begun and ident >> 16 == task.id

    def _no_wake_up_is_lost(self) -> None:
        sim = self.sim
        if sim.state.next_due <= sim.clock.now:
            return
        deep = {slot.key for slot in sim.state.slots.values() if slot.outstanding}
        for action in sim.feed(Submitted([])):
            # A second look may send a slot more ahead (its share of what waits), and nothing else.
            assert (isinstance(action, Launch) and (action.host, action.slot) in deep) or type(action).__name__ == "Emit", action

    def _cancelling_is_pursued(self) -> None:
        sim, now = self.sim, self.sim.clock.now
        for slot in sim.slots():
            assert not any(attempt.task._state != RUNNING for attempt in slot.waiting)
            task = slot.running.task if slot.running is not None else None
            if task is not None and task._state != RUNNING:
                killing = any(order.ident == slot.running.ident for order in slot.kills)  # type: ignore[union-attr]
                assert killing or slot.written or sim.state.next_due <= now + AGAIN_SECONDS
            if sim.state.next_due > now:
                assert all(attempt.task._deadline > now for attempt in slot.waiting)
        if sim.state.next_due > now:
            assert not any(task._state == QUEUED and task._deadline <= now for task in self.tasks)
            assert all(task.done() for task, asked in self.asked_at.items() if asked + task._options.grace + CONFIRM_SECONDS <= now)

    # --- the end

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None or not hasattr(self, "sim"):
            return
        sim = self.sim
        sim.advance(2 * CONFIRM_SECONDS)
        assert not any(task._state == STOPPING for task in self.tasks)
        if sim.state.closing is None:
            self._let_everything_end()
        sim.close()
        self._lose_all()
        assert all(task.done() for task in self.tasks)
        assert not sim.state.unfinished() and not sim.state.slots
        assert sim.state.races is None or not (sim.state.races.live or sim.state.races.copies or self.rule.running)
        endings = sim.state.endings
        assert endings.succeeded + endings.failed_count + endings.cancelled_count == len(self.tasks) == len(sim.settled)
        assert endings.cancelled_count == sum(task.cancelled() for task in self.tasks)
        if self.watched:
            assert sorted(event.task for event in sim.recorder.of(TaskEnded)) == sorted(task.id for task in self.tasks)
            assert len(sim.recorder.of(TaskSubmitted)) == len(self.tasks)

    def _lose_all(self) -> None:
        for host in self.sim.hosts.values():
            if not self.sim.state.hosts[host.name].down:
                host.lose()

    def _let_everything_end(self) -> None:
        sim = self.sim
        if self.ending == "close":
            return
        for _ in range(500):
            if not sim.state.unfinished():
                return
            self._let_all_answer()
            sim.advance(0.3)
        raise AssertionError(f"never settled: {[task for task in self.tasks if not task.done()]}")

    def _let_all_answer(self) -> None:
        for host in self.sim.hosts.values():
            if self.sim.state.hosts[host.name].down:
                host.come_up()
        for slot in self.sim.slots():
            self._let_answer(slot)

    def _let_answer(self, slot: ScriptedSlot) -> None:
        if not slot.pid:
            slot.up()
        while slot.alive and slot.kills:
            slot.look_at_kill()
        if slot.alive and slot.running is None and (slot.taken or slot.waiting):
            slot.begin()
        if slot.alive and slot.running is not None:
            self._finish(slot, OK)
        slot.deliver()
        if slot.alive and slot.retiring:
            slot.die(exit_code=0)


def _bogus(ident: int) -> Outcome:
    return Outcome(ident, OK, 0.0, 0.0, 0.0, 0, BOGUS, ())


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(os.environ.get("HISTORIES", "300")),
    stateful_step_count=60,
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
