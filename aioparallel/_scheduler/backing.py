"""When a slot has nothing to do, rules say which running task gets a second copy there.

Guarantees
    A copy never goes to a host that runs one, unless there is only one host; never to a slot that has anything to do; never beyond the
    number of copies allowed. A rule that raises, or answers nonsense, is named in the log once, and is asked no more: `Backup()` decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from ..events import BackupStarted
from ..policies.racing import Bet, Copy, Stop
from ..status import IDLE, RUNNING, STARTING
from . import near
from .assign_far import launch as far_launch
from .backlog import Backlog
from .lanes import allowed_by, avoided
from .ledger import Slot
from .races import MAX_COPIES, Races
from .stimuli import Action, Emit

if TYPE_CHECKING:
    from .host_record import HostRecord
    from .state import State

NEVER = float("inf")


class Stage:
    """The pool as rules see it: see `policies.racing.Scene`."""

    __slots__ = ("_idle", "_state", "now")

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self.now = now
        self._idle: dict[str, int] | None = None

    @property
    def slots(self) -> int:
        """How many slots the hosts offer that are up."""
        return sum(host.width for host in self._state.hosts.values() if host.is_up)

    @property
    def queued(self) -> int:
        """How many tasks wait for a slot."""
        return sum(len(lane.queue) for lane in self._state.all_lanes())

    def idle(self) -> Mapping[str, int]:
        """Return the free slots by host, of those that are up and answer."""
        if self._idle is None:
            state, silent = self._state, self.silent()
            found = {host.name: _free(state, host) for host in state.hosts.values() if host.is_up and host.name not in silent}
            self._idle = {name: count for name, count in found.items() if count}
        return self._idle

    def taken(self, host: str) -> None:
        """A slot of a host has something to do now."""
        assert self._idle is not None
        self._idle[host] -= 1
        if not self._idle[host]:
            del self._idle[host]

    def weight(self, host: str) -> float:
        """Return how fast a slot of a host is, as declared."""
        record = self._state.hosts.get(host)
        return 1.0 if record is None else record.weight

    def silent(self) -> Collection[str]:
        """Return the hosts whose link is silent now."""
        return [host.name for host in self._state.hosts.values() if host.is_silent]

    def running(self) -> Iterable[Sequence[Copy]]:
        """Return of each running task its live copies, in order of start."""
        assert self._state.races is not None
        return [tuple(copies.values()) for copies in self._state.races.copies.values()]


def _free(state: State, host: HostRecord) -> int:
    """Return how many slots of a host have nothing to do, or could be begun."""
    if host.backlog is not None:
        return max(0, host.backlog.width - len(host.backlog.attempts))
    slots = host.near_slots()
    empty = sum(slot.state in (IDLE, STARTING) and not slot.outstanding and slot.room(state.max_tasks_per_slot) for slot in slots)
    return empty + (host.slots - len(slots) if near.free_index(state, host, state.now) is not None else 0)


def look(state: State, races: Races, now: float, actions: list[Action]) -> None:
    """Have the rules look, if there is a slot for a copy, or their time has come; do what they wish."""
    if not races.copies or state.closing is not None:
        races.due = NEVER
        return
    stage = Stage(state, now)
    if now < races.due and not stage.idle():
        return
    races.due = NEVER
    for rule in list(races.rules.values()):
        try:
            bets, due = rule.look(stage)
            bets, due = list(bets), float(due)
        except BaseException as raised:  # noqa: BLE001 - it is the user's, and is said
            races.failed(rule, "it was asked", raised, now)
            continue
        wrong = _do(state, races, stage, rule, bets, actions)
        if wrong:
            races.failed(rule, wrong, None, now)
            continue
        races.due = min(races.due, due if due > now else NEVER)


def _do(state: State, races: Races, stage: Stage, rule: Any, bets: list[Any], actions: list[Action]) -> str:
    """Do what a rule wishes; return what is wrong with that."""
    for bet in bets:
        if isinstance(bet, Stop):
            _give_up(races, bet, actions)
            continue
        wrong = _start(state, races, stage, rule, bet, actions) if isinstance(bet, Bet) else "that is no Bet"
        if wrong:
            return f"it wished for {bet!r}: {wrong}"
    return ""


def _start(state: State, races: Races, stage: Stage, rule: Any, bet: Bet, actions: list[Action]) -> str:
    """Start a copy; return what is wrong with the bet. One that came too late, or has no place, is passed over."""
    task = races.tasks.get(bet.task)
    if task is None:
        return f"task {bet.task} does not run, or may not be raced"
    if bet.host is not None and bet.host not in state.hosts:
        return f"there is no host {bet.host!r}"
    if task._state != RUNNING or task._deadline <= state.now or races.rule_of(task) is not rule:
        return ""
    out = races.out(task)
    if len(out) >= getattr(rule, "max_copies", MAX_COPIES):
        return ""
    host = _place(state, stage, task, out, bet.host)
    if host is None:
        return ""
    attempt = _launch(state, task, host, actions)
    if attempt is None:
        return ""
    attempt.is_backup = True
    races.live[task._id] = [*out, attempt]
    races.launched += 1
    stage.taken(host.name)
    races.begins(attempt, state.now)
    if state.watched:
        oldest = next(iter(races.copies[task._id].values()))
        actions.append(
            Emit(
                BackupStarted(
                    at=state.now + state.epoch, task=task._id, attempt=attempt.number, host=host.name, age=state.now - oldest.began,
                    probability=bet.probability, price=bet.price, reason=bet.reason,
                )
            )
        )  # fmt: skip
    return ""


def _give_up(races: Races, stop: Stop, actions: list[Action]) -> None:
    """Stop a copy while its task runs on in another; what has ended meanwhile is passed over."""
    out = races.live.get(stop.task, [])
    attempt = next((attempt for attempt in out if attempt.number == stop.number and not attempt.is_given_up), None)
    if attempt is None or sum(not other.is_given_up for other in out) < 2:
        return
    attempt.is_given_up = True
    races.stop(attempt, actions)


def _place(state: State, stage: Stage, task: Task[Any], out: list[Attempt], wished: str | None) -> HostRecord | None:
    """Return the host for a copy: the wished one, else the quickest; where others are up, none that runs one, or where one failed."""
    allowed = allowed_by(state, task._options) if task._options.is_placed else None
    taken = {attempt.slot.host for attempt in out}
    up = [host for host in state.hosts.values() if host.is_up and (allowed is None or host.name in allowed)]
    avoid = avoided(task)
    up = [host for host in up if host.name not in avoid] or up
    idle = stage.idle()
    free = [host for host in up if host.name in idle and (host.name not in taken or len(up) == 1)]
    if wished is not None:
        return next((host for host in free if host.name == wished), None)
    return max(free, key=lambda host: host.weight, default=None)


def _launch(state: State, task: Task[Any], host: HostRecord, actions: list[Action]) -> Attempt | None:
    estimate = state.estimate(task) / host.weight
    place: Slot | Backlog | None = host.backlog
    if place is None:
        slots = [slot for slot in host.near_slots() if not slot.outstanding and slot.room(state.max_tasks_per_slot)]
        fresh = [slot for slot in slots if not slot.launched] if task._options.isolate else slots
        place = next((slot for slot in fresh if slot.state == IDLE), fresh[0] if fresh else None)
        if place is None:
            index = near.free_index(state, host, state.now)
            if index is None:
                return None  # it is to have a slot of its own, and none can be begun
            place = near.begin(state, host, index, state.now, actions)
    task._attempt = attempt = Attempt(task, task._attempt, place, estimate)
    if isinstance(place, Backlog):
        place.add(attempt, state.now)
        far_launch(state, place, [attempt], actions)
        return attempt
    near.occupy(place, state.now)
    place.exclusive = task._options.isolate
    place.outstanding.append(attempt)
    place.load += estimate
    place.launched += 1
    near.launch(state, place, [attempt], state.now, actions)
    return attempt


__all__ = ["Stage", "look"]
