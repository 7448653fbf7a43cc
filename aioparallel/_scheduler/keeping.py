"""The far hosts of a pool: each is kept up by a task of its own; they come and go.

Guarantees
    A host that is removed is gone only when everything it ran is dead, or it cannot be reached. What a provider of hosts does wrong is
    said, and costs nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, Any

from .._hosts.base import Host
from .._worker.facts import boot_id
from ..config import HostAdded, HostRemoved
from ..errors import PoolClosed, UsageError
from .stimuli import HostCame, HostGone, NoMoreHosts, RemoveHost

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger("aioparallel")


class Keeping:
    """What the engine does for far hosts as a whole."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._follower: asyncio.Task[None] | None = None

    def add(self, host: Host) -> None:
        """Take in one more host, and keep it up. Raises UsageError where there is one of this name, PoolClosed where all of them end."""
        engine = self._engine
        if engine.closing is not None:
            raise PoolClosed(engine.closing)
        if host.name in engine.hosts:
            raise UsageError(f"the pool has a host {host.name!r} already: remove that first, or give another name")
        engine.state.machine = engine.state.machine or boot_id()
        engine.hosts[host.name] = host
        host.attach(engine)
        engine.feed(HostCame(host.name, host.slots, host.weight, host.labels))
        self._keepers[host.name] = engine.loop.create_task(host.keep_up(), name=f"aioparallel host {host.name}")

    async def remove(self, name: str, drain: bool) -> None:
        """Use a host no more, and return when it is gone. If cancelled: it goes all the same.

        Raises UsageError for a name that the pool does not have, and for this machine's.
        """
        engine = self._engine
        host = engine.hosts.get(name)
        if host is None:
            raise UsageError(f"the pool has no host {name!r}; it has {', '.join(engine.hosts) or 'none'}")
        if not host.far:
            raise UsageError(f"host {name!r} is this machine: how many slots it has is said with local=, when the pool is made")
        engine.take_in()
        engine.feed(RemoveHost(name, drain))
        await engine.wait_until(lambda: engine.hosts.get(name) is not host or engine.ended.done())

    def went_down(self, name: str) -> None:
        """A host said that it is down: if it was to go, it is gone with that, or will say so again."""
        engine = self._engine
        record = engine.state.hosts.get(name)
        if record is not None and record.leaving and engine.hosts[name].is_gone:
            self.forget(name)

    def forget(self, name: str) -> None:
        """A host that was to go is closed, or does not answer."""
        engine = self._engine
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            keeper.cancel()
        del engine.hosts[name]
        engine.feed(HostGone(name))

    # --- providers

    def follow(self, provider: Any, make: Callable[[Any], Host]) -> None:
        """Add and remove hosts as a provider says, if it is one; `make` makes a host of what it gives."""
        if not isinstance(provider, AsyncIterable):
            return
        self._engine.state.hosts_may_come = True
        self._follower = self._engine.loop.create_task(self._follow(provider, make), name="aioparallel provider of hosts")

    async def _follow(self, provider: AsyncIterable[Any], make: Callable[[Any], Host]) -> None:
        try:
            async for change in provider:
                if self._engine.closing is not None:
                    break
                try:
                    self._change(change, make)
                except (UsageError, TypeError, ValueError) as error:
                    log.error("the provider of hosts gave %s: %s", type(change).__name__, error)  # noqa: TRY400 - it says it all
        except Exception as error:
            log.exception("the provider of hosts failed: the hosts that it gave stay")
            self._engine.notes.append(f"the provider of hosts failed ({type(error).__name__}): the hosts that it gave stay")
        finally:
            close = getattr(provider, "aclose", None)
            if close is not None:
                try:
                    await close()
                except Exception:
                    log.exception("the provider of hosts failed as it was closed")
        self._engine.feed(NoMoreHosts())

    def _change(self, change: Any, make: Callable[[Any], Host]) -> None:
        if isinstance(change, HostAdded):
            self.add(make(change.host))
        elif isinstance(change, HostRemoved):
            if change.name not in self._engine.hosts:
                raise UsageError(f"there is no host {change.name!r} to remove")
            self._engine.take_in()
            self._engine.feed(RemoveHost(change.name, change.drain))
        else:
            raise TypeError("it is neither HostAdded nor HostRemoved")

    def stop(self) -> None:
        """The pool is closed: nothing more is kept up or added."""
        for task in (*self._keepers.values(), self._follower):
            if task is not None:
                task.cancel()
