"""The agent's way to new slots: a template that forks them, and another template when that one dies.

Guarantees
    What a template has forked is known before it can fall to the agent as an orphan, even if the template was killed in the middle. A
    fork that was asked for is done by the template's successor, or the host fails with the reason. Where the kernel refuses a fork, the
    ward has died as it started.
"""

from __future__ import annotations

import os
from _signal import SIGKILL
from _socket import socket as Socket
from collections import deque
from select import POLLIN, poll
from time import monotonic

from .._wire.frames import FrameReader, encode
from .._wire.messages import CLEAN, CONFIGURE, FAILED, FORK, FORK_FAILED, FORKED, NOTICE, PRELOADED, SPAWNED, pack, unpack
from . import procs
from .launcher import NOT_BORN, fork_template
from .page import FOREVER
from .passing import send_with_fds
from .ward import Ward
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PRELOAD_SECONDS = 60
ANNOUNCE_SECONDS = 1.0
"""How long a dead template's last forks may take to announce themselves."""
TEMPLATE_DEATHS = 5
"""How many templates in a row may die before the host gives up."""


class Spawner:
    """A template, what it was asked for, and what became of it."""

    def __init__(
        self,
        config: dict[str, Any],
        template: tuple[int, int],
        watch: Watch,
        agents_own: Callable[[], list[int]],
        tell: Callable[..., None],
        born: Callable[[Ward, int], None],
    ) -> None:
        self._config = config
        self._watch = watch
        self._agents_own = agents_own
        self._tell = tell
        self._born = born
        self._to_fork: deque[tuple[Ward, list[int]]] = deque()
        self._deaths = 0
        self._noticed: set[str] = set()
        self._adopt(template)

    def _adopt(self, template: tuple[int, int]) -> None:
        """Configure a template that was forked."""
        self.pid, fd = template
        """The template's pid, 0: there is none and never will be."""
        self._socket: Socket | None = Socket(fileno=fd)
        self._reader = FrameReader()
        self._ready = False
        self.preload_until = monotonic() + PRELOAD_SECONDS
        """When the template must have preloaded (CLOCK_MONOTONIC seconds, inf: it has)."""
        self._watch.add({fd: POLLIN}, self.read)
        try:
            send_with_fds(self._socket, encode(CONFIGURE, 0, 0, pack(self._config)), self._config["agent_fds"])
        except OSError:
            pass  # it has died, and will be reaped

    def _start(self) -> None:
        waiting = [fd for _, fds in self._to_fork for fd in fds]
        self._adopt(fork_template([*self._agents_own(), *waiting, *self._config["agent_fds"]]))

    def fork(self, ward: Ward, fds: list[int]) -> None:
        """Have a slot forked for a ward; it gets these descriptors, which are closed here."""
        self._to_fork.append((ward, fds))
        if self._ready:
            self._send(ward, fds)

    def _send(self, ward: Ward, fds: list[int]) -> None:
        if self._socket is None:
            return
        try:
            send_with_fds(self._socket, encode(FORK, 0, 0, pack(ward.index, ward.incarnation)), fds)
        except OSError:
            pass  # the template died: its successor gets what waits in `_to_fork`

    def clean(self, path: str) -> None:
        """Have a folder removed, some time."""
        if self._socket is not None:
            try:
                self._socket.sendall(encode(CLEAN, 0, 0, pack(path)))
            except OSError:
                pass  # the template died; what is left is removed with the pool

    def read(self) -> None:
        """Take in what the template says; it has said something."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self._drop()
            return
        for kind, _, _, body, _ in self._reader.feed(data):
            if kind == PRELOADED:
                self._preloaded(*unpack(body))
            elif kind == FORKED:
                self._forked(*unpack(body))
            elif kind == FORK_FAILED:
                self._fork_failed(*unpack(body))
            elif kind == FAILED:
                self._deaths = TEMPLATE_DEATHS
                self._fail(*unpack(body))

    def drain(self, seconds: float = 0.0) -> bool:
        """Take in what the template has said; return whether there was anything."""
        if self._socket is None:
            return False
        probe = poll()
        probe.register(self._socket.fileno(), POLLIN)
        said = bool(probe.poll(seconds * 1000))
        if said:
            self.read()
        return said

    def _drop(self) -> None:
        if self._socket is not None:
            self._watch.drop(self._socket.fileno())
            self._socket.close()
        self._socket, self._ready = None, False

    def _fail(self, text: str) -> None:
        self._tell(FAILED, 0, -1, 0, text)

    def _preloaded(self, threads: int) -> None:
        self._ready = True
        self.preload_until = FOREVER
        if threads > 1:
            self._config["threads"] = threads
            self._tell(NOTICE, 0, f"preload= left {threads - 1} threads running, so slots are exec'ed instead of forked (slower to start)")
        for ward, fds in self._to_fork:
            self._send(ward, fds)

    def _forked(self, index: int, incarnation: int, pid: int) -> None:
        ward = self._answered(index, incarnation)
        assert ward is not None
        self._tell(SPAWNED, 0, index, incarnation, pid)
        self._born(ward, pid)

    def _fork_failed(self, index: int, incarnation: int, text: str) -> None:
        ward = self._answered(index, incarnation)
        if ward is None:
            return  # it was announced, and the process between was killed after that
        ward.died(NOT_BORN << 8)
        if text not in self._noticed:
            self._noticed.add(text)
            self._tell(NOTICE, 0, f"a slot could not be forked: {text}")

    def _answered(self, index: int, incarnation: int) -> Ward | None:
        """Take the ward that the template forked or could not fork; None: it was taken before."""
        if not self._to_fork or (self._to_fork[0][0].index, self._to_fork[0][0].incarnation) != (index, incarnation):
            return None
        ward, fds = self._to_fork.popleft()
        for fd in fds:
            os.close(fd)
        self._deaths = 0  # not as soon as it has preloaded: it may die of every fork
        return ward

    def look_at_clock(self, now: float) -> None:
        """Give up a template that does not come to an end with its preload."""
        if now >= self.preload_until:
            self.preload_until = FOREVER
            self._fail(f"preload= took over {PRELOAD_SECONDS} s")
            self._deaths = TEMPLATE_DEATHS
            procs.send(self.pid, SIGKILL)

    def died(self, status: int, kill_orphans: Callable[[], object]) -> None:
        """Start another template in the place of one that was reaped, unless too many have died."""
        # What it forked last holds its socket until it is announced: at the socket's end all of it is, and the rest never will be.
        while self.drain(ANNOUNCE_SECONDS):
            pass
        self._drop()
        kill_orphans()
        self.preload_until = FOREVER
        self.pid = 0
        self._deaths += 1
        if self._deaths < TEMPLATE_DEATHS:
            self._start()
        elif self._deaths == TEMPLATE_DEATHS:
            self._fail(f"the template process dies as it starts (status {status}); is preload= to blame?")


__all__ = ["Spawner"]
