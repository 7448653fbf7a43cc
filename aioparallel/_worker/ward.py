"""A ward: one slot as its agent sees it, and the way it is killed.

Guarantees
    A slot is killed for an attempt only if that very attempt still runs in it: it is stopped, looked at, and let go on otherwise.
    A ward is gone only when its process and everything below it has been reaped. A signal that we may not send is no error.

How it works
    Everything is one step at a time, since the agent must never wait for one slot: `check` sends SIGSTOP; the kernel's report that the
    slot stopped leads to `look`; a kill leads to reports of deaths, until `dying` is empty.
"""

from __future__ import annotations

from _signal import SIGCONT, SIGKILL, SIGSTOP, SIGURG
from time import monotonic

from .._wire.messages import BY_CANCEL, BY_ITSELF, BY_MEMORY
from . import procs
from .page import FOREVER, Page

SAMPLE_SECONDS = 0.05
"""How often the memory of a tree under `memory=` is looked at."""
LINGER_SECONDS = 0.05
"""After the agent says that it no longer looks, it looks once more: a slot may have read its page just before."""

CONFIRM_SECONDS = 5.0
"""How long a slot and all below it may take to die before the pool is told how it ended; some cannot be killed (D state, setuid)."""

KILL_ROUNDS = 8
"""A fork that was under way when its process was frozen shows in the next round; more than a few only a fork bomb needs."""


class Check:
    """Why a slot is stopped: to be killed for this, if it still runs that attempt."""

    __slots__ = ("asked", "grace", "ident", "why")

    def __init__(self, ident: int, why: int, grace: float, asked: bool = False) -> None:
        self.ident = ident
        self.why = why
        self.grace = grace
        self.asked = asked


class Ward:
    """One slot, from its fork to the burial of its last descendant."""

    def __init__(self, index: int, incarnation: int, page: Page) -> None:
        self.index = index
        self.incarnation = incarnation
        self.page = page
        self.pid = 0
        self.check: Check | None = None
        self.killed_for: Check | None = None
        self.status: int | None = None
        self.last = (0, 0)
        """(ident, item) that ran when the slot died."""
        self.dying: set[int] = set()
        self.watch_at = 0.0
        self.ask_until: tuple[float, Check] | None = None
        self.dismissed_at = 0.0
        self.confirm_until = FOREVER
        """When it must be confirmed that all of it is dead (CLOCK_MONOTONIC seconds, inf: it lives, or no more is waited for that)."""
        page.wipe()

    def stop_for(self, check: Check) -> bool:
        """Stop the slot in order to look at it; return whether it is stopped already, so that `look` is due now.

        A check for a limit that is under way gives way to the new one: a limit will be seen again. A request to kill stays.
        """
        if self.status is not None or self.killed_for is not None:
            return False
        if self.check is not None and self.check.why == BY_CANCEL != check.why:
            return False
        self.check = check
        return self.pid != 0 and self._stop()

    def adopted(self, pid: int) -> bool:
        """Take note of the slot's process; return whether `look` is due now."""
        self.pid = pid
        return self.check is not None and self._stop()

    def _stop(self) -> bool:
        # A slot that may not be stopped is looked at as it runs; one that was stopped before (by anybody) makes no report of stopping.
        return not procs.send(self.pid, SIGSTOP) or procs.is_stopped(self.pid)

    def look(self) -> str:
        """Decide about a stopped slot. Returns "killed", "asked", "missed" or "" (nothing was to be decided)."""
        check, self.check = self.check, None
        if check is None or self.killed_for is not None:
            return ""
        ident, _, stop_at, _, _ = self.page.running()
        late = check.why in (BY_CANCEL, BY_MEMORY) or check.asked or monotonic() >= stop_at
        if check.ident and (ident != check.ident or not late):
            self._go_on()
            return "missed"
        if check.grace > 0 and not check.asked:
            self.page.asked = check.ident
            self.page.watched_until = 0.0  # nobody looks at this attempt's limit again: the next one that has a limit must knock
            procs.send(self.pid, SIGURG)
            self._go_on()
            self.ask_until = monotonic() + check.grace, Check(check.ident, check.why, 0.0, asked=True)
            return "asked"
        self.kill(check)
        return "killed"

    def _go_on(self) -> None:
        procs.send(self.pid, SIGCONT)

    def kill(self, check: Check) -> None:
        """Kill the slot and all below it, whatever it does now."""
        self.killed_for = check
        self._remember()
        for _ in range(KILL_ROUNDS):
            below = [pid for pid in procs.freeze_tree(self.pid) if pid not in self.dying]
            if not below:
                break
            self.dying.update(below)
            procs.kill_all(below)
        # What escaped even so falls to the agent when the slot is dead: it kills that then.
        procs.send(self.pid, SIGKILL)

    def died(self, status: int) -> None:
        """Take note that the slot's process was reaped."""
        self.status = status
        if self.killed_for is None:
            self._remember()

    def forget_gone(self) -> None:
        """Wait no longer for those that are gone without having been ours to reap: a parent which ignored SIGCHLD reaped them."""
        self.dying = {pid for pid in self.dying if procs.state(pid) is not None}

    def _remember(self) -> None:
        ident = self.page.running()[0]
        self.last = ident, int(self.page.item)
        self.confirm_until = monotonic() + CONFIRM_SECONDS

    @property
    def why(self) -> int:
        """What ended the slot: BY_ITSELF, or why the agent killed it."""
        return BY_ITSELF if self.killed_for is None else self.killed_for.why

    def next_look(self, now: float) -> float:
        """Return when to look at this ward again by ourselves (inf: never), and tell the slot so."""
        ident, _, stop_at, memory, _ = self.page.running()
        due = min(stop_at, now + SAMPLE_SECONDS if memory else FOREVER) if ident and not self._asked(ident) else FOREVER
        if due == FOREVER and self.page.watched_until:
            self.page.watched_until = 0.0
            due = now + LINGER_SECONDS
        elif due != FOREVER:
            self.page.watched_until = due
        self.watch_at = due
        return due

    def _asked(self, ident: int) -> bool:
        """Return whether the running attempt is in its grace; forget about one that ended in it."""
        if self.ask_until is not None and self.ask_until[1].ident != ident:
            self.ask_until = None
        return self.ask_until is not None

    def over_limit(self, now: float) -> Check | None:
        """Return a check if the running attempt is past one of its limits."""
        ident, _, stop_at, memory, baseline = self.page.running()
        if not ident or self._asked(ident):
            return None
        if now >= stop_at:
            return Check(ident, int(self.page.which), float(self.page.grace))
        if memory:
            held = procs.tree_memory([self.pid, *procs.descendants(self.pid)]) - baseline
            if held > self.page.peak:
                self.page.peak = held
            if held > memory:
                return Check(ident, BY_MEMORY, 0.0)
        return None
