"""How hosts are made of what a pool was told."""

from __future__ import annotations

from os.path import expanduser
from typing import Any

from ..config import SSH, Settings
from ..errors import UsageError
from .base import Host


def build(settings: Settings, seed: int) -> list[Host]:
    """Return the hosts that a pool has from the start."""
    if settings.serial:
        from .serial import SerialHost

        return [SerialHost(seed=seed)]
    built: list[Host] = []
    if settings.local_slots:
        from .local import LocalHost

        built.append(LocalHost(settings.local_slots, seed=seed, preload=settings.preload, python=settings.python))
    if isinstance(settings.hosts, tuple):
        built += [build_far(host, settings, seed) for host in settings.hosts]
        if built[1:] and built[0].name in (host.name for host in built[1:]):
            raise UsageError(f"hosts= has one of the name {built[0].name!r}, as this machine is called: give it another, or use local=0")
    return built


def build_far(host: Any, settings: Settings, seed: int) -> Host:
    """Return the host of a value; one of another kind than SSH makes it itself."""
    far = {
        "seed": seed, "preload": settings.preload, "max_tasks": settings.max_tasks_per_slot, "heartbeat": settings.heartbeat,
        "orphan_after": settings.orphan_after, "ship": settings.ship,
    }  # fmt: skip
    built: Host = _by_ssh(host, far) if isinstance(host, SSH) else host.make(far)
    return built


def _by_ssh(host: SSH, more: dict[str, Any]) -> Host:
    from .ssh import SSHHost  # and with it asyncssh: a quarter of a second

    address, user, port = host.parts()
    keys, known_hosts, config = [expanduser(key) for key in host.keys], host.known_hosts, host.config
    given: dict[str, Any] = {
        "username": user, "port": port, "client_keys": keys or None, "known_hosts": known_hosts and expanduser(known_hosts),
        "tunnel": host.jump, "config": config and [expanduser(config)],
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    return SSHHost(
        host.name, address, options, slots=host.slots, python=host.python, environ=dict(host.env), folder=host.cwd, weight=host.weight,
        labels=host.labels, **more,
    )  # fmt: skip


__all__ = ["build", "build_far"]
