"""What policies may look at: read-only, and true at the moment of looking."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol, overload

from ..status import SlotStatus

__all__ = ["HostView", "Hosts", "Slots", "TaskView"]


class HostFacts(Protocol):
    """What the scheduler knows of a host, as far as a view shows it."""

    name: str
    weight: float
    labels: Mapping[str, str]
    room: bool

    @property
    def is_up(self) -> bool:
        """See HostView."""

    @property
    def is_local(self) -> bool:
        """See HostView."""

    @property
    def why(self) -> str:
        """See `HostView.reason`."""

    @property
    def width(self) -> int:
        """See `HostView.slots`."""

    @property
    def round_trip(self) -> float:
        """See HostView."""

    @property
    def wait(self) -> float:
        """See HostView."""

    def occupied(self) -> tuple[int, int]:
        """Return (busy slots, attempts that wait there)."""


class HostView:
    """One host of a pool: live, so that each look tells how it is then. `pool.hosts` holds them, and policies are given them."""

    __slots__ = ("_facts",)

    def __init__(self, facts: HostFacts) -> None:
        self._facts = facts

    @property
    def name(self) -> str:
        """What messages call it; this machine's is "local"."""
        return self._facts.name

    @property
    def is_up(self) -> bool:
        """Whether it offers slots now."""
        return self._facts.is_up

    @property
    def is_local(self) -> bool:
        """Whether it is the controller's own machine, without a link."""
        return self._facts.is_local

    @property
    def reason(self) -> str:
        """Why it is not up, or was not at the last attempt; "" where there is nothing to say."""
        return self._facts.why

    @property
    def slots(self) -> int:
        """How many slots it offers; 0: that is not known yet, or it is down."""
        return self._facts.width

    @property
    def busy(self) -> int:
        """How many of them have something to do."""
        return self._facts.occupied()[0]

    @property
    def free(self) -> int:
        """How many of them have nothing to do."""
        return max(0, self._facts.width - self._facts.occupied()[0])

    @property
    def waiting(self) -> int:
        """How many attempts were sent there ahead and wait un-begun, by what is known here."""
        return self._facts.occupied()[1]

    @property
    def wait(self) -> float:
        """Seconds, by estimate, until something that is sent now would begin and its answer could be here; its own time not counted."""
        return self._facts.wait

    @property
    def round_trip(self) -> float:
        """Seconds that a word there and back takes; 0.0 for this machine."""
        return self._facts.round_trip

    @property
    def weight(self) -> float:
        """How fast one of its slots is, as declared: 1.0 is this machine's."""
        return self._facts.weight

    @property
    def labels(self) -> Mapping[str, str]:
        """What its entry said."""
        return self._facts.labels

    @property
    def room(self) -> bool:
        """For a policy: whether it would take the task that is being placed at once. A task may be given to a host without: it waits."""
        return self._facts.room

    def __repr__(self) -> str:
        facts = self._facts
        state = f"{facts.occupied()[0]}/{facts.width} slots busy" if facts.is_up else f"down{': ' * bool(facts.why)}{facts.why}"
        return f"<host {facts.name!r} {state}>"


class TaskView:
    """A task that waits, as a selection policy sees it."""

    __slots__ = ("attempt", "avoid", "draw", "estimate", "is_known", "locality", "name", "turn", "waited")

    def __init__(
        self,
        name: str,
        *,
        estimate: float,
        is_known: bool = True,
        attempt: int = 1,
        avoid: Collection[str] = (),
        locality: Mapping[str, int] | None = None,
        waited: float = 0.0,
        turn: int = 0,
        draw: float = 0.0,
    ) -> None:
        self.name = name
        """What messages call it."""
        self.estimate = estimate
        """Seconds that it is expected to run on a slot of weight 1."""
        self.is_known = is_known
        """Whether that was learned; else it is a guess."""
        self.attempt = attempt
        """1 for the first."""
        self.avoid = avoid
        """The hosts where an attempt of it failed. They are among those given only where no other is left."""
        self.locality: Mapping[str, int] = locality or {}
        """By a host's name, how much better it is for this task (0: indifferent), as `options(locality=)` said."""
        self.waited = waited
        """Seconds since a policy was first asked for it and chose to wait."""
        self.turn = turn
        """How many tasks were placed before it."""
        self.draw = draw
        """A random number in [0, 1), drawn for this choice: policies have no randomness of their own."""


class Hosts(Mapping[str, HostView]):
    """The hosts of a pool by name, as they are at each look."""

    def __init__(self, look: Callable[[], Mapping[str, Any]]) -> None:
        self._look = look

    def __getitem__(self, name: str) -> HostView:
        view: HostView = self._look()[name].view
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._look()))

    def __len__(self) -> int:
        return len(self._look())

    def __repr__(self) -> str:
        return f"<hosts: {', '.join(map(repr, self.values()))}>"


class Slots(Sequence[SlotStatus]):
    """The living slots of a pool, as they are at each look."""

    def __init__(self, look: Callable[[], Sequence[SlotStatus]]) -> None:
        self._look = look

    @overload
    def __getitem__(self, index: int) -> SlotStatus: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SlotStatus]: ...
    def __getitem__(self, index: int | slice) -> SlotStatus | Sequence[SlotStatus]:
        return self._look()[index]

    def __len__(self) -> int:
        return len(self._look())

    def __repr__(self) -> str:
        return f"<slots: {', '.join(f'{slot.host}/{slot.index} {slot.state}' for slot in self._look())}>"
