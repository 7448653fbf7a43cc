"""Tasks of which several copies may run: who races whom, who won, and what is told to the rules that start backups.

Guarantees
    One answer settles a task. All other copies are stopped in the same step, and are not the task's any more. A copy that dies or is lost
    costs nothing while another runs. A task that is cancelled is done when every copy is dead.

How it works
    A rule is told of each copy that begins to run and of its end. `live` holds only tasks that have more than one copy. In a task's chain
    of attempts the last is the latest, and once it is settled the one that settled it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._jobs.task import Attempt, Task
from ..policies.backup import Backup
from ..policies.racing import FINISHED, STOPPED, Copy
from ..status import RUNNING
from . import far, near
from .lanes import interrupt, policy_key

if TYPE_CHECKING:
    from ..policies.racing import Rule
    from .state import State
    from .stimuli import Action

log = logging.getLogger("aioparallel")

NEVER = float("inf")
MAX_COPIES = 3
"""Of one task, the original included, where the rule says nothing else."""


class Races:
    """The copies that run, and the rules by which there are more."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._token = object()
        """Another one whenever the rules change."""
        self.rules: dict[Any, Rule] = {}
        """By what `backup=` said."""
        self.live: dict[int, list[Attempt]] = {}
        """Of each task with several copies those that are out, by its id."""
        self.copies: dict[int, dict[int, Copy]] = {}
        """Of each task that may be raced the copies that run, by its id and theirs."""
        self.tasks: dict[int, Task[Any]] = {}
        """Those tasks."""
        self.due = NEVER
        self.launched = self.won_count = self.lost_count = 0
        self.useful = self.wasted = 0.0
        """Seconds of copies that settled a task, and of backups that did not."""

    def rule_of(self, task: Task[Any]) -> Rule | None:
        """Return the rule for a task; None: it may not be raced."""
        options = task._options
        if options.backup is None or options.idempotent is False or task._sink is not None:
            return None
        known: tuple[object, Rule | None] | None = options.__dict__.get("_rule")
        if known is None or known[0] is not self._token:
            options.__dict__["_rule"] = known = (self._token, self.rules.get(policy_key(options.backup)))
        return known[1]

    def add(self, backup: Any) -> None:
        """Have a rule for what `backup=` said."""
        key = policy_key(backup)
        if key not in self.rules:
            self._token = object()
            self.rules[key] = Backup().rule() if backup is True else backup.rule() if hasattr(backup, "rule") else _Given(backup)

    def failed(self, rule: Rule, wrong: str, raised: BaseException | None, now: float) -> None:
        """A rule has failed: say so; the built-in one takes over, and is told what runs. If it was that one, there is none."""
        key = next((key for key, known in self.rules.items() if known is rule), None)
        if key is None:
            return
        if raised is not None:
            interrupt(self._state, raised)
        log.error("the backup rule %r failed, and is asked no more: Backup() decides (%s)", key, wrong, exc_info=raised)
        self._token = object()
        built_in = Backup().rule()
        if type(rule) is type(built_in):
            del self.rules[key]
            return
        self.rules[key] = built_in
        for number, task in self.tasks.items():
            if self.rule_of(task) is built_in:
                for copy in self.copies[number].values():
                    built_in.began(copy, now)

    def begins(self, attempt: Attempt, now: float) -> None:
        """An attempt is the first of its slot, or was just given one."""
        task = attempt.task
        if task._state != RUNNING:
            return
        rule = self.rule_of(task)
        if rule is None:
            return
        copies = self.copies.setdefault(task._id, {})
        if attempt.ident in copies:
            return
        self.tasks[task._id] = task
        function = task._function
        name = function if isinstance(function, str) else function.name
        copies[attempt.ident] = copy = Copy(task._id, name, attempt.slot.host, now, number=attempt.number, cost=task._options.cost)
        try:
            rule.began(copy, now)
        except BaseException as raised:  # noqa: BLE001 - it is the user's, and is said
            self.failed(rule, "it was told that a copy began", raised, now)

    def leaves(self, attempt: Attempt, how: str, now: float, seconds: float | None = None) -> bool:
        """An attempt has ended, or will not begin: return whether another copy of its task is out."""
        self._tell(attempt, how, now, seconds)
        live = self.live.get(attempt.task._id)
        if live is None:
            return False
        if attempt in live:
            live.remove(attempt)
        if not live:
            del self.live[attempt.task._id]
        return bool(live)

    def _tell(self, attempt: Attempt, how: str, now: float, seconds: float | None) -> None:
        task = attempt.task
        copies = self.copies.get(task._id)
        copy = None if copies is None else copies.pop(attempt.ident, None)
        if not copies and copies is not None:
            del self.copies[task._id], self.tasks[task._id]
        if copy is None:
            return
        if attempt.began is None:
            attempt.began = copy.began  # one that is killed never says so itself
        if how == FINISHED:
            self.useful += now - copy.began
        elif how == STOPPED and task._state == RUNNING and attempt.is_backup:
            self.wasted += now - copy.began
        rule = self.rule_of(task)
        if rule is None:
            return
        try:
            rule.ended(copy, now, how, seconds)
        except BaseException as raised:  # noqa: BLE001 - it is the user's, and is said
            self.failed(rule, "it was told that a copy ended", raised, now)

    def decided(self, attempt: Attempt, now: float, seconds: float | None, actions: list[Action]) -> bool:
        """An attempt settles its task: stop all other copies. Return whether there were any."""
        task = attempt.task
        live = self.live.pop(task._id, None)
        self._tell(attempt, FINISHED, now, seconds)
        put_last(task, attempt)
        if live is None:
            return False
        for other in live:
            if other is not attempt:
                self._tell(other, STOPPED, now, None)
                self.stop(other, actions)
        self.won_count += attempt.is_backup
        self.lost_count += sum(other.is_backup for other in live if other is not attempt)
        return True

    def stop(self, attempt: Attempt, actions: list[Action]) -> None:
        """End a copy, wherever it is; its task is settled, or being cancelled."""
        if self._state.hosts[attempt.slot.host].backlog is not None:
            far.stop(attempt.task, attempt, actions)
        else:
            near.recall(self._state, attempt.slot, actions)

    def given_up(self, task: Task[Any], attempt: Attempt | None, now: float, actions: list[Action]) -> None:
        """A task ends with an error of ours: stop what is out of it."""
        for other in self.live.pop(task._id, ()):
            if other is not attempt:
                self._tell(other, STOPPED, now, None)
                self.stop(other, actions)
        if attempt is not None:
            self._tell(attempt, STOPPED, now, None)
            put_last(task, attempt)

    def forget(self, task: Task[Any], now: float) -> None:
        """A task ends as cancelled: what may still be out of it is stopped already."""
        for attempt in self.live.pop(task._id, ()):
            self._tell(attempt, STOPPED, now, None)
        if task._attempt is not None:
            self._tell(task._attempt, STOPPED, now, None)

    def progressed(self, ident: int, share: float) -> None:
        """An attempt said how far it is."""
        copy = self.copies.get(ident >> 16, {}).get(ident)
        if copy is not None:
            copy.progress = share

    def out(self, task: Task[Any]) -> list[Attempt]:
        """Return the attempts of a running task that are out."""
        assert task._attempt is not None
        return list(self.live.get(task._id, (task._attempt,)))


class _Given:
    """A rule of the user's, of which only `look` is asked for."""

    def __init__(self, rule: Any) -> None:
        self.look = rule.look
        self.began = getattr(rule, "began", _nothing)
        self.ended = getattr(rule, "ended", _nothing)
        self.max_copies = getattr(rule, "max_copies", MAX_COPIES)


def _nothing(*_: object) -> None:
    pass


def put_last(task: Task[Any], attempt: Attempt) -> None:
    """Make an attempt the last of its task's chain."""
    if task._attempt is not attempt:
        take_out(task, attempt)
        attempt.before, task._attempt = task._attempt, attempt


def take_out(task: Task[Any], attempt: Attempt) -> None:
    """Take an attempt out of its task's chain."""
    if task._attempt is attempt:
        task._attempt = attempt.before
        return
    later = task._attempt
    while later is not None and later.before is not attempt:
        later = later.before
    if later is not None:
        later.before = attempt.before


__all__ = ["Races", "put_last", "take_out"]
