"""One look at a far host: whether it can be reached, what it is, and whether a slot comes up there.

Guarantees
    It goes the way that a pool goes, so what it finds is what a pool would get, in the same words. Nothing stays behind, here or there.

How it works
    Dial, wait for WELCOME, ping, have one slot begin, and close. The clock there is compared with ours in the middle of the quickest ping.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from .._wire.records import Record
from ..config import Settings
from .base import Death, Reports
from .building import build_far
from .far import FarLink
from .far_host import CONNECT_SECONDS, FarHost

PINGS = 5
"""The quickest counts: the first ones meet an agent that is still busy with its start."""
CLOSE_SECONDS = 3.0
"""How long an agent may take to say that all is dead there."""
CLOCK_SECONDS = 2.0
"""A clock that is further off than this is not well: files would seem to come from the future."""


class HostCheck(Record):
    """What was found. What is not known is None."""

    host: str
    well: bool
    reachable: bool
    verdict: str
    """"ok", or what is wrong and what to do."""
    latency: float | None = None
    """Seconds of the quickest of a few round trips, through SSH and the agent."""
    python: str | None = None
    executable: str | None = None
    cpus: int | None = None
    """CPUs that may be used there."""
    slots: int | None = None
    """What a pool would have there at the most."""
    memory: int | None = None
    """Bytes."""
    memory_available: int | None = None
    load: float | None = None
    """Processes that could run, over the last minute."""
    clock_ahead: float | None = None
    """Seconds that the clock there is ahead of ours, to half the latency."""
    boot_id: str | None = None


class _Heard:
    """What the host told: as much of `Reports` as a look has use for."""

    def __init__(self) -> None:
        self.reason = ""
        self.notice = ""
        self.slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when a slot came up, or will not."""

    def host_failed(self, host: str, reason: str) -> None:
        self.reason = self.reason or reason
        self._decided()

    def far_unreachable(self, host: str, reason: str) -> None:
        self.reason = self.reason or reason

    def slot_up(self, host: str, index: int, incarnation: int, pid: int) -> None:
        self._decided()

    def slot_died(self, host: str, death: Death) -> None:
        self.notice = death.detail or self.notice

    def noticed(self, host: str, text: str) -> None:
        self.notice = text

    def wrote(self, host: str, stream: int, text: bytes) -> None:
        self.notice = text.decode(errors="replace").strip().rpartition("\n")[2] or self.notice

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Let the rest of `Reports` be said."""
        return lambda *_: None

    def _decided(self) -> None:
        if not self.slot.done():
            self.slot.set_result(None)


async def check(host: Any, seconds: float = CONNECT_SECONDS, settings: Settings | None = None) -> HostCheck:
    """Return what is found of a host as `Pool(hosts=...)` takes it, within so many seconds and those it takes to close.

    settings: those of the pool that it is for, such as what it preloads. Raises nothing that the host can cause. If cancelled: the
    connection is closed, and nothing is alive there.
    """
    try:
        made = cast("FarHost", build_far(host, settings or Settings(), seed=0))
    except ValueError as error:  # an address that is none
        return HostCheck(host=host.name, well=False, reachable=False, verdict=str(error))
    heard = _Heard()
    made.attach(cast("Reports", heard))
    link: FarLink | None = None
    latency: float | None = None
    try:
        async with asyncio.timeout(seconds):
            link = await made._dial()
            if link is not None:
                latency = await _try(link, heard)
    except TimeoutError:
        began = "; it was reached, but no slot came up" if link is not None else ""
        heard.reason = heard.reason or f"no answer within {seconds:g} s{began}"
    finally:
        if link is not None:
            await _close(link)
    return _judge(made, heard, link, latency)


async def _try(link: FarLink, heard: _Heard) -> float | None:
    """Have a slot begin and ping meanwhile; return the quickest round trip."""
    link.want(1)
    best: float | None = None
    for _ in range(PINGS):
        answered = link.ping()
        await _either(answered, link.ended)
        if link.ended.done():
            break
        best = min(best or answered.result(), answered.result())
    await _either(heard.slot, link.ended)
    if link.ended.done():
        heard.reason = heard.reason or link.ended.result()
    return best


async def _either(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _close(link: FarLink) -> None:
    """End the agent, and wait until nothing of the link is left."""
    try:
        link.close()
        await asyncio.wait([link.ended], timeout=CLOSE_SECONDS)
    finally:
        link.end("it was only looked at")
        await asyncio.wait([link.ended])


def _judge(made: FarHost, heard: _Heard, link: FarLink | None, latency: float | None) -> HostCheck:
    if link is None or not link.facts:
        return HostCheck(host=made.name, well=False, reachable=made.reached, verdict=heard.reason or "it does not answer")
    facts, ahead = link.facts, link.clock_ahead
    verdict = heard.reason
    if verdict and heard.notice:
        verdict += f" ({heard.notice})"
    elif not verdict and abs(ahead) > CLOCK_SECONDS:
        verdict = f"its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}: set it there or here (NTP)"
    names = ("slots", "python", "executable", "cpus", "memory", "memory_available", "load", "boot_id")
    known = {key: facts.get(key) for key in names}
    return HostCheck(
        host=made.name, well=not verdict, reachable=True, verdict=verdict or "ok", latency=latency, clock_ahead=ahead, **known
    )  # fmt: skip


__all__ = ["HostCheck", "check"]
