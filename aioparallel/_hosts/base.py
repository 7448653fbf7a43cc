"""What a host is to the engine: a place that offers slots. Implementing `Host` is all that a new kind of place needs.

A host never decides: it does what it is told, at once and without waiting, and tells its `Reports` what happened. All of it runs in
the pool's event loop.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from .._jobs.task import Attempt
from .._wire.memory import Buffer, Buffers

_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS}


def is_shortage(error: BaseException | None) -> bool:
    """Return whether an error says that this machine is short of something (descriptors, memory, processes, threads): that may pass."""
    if isinstance(error, RuntimeError):
        return "can't start new thread" in str(error)
    return isinstance(error, OSError) and error.errno in _SHORTAGES


class Outcome(NamedTuple):
    """How an attempt ended, as its slot said: not opened yet. See `_wire/messages` for the statuses and what `payload` is."""

    ident: int
    status: int
    began: float
    seconds: float
    cpu: float
    peak: int
    payload: Buffer
    buffers: Buffers


class Death(NamedTuple):
    """The end of a slot and of everything below it, as its agent saw it; where it is not `confirmed`, another Death follows that is."""

    slot: int
    incarnation: int
    exit_code: int | None
    signal: int | None
    ident: int
    """The attempt that ran, 0: none."""
    why: int
    """BY_ITSELF or the reason it was killed for: `_wire/messages`."""
    item: int
    peak: int
    leftovers: bool
    asked: bool
    confirmed: bool = True
    detail: str = ""
    """Why it died as it started, where that is known."""


class Reports(Protocol):
    """What a host tells. All times are CLOCK_MONOTONIC seconds of the controller."""

    def host_up(self, host: str) -> None:
        """The agent supervises, and nothing of an agent before it is alive."""

    def host_down(self, host: str, reason: str, unbegun: dict[int, int]) -> None:
        """The agent was lost. Every answer that had arrived was reported before; `unbegun`: of each slot, how many attempts never began."""

    def host_failed(self, host: str, reason: str) -> None:
        """The host cannot offer slots, and trying again will not help."""

    def slot_up(self, host: str, index: int, incarnation: int, pid: int) -> None:
        """The slot can work."""

    def slot_died(self, host: str, death: Death) -> None:
        """The slot is dead, or was to be. Every answer it gave was reported before."""

    def answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """The slot gave these answers, in this order."""

    def part(self, host: str, index: int, incarnation: int, ident: int, status: int, body: Buffer) -> None:
        """A part of a chunk's answer."""

    def progressed(self, host: str, ident: int, done: float, total: float) -> None:
        """A task reported how far it is; `total` nan: it did not say."""

    def missed(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """A kill found its attempt not running: it has ended."""

    def noticed(self, host: str, text: str) -> None:
        """Something that status should say."""

    # What only hosts that feed their own slots tell (`Host.far`).

    def far_up(self, host: str, slots: int, machine: str) -> None:
        """The host's agent supervises, and offers so many slots; `machine` names the machine it is on, "": that is not known."""

    def far_unreachable(self, host: str, reason: str) -> None:
        """The host could not be reached; it is tried again."""

    def far_silent(self, host: str, *, silent: bool) -> None:
        """A far host has said nothing for a heartbeat; or it says something again."""

    def far_round_trip(self, host: str, seconds: float) -> None:
        """A word to the host and back takes so long."""

    def far_answered(self, host: str, index: int, incarnation: int, outcomes: list[Outcome]) -> None:
        """This slot of the host gave these answers."""

    def bound(self, host: str, index: int, incarnation: int, ident: int) -> None:
        """This slot of the host has this attempt now."""

    def withdrawn(self, host: str, idents: Sequence[int]) -> None:
        """These attempts never began there, and never will."""

    def wrote(self, host: str, stream: int, text: bytes) -> None:
        """Processes there wrote this to their standard output (1) or standard error (2)."""


class Host(ABC):
    """A place that offers slots."""

    name: str
    slots: int
    """How many slots it offers at the most; 0: that is known when it is up."""
    weight: float = 1.0
    """How fast one of its slots is; 1.0: as this machine's."""
    labels: Mapping[str, str] = {}
    """What `pool.options(labels=)` may ask for."""
    is_gone = False
    """Whether it was closed, and has nothing more to say."""
    far = False
    """Whether it feeds its slots itself: then `launch` and `kill` name no slot, and `spawn`, `recall` and `retire` are never called."""

    @property
    def is_buried(self) -> bool:
        """Whether, once it is down, everything that it ran is known to be dead, or will be before it serves again."""
        return True

    @abstractmethod
    async def start(self) -> None:
        """Bring the agent up, or begin to.

        Raises HostError where that is impossible; its cause may be a shortage. If cancelled: leaves nothing behind.
        """

    @abstractmethod
    def attach(self, reports: Reports) -> None:
        """Report to `reports` from now on; what happened since `start` is not lost."""

    @abstractmethod
    def spawn(self, index: int, incarnation: int) -> None:
        """Begin a slot. It may be sent attempts at once."""

    @abstractmethod
    def launch(self, index: int, attempts: Sequence[Attempt], patience: float) -> None:
        """Send attempts to a slot, to run in this order behind those it has. Its answers may wait for `patience` seconds."""

    def glance(self) -> None:  # noqa: B027 - not every host can
        """Report what slots have answered and the loop has not yet come round to; never waits."""

    @abstractmethod
    def recall(self, index: int) -> int:
        """Take back the last attempts sent to a slot that have not begun; return how many: they never will."""

    def withdraw(self, idents: Sequence[int]) -> None:  # noqa: B027 - only far hosts are asked
        """Give back those of these attempts that have not begun; `withdrawn` follows."""

    def drop(self, numbers: Sequence[int]) -> None:  # noqa: B027 - not every host keeps any
        """Let go of shared values, which will not be named again."""

    def want(self, slots: int) -> None:  # noqa: B027 - only far hosts are asked
        """Have so many slots up before there is work for them."""

    def limit(self, slots: int) -> None:  # noqa: B027 - only far hosts are asked
        """Have no more slots than so many."""

    async def keep_up(self) -> None:  # noqa: B027 - only far hosts are asked
        """Keep the way to the host open until cancelled."""

    @abstractmethod
    def kill(self, index: int, ident: int, grace: float) -> None:
        """Kill a slot's tree if it still runs that attempt (0: whatever it does); ask first where `grace` (seconds) is not 0.

        A `slot_died` or `missed` follows.
        """

    @abstractmethod
    def retire(self, index: int) -> None:
        """Let an idle slot end as a Python program ends. `slot_died` follows."""

    @abstractmethod
    def close(self) -> None:
        """Kill everything. `host_down` follows when all of it is dead."""

    def kill_agent(self) -> None:  # noqa: B027 - not every host has one
        """Kill the agent itself: the last resort for one that does not answer."""

    @abstractmethod
    def abandon(self) -> None:
        """Let go of everything at once, without a loop: the agent sees its link end and kills everything."""
