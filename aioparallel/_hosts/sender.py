"""Shared values on their way over one link, and the attempts that wait for them.

Guarantees
    A value crosses the link once, however many attempts name it. An attempt leaves when all it names has left. Other work waits behind
    a piece of a value or two, never behind all of it; what waits here is given back without a word to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .._jobs.shared import Named, Shared
from .._jobs.task import Attempt
from .._wire.lanes import Lanes
from .._wire.memory import Buffer
from .._worker.region import Region
from .encoder import Encoder

AHEAD_BYTES = 1 << 18
"""Pieces are put on the lane while less than this waits there: what one turn of the loop writes."""


class _Coming:
    """A value that has not left whole."""

    __slots__ = ("begun", "frames", "size")

    def __init__(self, region: Region, number: int) -> None:
        self.frames: Iterator[list[Buffer]] = region.sent(number)
        self.size = region.size
        self.begun = False


class Sender:
    """What was said of shared values on one link."""

    __slots__ = ("_coming", "_encoder", "_held", "_lanes", "_launch")

    def __init__(self, lanes: Lanes, encoder: Encoder, launch: Callable[[Sequence[Attempt]], None]) -> None:
        self._lanes = lanes
        self._encoder = encoder
        self._launch = launch
        self._coming: dict[int, _Coming] = {}
        self._held: dict[int, Attempt] = {}

    @property
    def has_more(self) -> bool:
        """Whether `pump` would put something on the lane now."""
        return bool(self._coming) and self._lanes.waiting < AHEAD_BYTES

    def holds(self, attempt: Attempt) -> bool:
        """Return whether an attempt has to wait; then it is kept here."""
        missing = self._missing(attempt)
        for handle in missing:
            if handle._number not in self._coming:
                self._coming[handle._number] = _Coming(handle._region, handle._number)
        if missing:
            self._held[attempt.ident] = attempt
        return bool(missing)

    def _missing(self, attempt: Attempt) -> list[Shared[Any]]:
        payload = attempt.task._payload
        return [one for one in payload.shared if one._number not in self._encoder.shared] if type(payload) is Named else []

    def pump(self) -> None:
        """Put the next pieces on the lane, and launch what has nothing more to wait for."""
        while self.has_more:
            number, coming = next(iter(self._coming.items()))
            coming.begun = True
            pieces = next(coming.frames, None)
            if pieces is not None:
                self._lanes.work(pieces)
                continue
            del self._coming[number]
            self._encoder.shared[number] = coming.size
            ready = [attempt for attempt in self._held.values() if not self._missing(attempt)]
            for attempt in ready:
                del self._held[attempt.ident]
            if ready:
                self._launch(ready)

    def give_back(self, idents: Iterable[int]) -> list[int]:
        """Return which of these attempts waited here; they never will leave."""
        return [ident for ident in idents if self._held.pop(ident, None) is not None]

    def drop(self, numbers: Sequence[int]) -> None:
        """Have the host let go of values, wherever they are on their way."""
        for number in numbers:
            coming = self._coming.pop(number, None)
            if coming is not None and coming.begun:
                self._encoder.shared[number] = coming.size
        self._lanes.work(self._encoder.drop(numbers))


__all__ = ["Sender"]
