"""How attempts are said on a link: functions once, by number, and each attempt in a frame.

Guarantees
    Large payloads and out-of-band buffers are not copied.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from .._jobs.task import Attempt
from .._wire.codec import written
from .._wire.frames import HEADER, MAX_BODY, encode
from .._wire.link import framed
from .._wire.memory import Buffer
from .._wire.messages import CALL, CHUNK, DEFINE, EXTRAS, FORGET, FRESH, LENGTH, MEASURE, RUN, RUN_HEAD, pack

_RUN = Struct(HEADER.format + RUN_HEAD.format.lstrip("<"))
_RUN_SIZE = RUN_HEAD.size
KNOWN_FUNCTIONS = 2048
"""Functions that the other end is trusted to remember: a closure made anew for each call is a new function each time."""
MEASURED_SECONDS = 0.0005
"""Attempts expected to be shorter are not asked for their CPU time, which would cost them a tenth."""


class Encoder:
    """What was said on one link."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, None] = {}

    def attempt(self, attempt: Attempt, flags: int, mode: int, deadline: float, pieces: list[Buffer]) -> None:
        """Append what says an attempt: a RUN frame, behind a DEFINE where its function was not said yet.

        flags: the frame's; mode: bits besides those that follow from the task; deadline: on the clock of the host it goes to.
        """
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
        payload, buffers = written(task._payload), task._buffers
        timeout, grace, memory = options.limits
        size = _RUN_SIZE + len(extras) + len(payload)
        if not buffers and size < MAX_BODY:
            pieces.append(_RUN.pack(RUN, flags, 0, size, attempt.ident, number, attempt.number, mode, deadline, timeout, grace, memory))
            if extras:
                pieces.append(extras)
            pieces.append(payload)
            return
        body = RUN_HEAD.pack(number, attempt.number, mode, deadline, timeout, grace, memory) + extras
        head, buffers = framed(RUN, flags, attempt.ident, body, payload, buffers)
        pieces.append(head)
        pieces.extend(memoryview(buffer).cast("B") for buffer in buffers)

    def _define(self, function: Any, pieces: list[Buffer]) -> None:
        if len(self._known) >= KNOWN_FUNCTIONS:
            oldest = [number for number, _ in zip(self._known, range(KNOWN_FUNCTIONS // 4), strict=False)]
            for number in oldest:
                del self._known[number]
            pieces.append(encode(FORGET, 0, 0, pack(*oldest)))
        self._known[function.number] = None
        name = function.name.encode()[:1000]
        flags = FRESH if function.fresh else 0
        head, buffers = framed(DEFINE, flags, function.number, len(name).to_bytes(2, "little") + name, function.data)
        pieces.append(head)
        pieces.extend(buffers)


__all__ = ["Encoder"]
