"""A far host, with its agent and the link to it, that does what a test says, within the contract of `_hosts/base`.

How it works
    Each direction of the link has two lanes. Work (attempts one way, answers the other) leaves in order, when the test says so
    (`leave`, `pass_on`); any other word leaves at once, before all work that has not. What has left arrives in order (`arrive`,
    `deliver`). The agent gives what it has to its slots (`give`), which begin and finish it as `ScriptedSlot`s do. A link that is lost
    takes everything with it that was not delivered; `come_up` makes another, with another agent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from .._hosts.base import Death, Host, Outcome, Reports
from .._jobs.task import Attempt
from .._wire.messages import ASKED, BY_CANCEL, BY_ITSELF, OK
from .scripted import FakeClock

ANNOUNCED_SECONDS = 0.0005
"""Which slot has an attempt is told only if that is expected to take longer than this (as in `_worker/feeder`)."""


class FarItem:
    """An attempt that has come to the agent."""

    __slots__ = ("attempt", "grace", "slot")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.slot: ScriptedFarSlot | None = None
        self.grace: float | None = None
        """Not None: it is to be stopped."""


class ScriptedFarSlot:
    """One incarnation of a far host's slot."""

    def __init__(self, host: ScriptedFarHost, index: int, incarnation: int) -> None:
        self.host = host
        self.index = index
        self.incarnation = incarnation
        self.pid = 0
        """0: it is not up."""
        self.outstanding: deque[FarItem] = deque()
        """What it was given and has not ended; the first may run."""
        self.taken: FarItem | None = None
        """It took this one's permit, and may have begun it."""
        self.running: Attempt | None = None
        self.killing: FarItem | None = None
        """What it is to be killed for."""
        self.asked: FarItem | None = None
        """What was asked to stop (a kill with grace)."""
        self.launched = 0
        self.exclusive = False
        self.unconfirmed = False
        """Whether it was said to be dead, and may live."""

    @property
    def alive(self) -> bool:
        """Whether it works."""
        return self.host.live.get(self.index) is self and not self.unconfirmed

    def up(self) -> None:
        """Say that it can work."""
        self.pid = self.host.next_pid()
        self.host.news.append(("up", self.index, self.incarnation, self.pid))

    def take(self) -> FarItem:
        """Take the permit of the first attempt: it cannot be taken back any more."""
        assert self.pid, "it is not up"
        assert self.taken is None, "it takes a permit when it has nothing else to do"
        self.taken = self.outstanding[0]
        return self.taken

    def begin(self) -> Attempt:
        """Begin the attempt whose permit it took, or the first."""
        item = self.taken or self.take()
        assert self.running is None, "it has begun"
        self.running = item.attempt
        self.host.begun.append(item.attempt)
        return item.attempt

    def finish(self, status: int = OK, *, seconds: float = 0.001, payload: bytes = b"") -> Outcome:
        """End the running attempt; its answer waits to leave (see `ScriptedFarHost.pass_on`)."""
        item, attempt = self.taken, self.running
        assert item is not None, "nothing runs"
        assert attempt is not None, "it has not begun"
        self.taken = self.running = None
        flags = status | ASKED if self.asked is item else status
        outcome = Outcome(attempt.ident, flags, self.host.clock() - seconds, seconds, float("nan"), 0, payload, ())
        self.outstanding.popleft()
        self.killing = self.asked = None
        del self.host.items[attempt.ident]
        self.host.answers.append(("answered", self.index, self.incarnation, outcome))
        self.host.announce(self)
        return outcome

    def look_at_kill(self) -> str:
        """Have the agent carry out its kill: "killed", "asked" (it has a grace; a kill follows) or "missed" (it is repeated)."""
        item = self.killing
        assert item is not None
        if self.running is not item.attempt:
            return "missed"
        if item.grace and self.asked is not item:
            self.asked = item
            return "asked"
        self.die(signal=9, why=BY_CANCEL)
        return "killed"

    def die(self, exit_code: int | None = None, signal: int | None = None, *, why: int = BY_ITSELF, confirmed: bool = True) -> None:
        """Die with all below it; `confirmed` False: it was killed and may live, until `bury`."""
        host, blamed = self.host, self.taken if self.running is not None else None
        others = [item for item in self.outstanding if item is not blamed]
        self.outstanding.clear()
        self.taken = self.running = self.killing = None
        if blamed is not None:
            del host.items[blamed.attempt.ident]
        host.take_back(others)
        host.give_back([item for item in others if item.grace is not None])
        code = 1 if exit_code is None and signal is None else exit_code
        ident = blamed.attempt.ident if blamed is not None else 0
        self._say_death(Death(self.index, self.incarnation, code, signal, ident, why, 0, 0, False, False, confirmed))

    def bury(self) -> None:
        """It is dead after all."""
        assert self.unconfirmed
        self._say_death(Death(self.index, self.incarnation, None, 9, 0, BY_CANCEL, 0, 0, False, False))

    def _say_death(self, death: Death) -> None:
        host = self.host
        (host.news if death.why == BY_CANCEL else host.answers).append(("died", death))
        self.unconfirmed = not death.confirmed
        if death.confirmed:
            del host.live[self.index]
            if self.pid and not self.exclusive:
                host.begin_slot(self.index)


class ScriptedFarHost(Host):
    """A far host. It is down until `come_up`; `is_up` says whether there is a link."""

    far = True

    def __init__(
        self, name: str, slots: int, reports: Reports, clock: FakeClock, *, weight: float = 1.0, labels: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.slots = slots
        self.weight = weight
        self.labels = dict(labels or {})
        self.reports = reports
        self.clock = clock
        self.is_up = False
        self.closing = False
        self.begun: list[Attempt] = []
        """Every attempt that was begun, in order."""
        self._last_pid = 100
        self._clear()

    def _clear(self) -> None:
        self.waiting: deque[Any] = deque()
        """Work that has not left the pool, and words about it."""
        self.sent: deque[Any] = deque()
        """What has left, and not arrived at the agent."""
        self.items: dict[int, FarItem] = {}
        """What the agent has, by ident."""
        self.queue: deque[FarItem] = deque()
        """What no slot was given yet."""
        self.live: dict[int, ScriptedFarSlot] = {}
        self.answers: deque[Any] = deque()
        """Answers (and deaths) that have not left the agent."""
        self.news: deque[Any] = deque()
        """What has left, and not arrived at the pool."""
        self.out: dict[int, Attempt] = {}
        """Attempts that the pool sent and has not heard the end of."""
        self.stopped: set[int] = set()
        self.called_back: set[int] = set()
        """Attempts that the pool asked to be stopped, or given back."""
        self.width = self.slots
        self._incarnations = [0] * self.slots

    # --- the pool's orders (see `Host`)

    async def start(self) -> None:
        """See `Host`."""

    def attach(self, reports: Reports) -> None:
        """See `Host`."""
        self.reports = reports

    def spawn(self, index: int, incarnation: int) -> None:
        """See `Host`."""
        raise NotImplementedError

    def recall(self, index: int) -> int:
        """See `Host`."""
        raise NotImplementedError

    def retire(self, index: int) -> None:
        """See `Host`."""
        raise NotImplementedError

    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """See `Host`."""
        if self.is_up:
            for attempt in attempts:  # one that was given back before may go by the same ident
                self.out[attempt.ident] = attempt
                self.stopped.discard(attempt.ident)
                self.called_back.discard(attempt.ident)
            self.waiting.extend(("run", attempt) for attempt in attempts)

    def kill(self, index: int, ident: int, grace: float) -> None:
        """See `Host`."""
        self.stopped.add(ident)
        self._say_about_work("stop", ident, grace)

    def withdraw(self, idents: Sequence[int]) -> None:
        """See `Host`."""
        self.called_back.update(idents)
        self._say_about_work("withdraw", tuple(idents))

    def want(self, slots: int) -> None:
        """See `Host`."""
        self._say("want", slots)

    def limit(self, slots: int) -> None:
        """See `Host`."""
        self._say("limit", slots)

    def close(self) -> None:
        """See `Host`; `lose` follows."""
        self.closing = True

    def abandon(self) -> None:
        """See `Host`."""
        self.is_up = False
        self._clear()

    def _say(self, *word: Any) -> None:
        if self.is_up:
            self.sent.append(word)

    def _say_about_work(self, *word: Any) -> None:
        """Say something at once, and again behind the work that has not left."""
        self._say(*word)
        if self.waiting:
            self.waiting.append(word)

    # --- the link

    def come_up(self, machine: str = "") -> None:
        """Say that its agent supervises."""
        assert not self.is_up
        self._clear()
        self.is_up = True
        self.reports.far_up(self.name, self.slots, machine)

    def lose(self, reason: str = "its link ended", *, gone: bool = True) -> None:
        """Lose the link, and all that was not delivered; with `gone`, a host that was closed has nothing more to say."""
        self.is_up = False
        self._clear()
        self.is_gone = self.closing and gone
        self.reports.host_down(self.name, reason, {})

    def fail(self, reason: str = "no interpreter") -> None:
        """Say that it will never offer slots again; `lose` follows."""
        self.reports.host_failed(self.name, reason)

    def leave(self, count: int | None = None) -> None:
        """Let work (the first `count` pieces; None: all) leave the pool."""
        for _ in range(len(self.waiting) if count is None else min(count, len(self.waiting))):
            self.sent.append(self.waiting.popleft())

    def arrive(self, count: int | None = None) -> None:
        """Let what has left the pool arrive."""
        for _ in range(len(self.sent) if count is None else min(count, len(self.sent))):
            self._obey(*self.sent.popleft())

    def pass_on(self, count: int | None = None) -> None:
        """Let answers leave the agent."""
        for _ in range(len(self.answers) if count is None else min(count, len(self.answers))):
            self.news.append(self.answers.popleft())

    def deliver(self, count: int | None = None) -> None:
        """Let what has left the agent arrive at the pool; answers of one slot that come together are taken in together."""
        left = len(self.news) if count is None else min(count, len(self.news))
        while left and self.is_up:
            kind, *values = self.news.popleft()
            left -= 1
            if kind == "answered":
                index, incarnation, outcome = values
                outcomes = [outcome]
                while left and self.news and self.news[0][:3] == (kind, index, incarnation):
                    outcomes.append(self.news.popleft()[3])
                    left -= 1
                self._hear_end(*(outcome.ident for outcome in outcomes))
                self.reports.far_answered(self.name, index, incarnation, outcomes)
            else:
                self._report(kind, *values)

    def _report(self, kind: str, *values: Any) -> None:
        if kind == "up":
            self.reports.slot_up(self.name, *values)
        elif kind == "bound":
            self.reports.bound(self.name, *values)
        elif kind == "withdrawn":
            self._hear_end(*values[0])
            self.reports.withdrawn(self.name, *values)
        else:
            self._hear_end(values[0].ident)
            self.reports.slot_died(self.name, *values)

    def _hear_end(self, *idents: int) -> None:
        for ident in idents:
            self.out.pop(ident, None)

    # --- the agent

    def next_pid(self) -> int:
        """Return a process id that was not used before."""
        self._last_pid += 1
        return self._last_pid

    def _obey(self, kind: str, *values: Any) -> None:
        if kind == "run":
            item = self.items[values[0].ident] = FarItem(values[0])
            self.queue.append(item)
        elif kind == "stop":
            self._stop(*values)
        elif kind == "withdraw":
            self._withdraw(*values)
        elif kind == "limit":
            self.width = min(self.width, *values)
        elif kind == "want":
            for index in range(min(values[0], self.width)):
                if index not in self.live:
                    self.begin_slot(index)

    def _stop(self, ident: int, grace: float) -> None:
        item = self.items.get(ident)
        if item is None or item.grace is not None:
            return
        item.grace = grace
        if item.slot is not None:
            self._take_back_from(item.slot)
        if item.slot is None:
            self.give_back([item])
        elif item.slot.outstanding[0] is item:
            item.slot.killing = item

    def _withdraw(self, idents: Sequence[int]) -> None:
        items = [item for ident in idents if (item := self.items.get(ident)) is not None]
        for item in items:
            if item.slot is not None and item.slot.outstanding[0] is not item:
                self._take_back_from(item.slot)
        self.give_back([item for item in items if item.slot is None])

    def _take_back_from(self, slot: ScriptedFarSlot) -> None:
        items = [item for item in slot.outstanding if item is not slot.taken]
        for item in items:
            slot.outstanding.remove(item)
        slot.launched -= len(items)
        slot.exclusive = slot.exclusive and slot.launched > 0
        self.take_back(items)

    def take_back(self, items: list[FarItem]) -> None:
        """Attempts that a slot has not begun wait again."""
        for item in reversed(items):
            item.slot = None
            self.queue.appendleft(item)

    def give_back(self, items: list[FarItem]) -> None:
        """Give back attempts that wait."""
        if items:
            for item in items:
                self.queue.remove(item)
                del self.items[item.attempt.ident]
            self.news.append(("withdrawn", [item.attempt.ident for item in items]))

    def begin_slot(self, index: int) -> ScriptedFarSlot:
        """Begin a slot."""
        self._incarnations[index] += 1
        slot = self.live[index] = ScriptedFarSlot(self, index, self._incarnations[index])
        return slot

    def give(self, index: int, count: int = 1) -> ScriptedFarSlot | None:
        """Give a slot, which is begun if need be, up to so many of the attempts that wait; None: it takes none."""
        slot = self.live.get(index)
        if slot is None and index < self.width and self.queue:
            slot = self.begin_slot(index)
        if slot is None or not slot.alive or slot.exclusive or (slot.outstanding and (not slot.pid or slot.killing is not None)):
            return None
        was_empty = not slot.outstanding
        alone = [item for item in self.queue if item.attempt.task._options.isolate]
        if alone and not slot.launched:
            items, slot.exclusive = alone[:1], True
        else:
            items = [item for item in self.queue if item not in alone][: count if slot.pid else 1]
        for item in items:
            self.queue.remove(item)
            item.slot = slot
        slot.outstanding.extend(items)
        slot.launched += len(items)
        if was_empty:
            self.announce(slot)
        return slot if items else None

    def announce(self, slot: ScriptedFarSlot) -> None:
        """A slot has something else to do now."""
        if slot.outstanding:
            item = slot.outstanding[0]
            if item.attempt.estimate >= ANNOUNCED_SECONDS:
                self.news.append(("bound", slot.index, slot.incarnation, item.attempt.ident))
            if item.grace is not None:
                slot.killing = item


__all__ = ["ScriptedFarHost", "ScriptedFarSlot"]
