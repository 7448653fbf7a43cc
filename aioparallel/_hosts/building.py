"""How hosts are made of what a pool was told."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import expanduser
from typing import Any, Literal

from ..config import SSH
from .base import Host


def build(
    local: int | Literal["serial"],
    hosts: Iterable[Any],
    far: dict[str, Any],
    *,
    seed: int,
    preload: tuple[str, ...],
    python: str | None,
) -> list[Host]:
    """Return the hosts of a pool. `far`: what `FarHost` takes; a value of another kind than SSH makes its host of that itself."""
    built: list[Host] = []
    if local == "serial":
        from .serial import SerialHost

        return [SerialHost(seed=seed)]
    if local:
        from .local import LocalHost

        built.append(LocalHost(local, seed=seed, preload=preload, python=python))
    far = {"seed": seed, "preload": preload, **far}
    built += [_by_ssh(host, far) if isinstance(host, SSH) else host.make(far) for host in hosts]
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
        host.name, address, options, slots=host.slots, python=host.python, environ=dict(host.env), folder=host.cwd, **more
    )  # fmt: skip


__all__ = ["build"]
