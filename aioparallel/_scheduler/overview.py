"""What the scheduler knows, as users see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..status import PoolStatus, SlotStatus
from .ledger import Slot

if TYPE_CHECKING:
    from .state import State


def busy(state: State) -> int:
    """Return how many slots have something to do."""
    near = sum(bool(slot.outstanding) for slot in state.slots.values())
    return near + sum(min(len(host.backlog.attempts), host.backlog.width) for host in state.hosts.values() if host.backlog)


def queued(state: State) -> int:
    """Return how many tasks wait here."""
    return sum(len(lane.queue) for lane in state.all_lanes()) + len(state.retrying.waiting)


def running(state: State) -> int:
    """Return how many attempts are out."""
    near = sum(len(slot.outstanding) for slot in state.slots.values())
    return near + sum(len(host.backlog.attempts) for host in state.hosts.values() if host.backlog)


def slots(state: State) -> tuple[SlotStatus, ...]:
    """Return every living slot as users see it, near ones first."""
    near = tuple(_slot_status(slot) for slot in sorted(state.slots.values(), key=lambda slot: slot.key))
    far = [host.backlog for host in state.hosts.values() if host.backlog is not None]
    return near + tuple(slot.status() for backlog in far for _, slot in sorted(backlog.slots.items()))


def status(state: State, notes: tuple[str, ...], name: str, phase: str, max_slots: int, uptime: float) -> PoolStatus:
    """Return what `Pool.status` shows."""
    endings = state.endings
    notes += tuple(f"{host.name}: {host.failed or host.reason}" for host in state.hosts.values() if host.failed or host.reason)
    return PoolStatus(
        name=name, state=phase, uptime_seconds=uptime, slots=slots(state), max_slots=max_slots, queued=queued(state),
        running=running(state), succeeded=endings.succeeded, failed=endings.failed_count,
        cancelled=endings.cancelled_count, retried=endings.retried, run_seconds=endings.run_seconds, notes=notes,
    )  # fmt: skip


def _slot_status(slot: Slot) -> SlotStatus:
    running = slot.outstanding[0].task if slot.outstanding else None
    return SlotStatus(
        host=slot.host, index=slot.index, pid=slot.pid, state=slot.state, task=f"{running.label} {running.name}" if running else None,
        waiting=max(0, len(slot.outstanding) - 1), tasks_done=slot.done,
    )  # fmt: skip
