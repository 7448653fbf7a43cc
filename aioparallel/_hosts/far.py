"""A far host: the same agent, at the end of one channel, which feeds its slots itself.

Guarantees
    Attempts and answers travel with back-pressure, in both directions; a cancel or a heartbeat never waits for more than a window of
    them. When the channel is lost, or nothing was heard for three heartbeats in which this loop turned, the host is down, and every
    attempt that was there is reported as lost with it.

How it works
    `Channel` is all that this needs of SSH. The agent's program is sent first (`ship`), then HELLO; from WELCOME on, frames of two lanes
    (`_wire/lanes.py`). Times in frames are those of the far clock; they are translated here, in both directions.
"""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from time import monotonic, time
from typing import Any

from .._jobs.shared import Named
from .._jobs.task import Attempt
from .._wire.frames import Frame, FrameError, encode
from .._wire.lanes import SLICE_BYTES, Lanes
from .._wire.link import unframed
from .._wire.memory import Buffer
from .._wire.messages import (
    BOUND,
    BURIED,
    CLOSE,
    DIED,
    ESTIMATE_SHIFT,
    ESTIMATE_ZERO,
    FAILED,
    HELLO,
    INCARNATION_BITS,
    ISOLATE,
    LIMIT,
    NEED,
    NOTICE,
    OUTCOME,
    OUTCOME_HEAD,
    OUTPUT,
    PART,
    PING,
    PONG,
    PROGRESS,
    PROGRESS_BODY,
    READY,
    STAMP,
    STOP,
    UNCONFIRMED,
    WANT,
    WELCOME,
    WITHDRAW,
    WITHDRAWN,
    pack,
    unpack,
)
from .base import Death, Outcome, Reports
from .encoder import Encoder
from .sender import Sender
from .shelf import Shelf
from .ship import first_words, why_not
from .sources import Selection

log = logging.getLogger("aioparallel")

MISSES = 3
"""So many heartbeats without a byte from there, and the host is silent."""
TURN_BYTES = 4 * SLICE_BYTES
"""So much work is written in one turn of the loop: encryption takes its time."""
MAX_NOISE = 1 << 16
MAX_SHOWN = 500
"""Bytes of what a login shell printed that a message shows."""
_OUTCOME_SIZE = OUTCOME_HEAD.size
_INCARNATION = (1 << INCARNATION_BITS) - 1


class Channel(ABC):
    """Bytes to and from the program at the far end. When nothing of it is left, it calls `FarLink.lost`, once."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send bytes, behind all that was sent; never waits."""

    @abstractmethod
    def close(self) -> None:
        """End the channel, at once; `FarLink.lost` follows."""


class FarLink:
    """The conversation with one far agent, from its start to its end."""

    def __init__(
        self, name: str, reports: Reports, config: dict[str, Any], marker: str, heartbeat: float, selection: Selection | None = None
    ) -> None:
        self.name = name
        self._reports = reports
        self._config = config
        self._marker = f"{marker} ".encode()
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._lanes = Lanes()
        self._encoder = Encoder()
        self._sender = Sender(self._lanes, self._encoder, self.launch)
        self._shelf = Shelf(selection, config["modules"])
        self._channel: Channel | None = None
        self._begun = False
        self._reason = ""
        self._noise: bytes | None = b""
        """What came before the marker; None once that has come."""
        self._inbox: deque[Frame] = deque()
        self._busy = self._flushing = self._full = False
        self._source = 0, 0
        self._offset = 0.0
        """What to add to our CLOCK_MONOTONIC to get theirs."""
        self._round_trip = math.inf
        self._pings: dict[int, tuple[float, asyncio.Future[float]]] = {}
        self._ping = 0
        self._heard = self._silent = False
        self._misses = 0
        self._ticked = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.facts: dict[str, Any] = {}
        """What the agent said of its machine: see `_worker/facts.py`."""
        self.failed = False
        """Whether the host said that it cannot offer slots: to try again will not help."""
        self.buried = False
        """Whether everything there is dead, by the agent's last word."""
        self.welcomed: asyncio.Future[None] = self._loop.create_future()
        """Done when the agent supervises."""
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Done with the reason when nothing of the channel is left."""

    # --- the channel

    def begin(self, channel: Channel) -> None:
        """Take over a channel on which the command runs."""
        self._channel = channel
        self._begun = True
        channel.write(first_words(self._config["nonce"], self._marker.decode().strip()))
        self._say(HELLO, 0, self._config)

    def received(self, data: bytes) -> None:
        """Take in what came from there."""
        if self._channel is None:
            return
        self._heard = True
        if self._silent:
            self._silent = False
            self._reports.far_silent(self.name, silent=False)
        if self._noise is not None:
            data = self._skip_noise(data)
            if not data:
                return
        try:
            self._inbox += self._lanes.feed(data)
        except FrameError as error:
            self.end(f"it does not speak our language: {error}")
            return
        try:
            self._hear()
        except BaseException as error:  # noqa: BLE001 - a channel would end by it: the loop is told instead, in its own turn
            self._loop.call_soon(_raise, error)
        self._flush_soon()

    def _skip_noise(self, data: bytes) -> bytes:
        """Return what stands behind the marker's line, once it has come."""
        noise = self._noise = (self._noise or b"") + data
        at = noise.find(self._marker)
        end = noise.find(b"\n", at)
        if at < 0 or end < 0:
            if len(noise) > MAX_NOISE:
                self.end("its login shell prints without end, and our program does not begin")
            return b""
        if at:
            log.info("host %s printed at login: %s", self.name, noise[:at].decode(errors="replace").strip())
        verdict = noise[at + len(self._marker) : end].decode(errors="replace").split()
        self._noise = None
        if verdict[:1] != ["begin"]:
            self.end(why_not(verdict))
            return b""
        return noise[end + 1 :]

    @property
    def noise(self) -> str:
        """What was printed there before our program began, if it has not begun: the end of it, in one line."""
        said = (self._noise or b"")[-MAX_SHOWN:].decode(errors="replace")
        return " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())

    @property
    def began(self) -> bool:
        """Whether our program has said its first word."""
        return self._noise is None

    def end(self, reason: str) -> None:
        """End the channel. What it still has to say is not heard."""
        self._reason = self._reason or reason
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        elif not self._begun:
            self.lost(reason)

    def lost(self, reason: str) -> None:
        """The channel has ended, and nothing of it is left."""
        self._channel = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.ended.done():
            self.ended.set_result(self._reason or reason)

    def forked(self) -> None:
        """Become inert: this is a forked child's copy, and the channel is the parent's."""
        self._channel, self._begun = None, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause(self) -> None:
        """The channel is full."""
        self._full = True

    def resume(self) -> None:
        """The channel takes more."""
        self._full = False
        self._flush_soon()

    def _say(self, kind: int, ident: int, *values: object) -> None:
        self._lanes.say(encode(kind, 0, ident, pack(*values)))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._channel is None or self._full:
            return
        self._sender.pump()
        pieces = self._lanes.take(TURN_BYTES)
        if pieces:
            self._channel.write(b"".join(pieces))
            if self._lanes.may_take or self._sender.has_more:
                self._flush_soon()

    # --- orders

    def launch(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts."""
        pieces: list[Buffer] = []
        news = self._shelf.news()
        if news is not None:
            pieces += news.frames()
        for attempt in attempts:
            if type(attempt.task._payload) is Named and self._sender.holds(attempt):
                continue
            options = attempt.task._options
            exponent = max(1, min(255, math.frexp(attempt.estimate)[1] + ESTIMATE_ZERO)) if attempt.estimate else 1
            mode = exponent << ESTIMATE_SHIFT | (ISOLATE if options.isolate else 0)
            self._encoder.attempt(attempt, 0, mode, attempt.task._deadline + self._offset, pieces)
        self._lanes.work(pieces)
        self._flush_soon()

    def stop(self, ident: int, grace: float) -> None:
        """End an attempt, wherever it is."""
        if self._sender.give_back((ident,)):
            self._reports.withdrawn(self.name, (ident,))
        else:
            self._say_about_work(STOP, ident, grace)

    def withdraw(self, idents: Sequence[int]) -> None:
        """Ask for those of these attempts back that have not begun."""
        held = self._sender.give_back(idents)
        if held:
            self._reports.withdrawn(self.name, held)
        there = [ident for ident in idents if ident not in held]
        if there:
            self._say_about_work(WITHDRAW, 0, *there)

    def _say_about_work(self, kind: int, ident: int, *values: object) -> None:
        """Say something at once, and again behind the work that has not left: what it is about may be in there."""
        self._say(kind, ident, *values)
        if self._lanes.waiting:
            self._lanes.work((encode(kind, 0, ident, pack(*values)),))

    def drop(self, numbers: Sequence[int]) -> None:
        """Let go of shared values."""
        self._sender.drop(numbers)
        self._flush_soon()

    def want(self, slots: int) -> None:
        """Have so many slots up."""
        self._say(WANT, 0, slots)

    def limit(self, slots: int) -> None:
        """Have no more slots than so many."""
        self._say(LIMIT, 0, slots)

    def close(self) -> None:
        """Kill everything there."""
        self._say(CLOSE, 0)

    # --- news

    def _hear(self) -> None:
        """Report what has arrived, in order: what a report leads to may bring more, or raise."""
        if self._busy:
            return
        self._busy = True
        inbox = self._inbox
        try:
            while inbox and self._channel is not None:
                if inbox[0][0] == OUTCOME:
                    self._reports.far_answered(self.name, *self._source, self._outcomes())
                else:
                    self._hear_other(*inbox.popleft())
        except BaseException:
            self._loop.call_soon(self._hear)
            raise
        finally:
            self._busy = False

    def _outcomes(self) -> list[Outcome]:
        """Take the outcomes that stand first."""
        outcomes: list[Outcome] = []
        inbox, offset = self._inbox, self._offset
        while inbox and inbox[0][0] == OUTCOME:
            _, flags, ident, body, buffers = inbox.popleft()
            began, seconds, cpu, peak = OUTCOME_HEAD.unpack_from(body)
            payload, buffers = (body[_OUTCOME_SIZE:], ()) if not buffers else unframed(body, _OUTCOME_SIZE, buffers)
            outcomes.append(Outcome(ident, flags, began - offset, seconds, cpu, peak, payload, buffers))
        return outcomes

    def _hear_other(self, kind: int, flags: int, ident: int, body: bytes, buffers: tuple[Any, ...]) -> None:
        reports, name = self._reports, self.name
        if kind == STAMP:
            self._source = ident >> INCARNATION_BITS, ident & _INCARNATION
        elif kind == PART:
            reports.part(name, *self._source, ident, flags, unframed(body, 0, buffers)[0])
        elif kind == PROGRESS:
            reports.progressed(name, ident, *PROGRESS_BODY.unpack(body))
        elif kind == OUTPUT:
            reports.wrote(name, flags, body)
        else:
            self._hear_agent(kind, ident, unpack(body))

    def _hear_agent(self, kind: int, ident: int, values: tuple[Any, ...]) -> None:
        reports, name = self._reports, self.name
        if kind in (DIED, UNCONFIRMED):
            index, incarnation, code, number, why, item, peak, leftovers, asked = values
            death = Death(index, incarnation, code, number, ident, why, item, peak, bool(leftovers), bool(asked), kind == DIED)
            reports.slot_died(name, death)
        elif kind == BOUND:
            index, incarnation = values
            reports.bound(name, index, incarnation, ident)
        elif kind == READY:
            reports.slot_up(name, *values)
        elif kind == WITHDRAWN:
            reports.withdrawn(name, values)
        elif kind == NEED:
            self._lanes.work(self._shelf.answer_frames(values[0]))
            self._flush_soon()
        elif kind == PONG:
            self._ponged(ident, values[0])
        elif kind == WELCOME:
            self._welcomed(values[0])
        elif kind == NOTICE:
            reports.noticed(name, values[0])
        elif kind == FAILED:
            self.failed = True
            reports.host_failed(name, values[2])
            self.close()
        elif kind == BURIED:
            self.buried = True

    def _welcomed(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._offset = facts["monotonic"] - monotonic()
        if not self.welcomed.done():
            self.welcomed.set_result(None)
        self._reports.far_up(self.name, facts["slots"], facts.get("boot_id") or "")
        self.ping()
        self._ticked = monotonic()
        self._timer = self._loop.call_later(self._heartbeat, self._tick)

    # --- the heartbeat

    def ping(self) -> asyncio.Future[float]:
        """Ask whether the host is there; return what is done with the seconds that it took, once an answer comes."""
        self._ping += 1
        answered: asyncio.Future[float] = self._loop.create_future()
        self._pings[self._ping] = monotonic(), answered
        self._say(PING, self._ping)
        return answered

    @property
    def clock_ahead(self) -> float:
        """How many seconds the host's clock is ahead of ours, to half a round trip: the offset is that of the quickest PONG."""
        return float(self.facts["clock"] - self.facts["monotonic"]) + self._offset + monotonic() - time()

    def _ponged(self, number: int, there: float) -> None:
        now = monotonic()
        asked, answered = self._pings.pop(number, (now, None))
        seconds = now - asked
        if answered is not None and not answered.done():
            answered.set_result(seconds)
        # The quickest tells most about the clocks; but those drift apart, so it need not be quite as quick as the best one.
        self._round_trip *= 1.02
        if 0.0 < seconds < self._round_trip:
            self._round_trip = seconds
            self._offset = there - (now - seconds / 2)
            self._reports.far_round_trip(self.name, seconds)

    def _tick(self) -> None:
        """Count heartbeats in which nothing came. One in which this loop did not turn says nothing about them."""
        now = monotonic()
        blocked = now - self._ticked > 1.5 * self._heartbeat
        self._ticked = now
        if self._heard:
            self._misses = 0
        elif not blocked:
            self._misses += 1
        self._heard = False
        if self._misses and not self._silent:
            self._silent = True
            self._reports.far_silent(self.name, silent=True)
        if self._misses >= MISSES:
            self.end(f"nothing was heard from it for {MISSES * self._heartbeat:g} s")
            return
        if len(self._pings) <= MISSES:
            self.ping()
        self._timer = self._loop.call_later(self._heartbeat, self._tick)


def _raise(error: BaseException) -> None:
    raise error


__all__ = ["Channel", "FarLink"]
