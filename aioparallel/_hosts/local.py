"""The local host: an agent on this machine, over inherited sockets.

Guarantees
    When `host_down` is reported after `close()`, every process of the host is dead. When this process ends, however it ends, the agent
    sees it and kills everything.

How it works
    What asyncio starts is a launcher that forks the agent and ends: asyncio's subprocess transport kills its child when it is
    collected, so it must not own the agent. Each slot's socket and pipes are made here and travel to the slot as descriptors, so data
    takes no extra hop.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any
from weakref import WeakSet

from .._jobs.task import Attempt
from .._wire.frames import FrameError, FrameReader, encode
from .._wire.messages import (
    BURIED,
    CLOSE,
    DIED,
    DISMISS,
    FAILED,
    HELLO,
    KILL,
    MISSED,
    NOTICE,
    PROTOCOL,
    SPAWN,
    SPAWNED,
    UNCONFIRMED,
    WELCOME,
    pack,
    unpack,
)
from .._worker.machine import temporary_folder, thread_environment, usable_cpus
from .._worker.procs import send
from .._worker.reaper import sweep
from ..errors import HostError
from .base import Death, Host, Reports, is_shortage
from .slot_link import NO_SIGNAL, SlotLink, path_entries

log = logging.getLogger("aioparallel")

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAP_SECONDS = 0.0005
"""A shorter patience is not worth its timer."""
REAP_SECONDS = 0.05
"""An agent whose link has ended is dead within this."""
RETIRE_SECONDS = 10.0
"""How long a retiring slot's `atexit` functions may take."""
_BOOT = "import sys;sys.path[:]=filter(None,sys.path);P=type(sys)('aioparallel');P.__path__=[{folder!r}];sys.modules['aioparallel']=P"
"""An empty parent package: `_worker` runs without `aioparallel/__init__`, and so without asyncio. Nothing is imported from the working
folder (`-c` puts "" on the path), where a user's file may be called like a module of Python's."""


class LocalHost(Host):
    """Slots on this machine."""

    def __init__(self, slots: int, *, name: str = "local", seed: int, preload: tuple[str, ...], python: str | None) -> None:
        self.name = name
        self.slots = slots
        self._attached = False
        self._seed = seed
        self._preload = preload
        self._python = python
        self._nonce = os.urandom(8).hex()
        self._generation = 0
        self._links: dict[int, SlotLink] = {}
        self._agent: socket.socket | None = None
        self._agent_pid = 0
        self._pending: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._scratch = os.path.join(temporary_folder(), f"aioparallel-{self._nonce}")
        self._inert = False
        self._closing = False
        self._buried = False
        _hosts.add(self)

    # --- up and down

    async def start(self) -> None:
        """Start an agent; it is up when `host_up` is reported. Raises HostError where that is impossible, from what was in the way."""
        python = self._python or sys.executable
        if not python or getattr(sys, "frozen", False):
            why = "this program has no Python interpreter of its own to start slots with: name one with Pool(python=...)"
            raise HostError(self.name, why)
        if self._closing:
            return  # the pool was closed before the lost agent had a successor
        self._generation += 1
        self._loop = asyncio.get_running_loop()
        try:
            await self._start(python)
        except BaseException as error:
            self.abandon()
            if is_shortage(error):
                raise HostError(self.name, f"this machine cannot start its agent just now: {error}") from error
            if isinstance(error, OSError):
                raise HostError(self.name, f"{python!r} could not be started: {error.strerror or error}; set Pool(python=...)") from error
            raise

    async def _start(self, python: str) -> None:
        ours, theirs = (above_standard(end) for end in socket.socketpair())
        with theirs:
            ours.setblocking(False)
            self._agent = ours
            self._reader = FrameReader()
            if self._attached:
                self._loop.add_reader(ours.fileno(), self._on_readable)
            self._tell(HELLO, 0, self._hello(python))
            await self._launch_agent(python, theirs)

    def attach(self, reports: Reports) -> None:
        """See `Host.attach`."""
        self._reports = reports
        self._attached = True
        if self._agent is not None:
            self._loop.add_reader(self._agent.fileno(), self._on_readable)

    def _hello(self, python: str) -> dict[str, Any]:
        from _frozen_importlib_external import MAGIC_NUMBER  # what importlib.util shows, without importing that

        versions = {"protocol": PROTOCOL, "implementation": sys.implementation.name, "magic": MAGIC_NUMBER, "byteorder": sys.byteorder}
        return {
            "versions": versions,
            "python": f"{sys.executable}, {sys.version.split()[0]}",
            "slots": self.slots,
            "host": self.name,
            "seed": self._seed,
            "sys_path": path_entries(),
            "preload": list(map(str.__str__, self._preload)),
            "nonce": f"{self._nonce}.",
            "own_nonce": f"{self._nonce}.{self._generation}",
            "sweep": self._generation > 1,
            "scratch": self._scratch,
            "boot": _BOOT.format(folder=_PACKAGE),
            "flags": _interpreter_flags(),
            "threads": 0,
            "far": False,
        }

    async def _launch_agent(self, python: str, theirs: socket.socket) -> None:
        boot = f"{_BOOT.format(folder=_PACKAGE)};from aioparallel._worker.launcher import main;main({theirs.fileno()},{os.getpid()})"
        environ = {**os.environ, "AIOPARALLEL_NONCE": f"{self._nonce}.{self._generation}"}
        environ |= thread_environment(usable_cpus(), self.slots, environ)
        self.launcher = await asyncio.create_subprocess_exec(
            python, *_interpreter_flags(), "-c", boot, stdin=subprocess.DEVNULL, stdout=_inherited(1, sys.__stdout__),
            stderr=_inherited(2, sys.__stderr__), pass_fds=(theirs.fileno(),), env=environ, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """Kill everything; `host_down` follows."""
        self._closing = True
        if self._inert:
            self._loop.call_soon(self._reports.host_down, self.name, "this is a forked child's copy", {})
        elif self._agent is None:
            self._loop.call_soon(self._lost)
        else:
            self._tell(CLOSE, 0)

    def forked(self) -> None:
        """Become inert: this is a forked child's copy. Its loop's selector is the parent's too, so nothing is unregistered."""
        self._inert = True
        for link in self._links.values():
            link.forked()
        self._links.clear()
        self._pending.clear()
        self._agent_pid = 0
        if self._agent is not None:
            os.close(self._agent.detach())
            self._agent = None

    def abandon(self) -> None:
        """Close our ends: the agent sees that and kills everything."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for link in self._links.values():
            link.close()
        self._links.clear()
        for _, fds in self._pending:
            for fd in fds:
                os.close(fd)
        self._pending.clear()
        if self._agent is not None:
            agent, self._agent = self._agent, None
            if not self._loop.is_closed():
                self._loop.remove_reader(agent.fileno())
                self._loop.remove_writer(agent.fileno())
            agent.close()

    def kill_agent(self) -> None:
        """Kill the agent itself: the last resort for one that does not answer; its slots die with it."""
        if self._agent is not None:
            if self._agent_pid:
                send(self._agent_pid, signal.SIGKILL)
                self._reap_agent()
            self._bury()  # which finds an agent, too, that has not said yet who it is

    def _reap_agent(self) -> None:
        """Wait for the agent where it is our own child: where this process is a sub-reaper, or the first in a container."""
        until = monotonic() + REAP_SECONDS
        try:
            while self._agent_pid and os.waitpid(self._agent_pid, os.WNOHANG) == (0, 0) and monotonic() < until:
                os.sched_yield()
        except ChildProcessError:
            pass

    def _bury(self) -> None:
        """Do what an agent that was killed has not done, and no successor will do."""
        try:
            sweep(f"{self._nonce}.")
            if os.path.exists(self._scratch):
                import shutil

                shutil.rmtree(self._scratch, ignore_errors=True)
        except (OSError, ImportError) as error:  # no descriptor is left, to look or to import with
            log.warning("host %s: what its agent left behind could not be removed: %s", self.name, error)

    # --- slots

    def spawn(self, index: int, incarnation: int) -> None:
        """Make a slot's socket and pipes, and have the agent fork a process for them."""
        link = SlotLink(self.name, index, incarnation, self._reports, self._link_ended)
        try:
            fds = link.open()
        except OSError as error:
            why = f"for want of descriptors ({error.strerror})"
            death = Death(index, incarnation, None, None, 0, 0, 0, 0, leftovers=False, asked=False, detail=why)
            self._loop.call_soon(self._reports.slot_died, self.name, death)
            return
        self._links[index] = link
        self._tell(SPAWN, 0, index, incarnation, fds=fds)

    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """See `Host.launch`."""
        link = self._links.get(index)
        if link is not None:
            link.launch(attempts)
            if patience >= NAP_SECONDS and link.nap():
                self._set_alarm(patience)

    def _wake_links(self) -> None:
        """Take in the answers of all slots that may wait, at once: each wake-up costs more than what it does."""
        self._alarm = None
        try:
            for link in [link for link in self._links.values() if link.napping]:
                link.wake_up()
        finally:  # a KeyboardInterrupt, in a hook of the user's
            if any(link.napping for link in self._links.values()):
                self._set_alarm(0.0)

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is None:
            self._alarm = self._loop.call_later(seconds, self._wake_links)

    def glance(self) -> None:
        """See `Host.glance`."""
        for link in list(self._links.values()):
            link.glance()

    def recall(self, index: int) -> int:
        """See `Host.recall`."""
        link = self._links.get(index)
        return link.recall() if link is not None else 0

    def drop(self, numbers: Sequence[int]) -> None:
        """See `Host.drop`."""
        for link in self._links.values():
            link.drop(numbers)

    def kill(self, index: int, ident: int, grace: float) -> None:
        """See `Host.kill`."""
        link = self._links.get(index)
        if link is not None and link.is_on_its_way(ident):
            self._tell(KILL, 0, index, link.incarnation, 0.0)  # it will not begin before all of it has arrived
        elif link is not None:
            self._tell(KILL, ident, index, link.incarnation, grace)

    def retire(self, index: int) -> None:
        """See `Host.retire`."""
        link = self._links.get(index)
        if link is not None:
            link.retire()
            self._tell(DISMISS, 0, index, link.incarnation, RETIRE_SECONDS)

    def _link_ended(self, index: int) -> None:
        link = self._links.get(index)
        if link is not None:
            # Most likely it is dying already. If a task closed the socket, no answer can come any more: the slot must go.
            self._tell(KILL, 0, index, link.incarnation, 0.0)

    # --- the agent's link

    def _tell(self, kind: int, ident: int, *values: object, fds: tuple[int, ...] = ()) -> None:
        if self._agent is None:
            for fd in fds:
                os.close(fd)
            return
        self._pending.append((encode(kind, 0, ident, pack(*values)), fds))
        if len(self._pending) == 1:
            self._flush()

    def _flush(self) -> None:
        if self._agent is None:
            return
        while self._pending:
            data, fds = self._pending[0]
            try:
                count = socket.send_fds(self._agent, [data], fds, NO_SIGNAL) if fds else self._agent.send(data, NO_SIGNAL)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._agent.fileno(), self._flush)
                return
            except OSError:
                count = len(data)  # the agent is gone: its end of the link will say so
            for fd in fds:
                os.close(fd)
            self._pending.popleft()
            if count < len(data):
                self._pending.appendleft((data[count:], ()))
        self._loop.remove_writer(self._agent.fileno())

    def _on_readable(self) -> None:
        if self._agent is None:
            return
        try:
            data = self._agent.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        try:
            frames = self._reader.feed(data)
        except FrameError as error:
            log.error("host %s does not speak our language: %s", self.name, error)  # noqa: TRY400 - our own stack explains nothing
            self._lost()
            return
        for kind, _, ident, body, _ in frames:
            self._hear(kind, ident, unpack(body))

    def _hear(self, kind: int, ident: int, values: tuple[Any, ...]) -> None:
        if kind in (DIED, UNCONFIRMED):
            self._died(kind == DIED, ident, *values)
        elif kind == WELCOME:
            self._agent_pid = values[0]["pid"]
            self._reports.host_up(self.name)
        elif kind == MISSED:
            self._reports.missed(self.name, values[0], values[1], ident)
        elif kind == FAILED:
            self._reports.host_failed(self.name, values[2])
        elif kind == NOTICE:
            self._reports.noticed(self.name, values[0])
        elif kind == BURIED:
            self._buried = True
        elif kind != SPAWNED:
            log.warning("host %s sent an unknown message (%d)", self.name, kind)

    def _died(self, confirmed: bool, ident: int, index: int, incarnation: int, code: int | None, number: int | None, *rest: int) -> None:
        link = self._links.get(index)
        if link is None:
            return
        link.drain()
        if confirmed:
            link.close()
            del self._links[index]
        else:
            link.recall()  # if it goes on after all, it begins nothing more
        why, item, peak, leftovers, asked = rest
        death = Death(index, incarnation, code, number, ident, why, item, peak, bool(leftovers), bool(asked), confirmed)
        self._reports.slot_died(self.name, death)

    def _lost(self) -> None:
        """The agent is gone, and its slots with it. Take the answers that they gave before."""
        for link in list(self._links.values()):
            link.drain()
        unbegun = {index: link.recall() for index, link in self._links.items()}
        self.abandon()
        self._reap_agent()
        self._agent_pid = 0
        if self._closing and not self._buried:
            self._bury()
        self._reports.host_down(self.name, "its agent ended", unbegun)


def above_standard(end: socket.socket) -> socket.socket:
    """Move a socket off the descriptors 0-2, which it gets where the program was started with them closed."""
    if end.fileno() > 2:
        return end
    with end:
        return socket.socket(fileno=fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _inherited(number: int, stream: object) -> int | None:
    """Return what a subprocess gets for a standard stream: ours, or /dev/null where this program has none."""
    try:
        # One that is not inherited is another file, which came where the standard one was closed.
        return None if stream is not None and os.get_inheritable(number) else subprocess.DEVNULL
    except OSError:
        return subprocess.DEVNULL


def _interpreter_flags() -> list[str]:
    """Return the command line flags (-W, -X, -O ...) that make another interpreter behave as this one."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return] # as multiprocessing does


_hosts: WeakSet[LocalHost] = WeakSet()


def _in_forked_child() -> None:
    for host in _hosts:
        host.forked()


os.register_at_fork(after_in_child=_in_forked_child)

__all__ = ["LocalHost"]
