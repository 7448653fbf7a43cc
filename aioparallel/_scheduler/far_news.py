"""What far hosts tell, on its way into the state machine: the far half of `_hosts/base.Reports`."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._hosts.base import Outcome
from .stimuli import Bound, FarAnswered, FarRoundTrip, FarSilent, FarUnreachable, FarUp, Withdrawn

if TYPE_CHECKING:
    from .._observe.outputs import Outputs

log = logging.getLogger("aioparallel")


class FarNews(ABC):
    """Makes stimuli of reports."""

    _up: set[str]
    _unreachable: set[str]
    outputs: Outputs | None = None

    @abstractmethod
    def feed(self, stimulus: Any) -> object:
        """Let the state machine handle a stimulus."""

    def far_up(self, host: str, slots: int, machine: str) -> None:
        """See `Reports`."""
        if host in self._unreachable:
            self._unreachable.discard(host)
            log.warning("host %s is up", host)
        self._up.add(host)
        self.feed(FarUp(host, slots, machine))

    def far_unreachable(self, host: str, reason: str) -> None:
        """See `Reports`."""
        if host not in self._unreachable:
            self._unreachable.add(host)
            log.warning("host %s cannot be reached, and is tried again: %s", host, reason)
        self.feed(FarUnreachable(host, reason))

    def far_silent(self, host: str, *, silent: bool) -> None:
        """See `Reports`."""
        self.feed(FarSilent(host, silent))

    def far_round_trip(self, host: str, seconds: float) -> None:
        """See `Reports`."""
        self.feed(FarRoundTrip(host, seconds))

    def far_answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """See `Reports`."""
        self.feed(FarAnswered(host, index, incarnation, outcomes))

    def bound(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """See `Reports`."""
        self.feed(Bound(host, index, incarnation, ident))

    def withdrawn(self, host: str, idents: Sequence[int]) -> None:
        """See `Reports`."""
        self.feed(Withdrawn(host, idents))

    def wrote(self, host: str, stream: int, text: bytes) -> None:
        """See `Reports`."""
        if self.outputs is None:
            from .._observe.outputs import Outputs

            self.outputs = Outputs()
        self.outputs.write(host, stream, text)


__all__ = ["FarNews"]
