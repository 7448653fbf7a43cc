"""What slots that the controller feeds itself tell, on its way into the state machine: the near half of `_hosts/base.Reports`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic as _clock
from typing import TYPE_CHECKING

from .._hosts.base import Death, Host
from .._jobs.task import Attempt
from .._wire.memory import Buffer
from .._wire.messages import OK, STATUS
from ..events import Event, TaskProgressed
from ..status import FAILED
from .far_news import FarNews
from .stimuli import Missed, SlotDied, SlotUp

if TYPE_CHECKING:
    from .state import State

log = logging.getLogger("aioparallel")


class NearNews(FarNews):
    """Makes stimuli of reports, and hands on what the state machine need not know."""

    hosts: dict[str, Host]
    state: State
    epoch: float
    notes: list[str]
    _publish: Callable[[Event], None]

    def part(self, host: str, index: int, incarnation: int, ident: int, status: int, body: Buffer) -> None:
        """See `Reports`."""
        attempt: Attempt | None
        if self.hosts[host].far:
            attempt = self.state.backlog(host).attempts.get(ident)
            if attempt is None:
                return
        else:
            slot = self.state.slots.get((host, index))
            if slot is None or slot.incarnation != incarnation or not slot.outstanding or slot.outstanding[0].ident != ident:
                return
            attempt = slot.outstanding[0]
            if attempt.since is None:
                attempt.since = slot.heard
            slot.heard = _clock()
        if status & STATUS != OK:
            self.state.endings.history.fail(attempt.task, attempt, FAILED, "", _clock())
        attempt.task._sink.part(attempt, status & STATUS, body)

    def progressed(self, host: str, ident: int, done: float, total: float) -> None:
        """See `Reports`."""
        if self.state.races is not None and total > 0:
            self.state.races.progressed(ident, done / total)
        if self.state.watched:
            event = TaskProgressed(
                at=_clock() + self.epoch, task=ident >> 16, attempt=ident & 0xFFFF, done=done, total=total if total == total else None
            )
            self._publish(event)

    def slot_up(self, host: str, index: int, incarnation: int, pid: int) -> None:
        """See `Reports`."""
        self.feed(SlotUp(host, index, incarnation, pid))

    def slot_died(self, host: str, death: Death) -> None:
        """See `Reports`."""
        log.debug("slot %s/%d died: %s", host, death.slot, death)
        self.feed(SlotDied(host, death))

    def missed(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """See `Reports`."""
        self.feed(Missed(host, index, incarnation, ident))

    def noticed(self, host: str, text: str) -> None:
        """See `Reports`."""
        log.warning("host %s: %s", host, text)
        self.notes.append(f"{host}: {text}")


__all__ = ["NearNews"]
