"""How attempts are said on a link: functions once, by number, and each attempt in a frame.

Guarantees
    Large payloads and out-of-band buffers are not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pickle import dumps
from struct import Struct
from typing import TYPE_CHECKING, Any

from .._jobs.shared import Named
from .._jobs.task import Attempt
from .._wire.codec import written
from .._wire.frames import HEADER, MAX_BODY, encode
from .._wire.link import framed
from .._wire.memory import Buffer
from .._wire.messages import CALL, CHUNK, DEFINE, DROP, EXTRAS, FORGET, FRESH, LENGTH, MEASURE, RUN, RUN_HEAD, pack
from .._worker.run import refuse

if TYPE_CHECKING:
    from .._wire.codec import Arguments
    from .._wire.memory import Buffers

_RUN = Struct(HEADER.format + RUN_HEAD.format.lstrip("<"))
_RUN_SIZE = RUN_HEAD.size
KNOWN_FUNCTIONS = 2048
KNOWN_BYTES = 1 << 26
"""What the other end is trusted to remember: a closure made anew for each call is a new function each time."""
MEASURED_SECONDS = 0.0005
"""Attempts expected to be shorter are not asked for their CPU time, which would cost them a tenth."""


class Encoder:
    """What was said on one link."""

    __slots__ = ("_bytes", "_known", "shared")

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        """The bytes of each function that was said, by number."""
        self._bytes = 0
        self.shared: dict[int, int] = {}
        """The bytes of each shared value that was said, by number."""

    def attempt(self, attempt: Attempt, flags: int, mode: int, deadline: float, pieces: list[Buffer]) -> None:
        """Append what says an attempt: a RUN frame, behind a DEFINE where its function was not said yet.

        flags: the frame's; mode: bits besides those that follow from the task; deadline: on the clock of the host it goes to. What
        cannot be written (there is no memory for it) is said as a call that raises why.
        """
        said = len(pieces)
        try:
            self._attempt(attempt, flags, mode, deadline, pieces)
        except Exception as error:  # noqa: BLE001 - whatever it is, this attempt alone must end in it
            function = attempt.task._function
            if len(pieces) > said and not isinstance(function, str):
                self._bytes -= self._known.pop(function.number, 0)  # its DEFINE may be among what is deleted
            del pieces[said:]
            for handle in getattr(attempt.task._payload, "shared", ()):
                self.shared.pop(handle._number, None)  # what said it may just have been deleted
            payload = dumps(((refuse, f"{type(error).__name__}: {error}"), {}))
            body = RUN_HEAD.pack(0, attempt.number, CALL, inf, inf, 0.0, 0)
            pieces.append(encode(RUN, flags, attempt.ident, body + payload))

    def _attempt(self, attempt: Attempt, flags: int, mode: int, deadline: float, pieces: list[Buffer]) -> None:
        task = attempt.task
        function = task._function
        number = 0
        if not isinstance(function, str):
            number = function.number
            if number not in self._known:
                self._define(function, pieces)
        options = task._options
        mode |= CALL if task._sink is None else CHUNK
        if attempt.estimate >= MEASURED_SECONDS:
            mode |= MEASURE
        extras = task._extras
        if extras:
            extras = LENGTH.pack(len(extras)) + extras
            mode |= EXTRAS
        payload, buffers = task._payload, task._buffers
        if type(payload) is not bytes:
            payload, buffers = self._unusual(payload, buffers, pieces)
        timeout, grace, memory = options.limits
        size = _RUN_SIZE + len(extras) + len(payload)
        if not buffers and size < MAX_BODY:
            pieces.append(_RUN.pack(RUN, flags, 0, size, attempt.ident, number, attempt.number, mode, deadline, timeout, grace, memory))
            if extras:
                pieces.append(extras)
            pieces.append(payload)
            return
        body = RUN_HEAD.pack(number, attempt.number, mode, deadline, timeout, grace, memory)
        head, buffers = framed(RUN, flags, attempt.ident, body, extras + payload if extras else payload, buffers)
        pieces.append(head)
        pieces.extend(memoryview(buffer).cast("B") for buffer in buffers)

    def _unusual(self, payload: Arguments, buffers: Buffers, pieces: list[Buffer]) -> tuple[bytes, Buffers]:
        """Return a payload and its buffers as they travel, behind what says the values that it names."""
        for handle in payload.shared if type(payload) is Named else ():
            if handle._number not in self.shared:
                self.shared[handle._number] = handle.size
                pieces += handle._region.said(handle._number)
        return written(payload, buffers)

    def drop(self, numbers: Sequence[int]) -> list[Buffer]:
        """Return what has the other end let go of shared values."""
        said = [number for number in numbers if self.shared.pop(number, None) is not None]
        return [encode(DROP, 0, 0, pack(*said))] if said else []

    def _define(self, function: Any, pieces: list[Buffer]) -> None:
        name = function.name.encode(errors="replace")[:1000]
        flags = FRESH if function.fresh else 0
        head, buffers = framed(DEFINE, flags, function.number, len(name).to_bytes(2, "little") + name, function.data)
        self._forget(len(function.data), pieces)
        self._known[function.number] = len(function.data)
        self._bytes += len(function.data)
        pieces.append(head)
        pieces.extend(buffers)

    def _forget(self, coming: int, pieces: list[Buffer]) -> None:
        """Make room for a function: have the other end forget the oldest ones, a good many at once."""
        if len(self._known) < KNOWN_FUNCTIONS and self._bytes + coming <= KNOWN_BYTES:
            return
        oldest: list[int] = []
        while self._known and (len(self._known) > KNOWN_FUNCTIONS * 3 // 4 or self._bytes + coming > KNOWN_BYTES // 2):
            number = next(iter(self._known))
            self._bytes -= self._known.pop(number)
            oldest.append(number)
        if oldest:
            pieces.append(encode(FORGET, 0, 0, pack(*oldest)))


__all__ = ["Encoder"]
