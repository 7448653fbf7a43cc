"""A host that is reached through a channel: it is dialled, lost, and dialled again, for as long as the pool lives.

Guarantees
    What cannot be reached is reported once with its reason, and tried again with growing, random pauses; so a host may join late. The
    end of a link is reported from the channel's own callbacks: it needs no asyncio task to be alive. A forked child of the program lets
    go of the connection at the fork, so that the far end hears of the program's death although the child lives on.
"""

from __future__ import annotations

import asyncio
import os
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from weakref import WeakSet

from .._jobs.task import Attempt
from ..errors import HostError
from .base import Host, Reports
from .far import FarLink
from .hello import hello, new_marker
from .ship import command
from .sources import Selection

CONNECT_SECONDS = 30.0
"""How long it may take from the first packet to the agent's WELCOME."""
OBEY_SECONDS = 1.5
"""How long an agent may take to say that everything is dead; then its successor is dialled, which kills it too."""
BURY_SECONDS = 3.0
"""How long a closing pool tries to reach a host where something may be left. With the one above less than the pool waits in all."""
PART_SECONDS = 1.0
"""How long the end of the event loop waits for a host to say that everything there is dead, where the pool was not closed."""
FIRST_PAUSE = 0.5
STEADY_SECONDS = 10.0
"""A link that is lost sooner, again and again, is tried after growing pauses, as one that cannot be had."""
LONGEST_PAUSE = 60.0


class FarHost(Host):
    """Slots at the far end of a channel; `dial` is what kinds of them differ in."""

    far = True
    reached = False
    """Whether a command could be run there, ever."""
    _generation = 0
    _link: FarLink | None = None
    _newest: FarLink | None = None
    """The link that was dialled last, welcome or not."""
    _inert = False
    """Whether this is a forked child's copy."""
    _keeper: asyncio.Task[None] | None = None
    _closing = _burying = False
    _unburied = False
    """Whether an agent was lost that had not said that everything there is dead."""

    def __init__(
        self,
        name: str,
        *,
        slots: int | None,
        seed: int,
        preload: tuple[str, ...] = (),
        python: str | None = None,
        max_tasks: int | None = None,
        heartbeat: float = 5.0,
        orphan_after: float = 60.0,
        environ: dict[str, str] | None = None,
        folder: str | None = None,
        weight: float = 1.0,
        labels: Mapping[str, str] | None = None,
        ship: tuple[str, ...] = (),
    ) -> None:
        """Raises UsageError where `ship` names what cannot travel."""
        self._selection = Selection(ship)
        self._selection.check()
        self.name = name
        self.weight = weight
        self.labels = dict(labels or {})
        self.slots = slots or 0
        names = [str.__str__(module) for module in preload]  # marshal takes no strings of other classes
        self._config = {
            "host": name, "slots": slots, "seed": seed, "preload": names, "max_tasks": max_tasks, "orphan_after": orphan_after,
            "environ": environ or {}, "folder": folder,
        }  # fmt: skip
        self._python = python
        self._heartbeat = heartbeat
        self._nonce = os.urandom(8).hex()
        self._lost = asyncio.Event()
        self._hurry = asyncio.Event()
        """Set when the pool closes."""
        _hosts.add(self)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return what is held while the host is dialled; the time that takes is counted from when it is. Raises as `dial` does."""
        return nullcontext()

    @abstractmethod
    async def dial(self, command: str, link: FarLink) -> None:
        """Run a command there and have `link.begin` take over its channel. Raises HostError with the reason in plain words."""

    async def start(self) -> None:
        """See `Host.start`: nothing is waited for."""

    def attach(self, reports: Reports) -> None:
        """See `Host.attach`."""
        self._reports = reports
        self._loop = asyncio.get_running_loop()

    async def keep_up(self) -> None:
        """Dial, and dial again. If cancelled (by the end of the loop, most likely): has everything there killed, while there is a loop."""
        self._keeper = asyncio.current_task()
        try:
            await self._keep_dialling()
        except asyncio.CancelledError:
            if self._link is not None and not self._inert:
                await self._part(self._link)
            raise
        finally:
            if self._closing:
                self.abandon()
                self._gone("closed")

    async def _part(self, link: FarLink) -> None:
        try:
            link.close()
            await asyncio.wait([link.ended], timeout=PART_SECONDS)
        finally:
            link.end("its event loop ended")
            await asyncio.wait([link.ended], timeout=PART_SECONDS)

    async def _keep_dialling(self) -> None:
        pause = 0.0
        while not self._inert and (not self._closing or self._unburied):
            link = await self._dial()
            if link is None:
                pause = max(pause, FIRST_PAUSE)
            else:
                began = self._loop.time()
                if self._closing:
                    link.close()
                await self._lost.wait()
                if self._loop.time() - began >= STEADY_SECONDS:
                    pause = 0.0
            await self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that hosts are not all tried at one moment
            pause = min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)

    async def _wait(self, seconds: float) -> None:
        """Wait before the next try; a pool that closes has less time."""
        if not seconds:
            return
        if self._closing:
            await asyncio.sleep(min(seconds, FIRST_PAUSE))
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _dial(self) -> FarLink | None:
        """Return the link once its agent has said WELCOME; None where that was not to be."""
        self._generation += 1
        self._lost.clear()
        marker = new_marker()
        config = hello(self._config, self._nonce, self._generation, self._selection)
        link = self._newest = FarLink(self.name, self._reports, config, marker, self._heartbeat, self._selection)
        try:
            async with asyncio.timeout(None) as limit:
                async with self.turn():
                    limit.reschedule(self._loop.time() + CONNECT_SECONDS)
                    await self.dial(command(self._python, f"{self._nonce}.{self._generation}", marker), link)
                reason = await self._welcome(link)
        except TimeoutError:
            reason = f"no answer within {CONNECT_SECONDS:g} s"
        except HostError as error:
            reason = error.reason
        except BaseException:
            link.end("it was not wanted any more")
            await asyncio.wait([link.ended])  # (to await it would cancel it)
            raise
        if reason is None:
            return link
        link.end(reason)
        self._reports.far_unreachable(self.name, f"{reason} ({link.noise})" if link.noise else reason)
        return None

    async def _welcome(self, link: FarLink) -> str | None:
        self.reached = True
        self._link = link
        link.ended.add_done_callback(lambda ended: self._ended(link, ended.result()))
        either: list[asyncio.Future[Any]] = [link.ended, link.welcomed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return link.ended.result() if link.ended.done() else None

    def _ended(self, link: FarLink, reason: str) -> None:
        if self._link is not link or self._inert:
            return
        self._link = None
        if link.welcomed.done():
            self._unburied = not link.buried
        if link.failed and self._keeper is not None:
            self._keeper.cancel()
        if (link.welcomed.done() or link.failed) and (self._unburied or not self._closing):
            self._reports.host_down(self.name, reason, {})
        if self._closing:
            self._bury_or_go(reason)
        self._lost.set()

    def _bury_or_go(self, reason: str) -> None:
        """The pool is closing, and there is no agent: where one was lost, its successor is still dialled for a while."""
        if not self._unburied or self._keeper is None or self._keeper.done():
            self._gone(reason)
        elif not self._burying:
            self._burying = True
            self._loop.call_later(BURY_SECONDS, self._keeper.cancel)

    def _give_up(self, link: FarLink) -> None:
        if self._link is link:
            link.end(f"it did not say within {OBEY_SECONDS:g} s that everything there is dead")

    def _gone(self, reason: str) -> None:
        """The pool is closed, and nothing more can be done here."""
        if not self.is_gone:
            self.is_gone = True
            self._reports.host_down(self.name, reason, {})

    @property
    def is_buried(self) -> bool:
        """See `Host.is_buried`."""
        return not self._unburied

    # --- orders (see `Host`); the agent binds attempts to slots, so none names one

    def spawn(self, index: int, incarnation: int) -> None:
        """See `Host.spawn`: the agent begins slots as work arrives."""
        raise NotImplementedError

    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """See `Host.launch`."""
        if self._link is not None:
            self._link.launch(attempts)

    def recall(self, index: int) -> int:
        """See `Host.recall`: what a far host gives back, it says with `withdrawn`."""
        raise NotImplementedError

    def withdraw(self, idents: Sequence[int]) -> None:
        """See `Host.withdraw`."""
        if self._link is not None:
            self._link.withdraw(idents)

    def drop(self, numbers: Sequence[int]) -> None:
        """See `Host.drop`."""
        if self._link is not None:
            self._link.drop(numbers)

    def want(self, slots: int) -> None:
        """See `Host.want`."""
        if self._link is not None:
            self._link.want(slots)

    def limit(self, slots: int) -> None:
        """See `Host.limit`."""
        if self._link is not None:
            self._link.limit(slots)

    def kill(self, index: int, ident: int, grace: float) -> None:
        """See `Host.kill`."""
        if self._link is not None:
            self._link.stop(ident, grace)

    def retire(self, index: int) -> None:
        """See `Host.retire`: the agent has its slots end."""
        raise NotImplementedError

    def close(self) -> None:
        """See `Host.close`. Where an agent was lost, or does not obey, its successor kills what that left behind."""
        self._closing = True
        self._hurry.set()
        if self._inert:
            self._loop.call_soon(self._gone, "this is a forked child's copy")
        elif self._link is not None and self._link.welcomed.done():
            self._link.close()
            self._loop.call_later(OBEY_SECONDS, self._give_up, self._link)
        elif not self._unburied and self._keeper is not None and not self._keeper.done():
            self._keeper.cancel()
        else:
            self._loop.call_soon(self._bury_or_go, "closed")

    def abandon(self) -> None:
        """See `Host.abandon`."""
        if self._link is not None:
            self._unburied = self._link.welcomed.done() and not self._link.buried
            self._link.end("the pool let go of it")

    def forked(self) -> None:
        """Become inert: this is a forked child's copy. What holds the connection open besides is for the kinds of hosts to let go of."""
        self._inert = True
        if self._newest is not None:
            self._newest.forked()


_hosts: WeakSet[FarHost] = WeakSet()


def _in_forked_child() -> None:
    for host in _hosts:
        host.forked()


os.register_at_fork(after_in_child=_in_forked_child)

__all__ = ["FarHost"]
