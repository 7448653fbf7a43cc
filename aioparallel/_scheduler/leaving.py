"""Hosts that come to a pool, and that leave it, while work runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .alone import look_who_is_alone
from .assign import assign
from .host_record import HostRecord
from .lanes import sort_anew
from .stimuli import Action, CloseHost, HostCame, HostGone, NoMoreHosts, RemoveHost, Withdraw

if TYPE_CHECKING:
    from .state import State


def came(state: State, stimulus: HostCame, now: float, actions: list[Action]) -> None:
    """There is one more host; it is not up yet."""
    name, slots, weight, labels = stimulus
    state.hosts[name] = HostRecord(state, name, slots, True, weight, labels)
    state.has_far = True
    _changed(state, now, actions)


def remove(state: State, stimulus: RemoveHost, now: float, actions: list[Action]) -> None:
    """A host is to be used no more: what has not begun there is called back; with `drain`, what runs may finish."""
    host = state.hosts.get(stimulus.host)
    if host is None:
        return
    if host.is_up:
        host.lost_at = now
    host.leaving = True
    assert host.backlog is not None
    if stimulus.drain and host.backlog.attempts:
        actions.append(Withdraw(host.name, list(host.backlog.attempts)))
    else:
        actions.append(CloseHost(host.name))
    _changed(state, now, actions)


def go_on(host: HostRecord, actions: list[Action]) -> None:
    """Something of a host that is leaving ended: close it when that was the last."""
    if host.leaving and host.backlog is not None and not host.backlog.attempts:
        actions.append(CloseHost(host.name))


def gone(state: State, stimulus: HostGone, now: float, actions: list[Action]) -> None:
    """A host that was leaving is closed, and nothing of it is left."""
    host = state.hosts.pop(stimulus.host, None)
    if host is not None:
        state.endings.end_limbo(host, now, actions)
        state.left_at = max(state.left_at, host.lost_at)
        _changed(state, now, actions)


def _changed(state: State, now: float, actions: list[Action]) -> None:
    """The hosts are others now: what waits may go elsewhere, or nowhere."""
    state.resized()
    sort_anew(state)
    look_who_is_alone(state)
    assign(state, now, actions)


def no_more(state: State, _: NoMoreHosts, now: float, actions: list[Action]) -> None:
    """No host will come by itself any more: what waits for one is told so."""
    state.hosts_may_come = False
    look_who_is_alone(state)
    assign(state, now, actions)
