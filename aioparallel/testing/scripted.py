"""A host and its slots that do what a test says, within the contract of `_hosts/base`.

How it works
    What was sent to a slot waits there un-begun; it takes a permit, begins, finishes, and its answer is written; then the answer
    reaches the scheduler. Each of these is a step of the test's, so whatever may happen between two of them can. A recall takes back
    what waits; a dead slot's written answers arrive before the news of its death; a kill hits only the attempt it names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from .._hosts.base import Death, Host, Outcome, Reports
from .._jobs.task import Attempt
from .._wire.messages import ASKED, BY_CANCEL, BY_ITSELF, OK
from ..errors import HostError


class FakeClock:
    """CLOCK_MONOTONIC seconds that pass when told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class KillOrder(NamedTuple):
    """A kill that a slot's agent has not looked at."""

    ident: int
    grace: float


class ScriptedSlot:
    """One incarnation of a slot."""

    def __init__(self, host: ScriptedHost, index: int, incarnation: int) -> None:
        self.host = host
        self.index = index
        self.incarnation = incarnation
        self.pid = 0
        """0: it is not up."""
        self.waiting: deque[Attempt] = deque()
        """Sent and not begun, in order."""
        self.taken: Attempt | None = None
        """It took this one's permit and has not begun it."""
        self.running: Attempt | None = None
        self.patience = 0.0
        """How long its answers may wait, by the latest launch."""
        self.written: deque[tuple[Attempt, Outcome]] = deque()
        """Answers on their way."""
        self.kills: deque[KillOrder] = deque()
        self.asked: Attempt | None = None
        """The attempt that was asked to stop (a kill with grace)."""
        self.retiring = False

    @property
    def alive(self) -> bool:
        """Whether it has not died."""
        return self.host.live.get(self.index) is self

    @property
    def outstanding(self) -> list[Attempt]:
        """Return what it was sent and the scheduler has no answer to, in order."""
        now = [attempt for attempt in (self.taken, self.running) if attempt is not None]
        return [*(attempt for attempt, _ in self.written), *now, *self.waiting]

    def up(self) -> None:
        """Say that it can work."""
        self.pid = self.host.next_pid()
        self.host.reports.slot_up(self.host.name, self.index, self.incarnation, self.pid)

    def take(self) -> Attempt:
        """Take the permit of the first that waits: it cannot be recalled any more."""
        assert self.taken is self.running is None, "it takes a permit when it has nothing else to do"
        self.taken = self.waiting.popleft()
        return self.taken

    def begin(self) -> Attempt:
        """Begin the attempt whose permit it took, or the first that waits."""
        attempt = self.taken or self.take()
        self.taken, self.running = None, attempt
        self.host.begun.append(attempt)
        return attempt

    def finish(self, status: int = OK, *, seconds: float = 0.001, payload: bytes = b"") -> Outcome:
        """End the running attempt; its answer is written, and reaches the scheduler with `deliver` (or when the slot dies)."""
        attempt, self.running = self.running, None
        assert attempt is not None, "nothing runs"
        flags = status | ASKED if self.asked is attempt else status
        began = self.host.clock() - seconds
        outcome = Outcome(attempt.ident, flags, began, seconds, float("nan"), 0, payload, ())
        self.written.append((attempt, outcome))
        return outcome

    def deliver(self, count: int | None = None) -> None:
        """Let the first `count` written answers (None: all) reach the scheduler, in one read."""
        count = len(self.written) if count is None else count
        outcomes = [self.written.popleft()[1] for _ in range(count)]
        if outcomes:
            self.host.reports.answered(self.host.name, self.index, self.incarnation, outcomes)

    def answer(self, status: int = OK, *, seconds: float = 0.001, payload: bytes = b"") -> Attempt:
        """Run the next attempt from its begin to the arrival of its answer (and of those written before)."""
        attempt = self.running or self.begin()
        self.finish(status, seconds=seconds, payload=payload)
        self.deliver()
        return attempt

    def look_at_kill(self) -> str:
        """Have the agent carry out the oldest kill: "killed", "asked" (it has a grace; a kill without follows) or "missed"."""
        order = self.kills.popleft()
        if order.ident and (self.running is None or self.running.ident != order.ident):
            self.host.reports.missed(self.host.name, self.index, self.incarnation, order.ident)
            return "missed"
        if order.grace and self.asked is not self.running:
            self.asked = self.running
            self.kills.append(KillOrder(order.ident, 0.0))
            return "asked"
        self.die(signal=9, why=BY_CANCEL)
        return "killed"

    def die(self, exit_code: int | None = None, signal: int | None = None, *, why: int = BY_ITSELF, named: int | None = None) -> None:
        """Die, with all below it. `named`: the attempt that the page names, where that is not the running one."""
        self.deliver()
        if not self.alive:
            return  # the arrival of its answers ended it
        del self.host.live[self.index]
        ident = self.running.ident if self.running is not None else 0
        code = 1 if exit_code is None and signal is None else exit_code
        death = Death(self.index, self.incarnation, code, signal, ident if named is None else named, why, 0, 0, False, False)
        self.host.reports.slot_died(self.host.name, death)


class ScriptedHost(Host):
    """A host whose slots are `ScriptedSlot`s: `live` holds those that have not died, by number."""

    def __init__(self, name: str, slots: int, reports: Reports, clock: FakeClock) -> None:
        self.name = name
        self.slots = slots
        self.reports = reports
        self.clock = clock
        self.live: dict[int, ScriptedSlot] = {}
        self.begun: list[Attempt] = []
        """Every attempt that was begun, in order."""
        self.closing = False
        self.broken: str | None = None
        """Why `start` raises HostError, if it does."""
        self._last_pid = 100

    def next_pid(self) -> int:
        """Return a process id that was not used before."""
        self._last_pid += 1
        return self._last_pid

    async def start(self) -> None:
        """See `Host`; `come_up` reports that it is up."""
        if self.broken is not None:
            raise HostError(self.name, self.broken)

    def attach(self, reports: Reports) -> None:
        """See `Host`."""
        self.reports = reports

    def spawn(self, index: int, incarnation: int) -> None:
        """See `Host`."""
        assert index not in self.live, "a slot was begun in the place of a living one"
        self.live[index] = ScriptedSlot(self, index, incarnation)

    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """See `Host`."""
        if index in self.live:
            self.live[index].waiting.extend(attempts)
            self.live[index].patience = patience

    def recall(self, index: int) -> int:
        """See `Host`."""
        if index not in self.live:
            return 0
        waiting = self.live[index].waiting
        count = len(waiting)
        waiting.clear()
        return count

    def kill(self, index: int, ident: int, grace: float) -> None:
        """See `Host`; `ScriptedSlot.look_at_kill` carries it out."""
        if index in self.live:
            self.live[index].kills.append(KillOrder(ident, grace))

    def retire(self, index: int) -> None:
        """See `Host`; `ScriptedSlot.die` follows."""
        if index in self.live:
            self.live[index].retiring = True

    def close(self) -> None:
        """See `Host`; `lose` follows."""
        self.closing = True

    def abandon(self) -> None:
        """See `Host`."""
        self.live.clear()

    def come_up(self) -> None:
        """Say that its agent supervises."""
        self.reports.host_up(self.name)

    def lose(self, reason: str = "its agent ended") -> None:
        """Lose the agent, and all slots with it; answers that were written arrive first."""
        for slot in list(self.live.values()):
            slot.deliver()
        unbegun = {index: len(slot.waiting) for index, slot in self.live.items()}
        self.live.clear()
        self.reports.host_down(self.name, reason, unbegun)

    def fail(self, reason: str = "no interpreter") -> None:
        """Say that it will never offer slots again."""
        self.broken = reason
        self.reports.host_failed(self.name, reason)
