"""What goes into the state machine (stimuli) and what it asks for (actions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._hosts.base import Death, Outcome
from .._jobs.task import Attempt, Task
from ..events import Event


class Submitted(NamedTuple):
    """Users submitted tasks in one turn of the loop, in this order."""

    tasks: list[Task[Any]]


class Wanted(NamedTuple):
    """Somebody waits for so many slots to be up."""

    slots: int


class CancelAsked(NamedTuple):
    """Somebody cancelled a task."""

    task: Task[Any]


class Recalled(NamedTuple):
    """A Recall was carried out: so many of the slot's last attempts will never begin."""

    host: str
    slot: int
    taken: int


class Answered(NamedTuple):
    """A slot gave answers, in order."""

    host: str
    slot: int
    incarnation: int
    outcomes: list[Outcome]


class SlotUp(NamedTuple):
    """A slot can work."""

    host: str
    slot: int
    incarnation: int
    pid: int


class SlotDied(NamedTuple):
    """A slot and everything below it is dead."""

    host: str
    death: Death


class Missed(NamedTuple):
    """A Kill found its attempt not running."""

    host: str
    slot: int
    incarnation: int
    ident: int


class Clock(NamedTuple):
    """Time has passed: `next_due` was reached."""


class HostUp(NamedTuple):
    """A host's agent supervises; nothing of an agent before it is alive."""

    host: str


class HostDown(NamedTuple):
    """A host's agent was lost, with its slots. `unbegun`: of each slot, how many attempts never began. `confirmed`: all there is dead."""

    host: str
    reason: str
    unbegun: dict[int, int]
    confirmed: bool = True


class HostFailed(NamedTuple):
    """A host cannot offer slots, and will not."""

    host: str
    reason: str


class HostCame(NamedTuple):
    """There is one more far host."""

    host: str
    slots: int
    weight: float
    labels: Mapping[str, str]


class RemoveHost(NamedTuple):
    """A far host is to be used no more. `drain`: what runs there may finish."""

    host: str
    drain: bool


class HostGone(NamedTuple):
    """A host that was to be used no more is closed."""

    host: str


class FarUp(NamedTuple):
    """A far host's agent supervises, and offers so many slots. `machine`: where it is, "": that is not known."""

    host: str
    slots: int
    machine: str


class NoMoreHosts(NamedTuple):
    """The provider of hosts has ended: none will come by itself any more."""


class FarUnreachable(NamedTuple):
    """A far host could not be reached; it is tried again."""

    host: str
    reason: str


class FarSilent(NamedTuple):
    """A far host has said nothing for a heartbeat (not for as long as makes it lost), or says something again."""

    host: str
    silent: bool


class FarRoundTrip(NamedTuple):
    """A word to a far host and back takes so many seconds."""

    host: str
    seconds: float


class FarAnswered(NamedTuple):
    """A slot of a far host gave answers."""

    host: str
    slot: int
    incarnation: int
    outcomes: list[Outcome]


class Bound(NamedTuple):
    """A slot of a far host has this attempt now."""

    host: str
    slot: int
    incarnation: int
    ident: int


class Withdrawn(NamedTuple):
    """These attempts never began on a far host, and never will."""

    host: str
    idents: Sequence[int]


class Closing(NamedTuple):
    """The pool ends. `reason`: what its unfinished tasks are told."""

    reason: str


class Launch(NamedTuple):
    """Send attempts to a slot. `patience`: seconds for which its answers may wait, so that several are taken in at once."""

    host: str
    slot: int
    attempts: Sequence[Attempt]
    patience: float


class Recall(NamedTuple):
    """Take back what a slot has not begun; answer with Recalled."""

    host: str
    slot: int


class Withdraw(NamedTuple):
    """Take back those of these attempts that a far host has not begun; answer with Withdrawn."""

    host: str
    idents: Sequence[int]


class Want(NamedTuple):
    """Have a far host begin so many slots."""

    host: str
    slots: int


class Limit(NamedTuple):
    """Have a far host offer no more than so many of its slots, as others are on its machine."""

    host: str
    slots: int
    of: int
    others: tuple[str, ...]


class Kill(NamedTuple):
    """Kill the slot's tree if it runs that attempt."""

    host: str
    slot: int
    ident: int
    grace: float


class Spawn(NamedTuple):
    """Begin a slot."""

    host: str
    slot: int
    incarnation: int


class Retire(NamedTuple):
    """Let an idle slot end."""

    host: str
    slot: int


class Settle(NamedTuple):
    """Settle tasks with what their slot answered, in this order.

    The answer (to be opened) is in the task's latest attempt; where that was folded (`Task._fold`), in the place of the task's payload.
    """

    tasks: list[Task[Any]]


class Fail(NamedTuple):
    """Settle a task with an error of ours; `attempt` is the one to blame, if any."""

    task: Task[Any]
    error: Exception
    attempt: Attempt | None


class SettleCancelled(NamedTuple):
    """Settle a task as cancelled."""

    task: Task[Any]


class Emit(NamedTuple):
    """Tell subscribers."""

    event: Event


class CloseHost(NamedTuple):
    """Kill everything on a host."""

    host: str


Action = Launch | Recall | Withdraw | Want | Limit | Kill | Spawn | Retire | Settle | Fail | SettleCancelled | Emit | CloseHost
