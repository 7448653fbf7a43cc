"""Pools for the journeys: one fixture, so that every journey runs on every kind of host."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from aioparallel import Pool

from ..far.loopback import Loopback
from ..far.servers import SSHD, Server

HOSTS = ["local", "asyncssh", "sshd" if SSHD else "loopback"]
"""Where the slots are. Another kind of host that keeps the same promises is one more word here."""
BYSTANDERS = 30

OpenPool = Callable[..., AbstractAsyncContextManager[Pool]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a journey on every kind of host, but where its mark says that it is about what only the local host, or only far ones have."""
    if "server" in metafunc.fixturenames:
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        hosts = HOSTS[:1] if "near" in marks else HOSTS[1:] if "far" in marks else HOSTS
        metafunc.parametrize("server", hosts, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server | str]:
    """Yield an SSH server, or the word for a kind of host that needs none."""
    if request.param in ("local", "loopback"):
        yield request.param
        return
    with Server(request.param, tmp_path_factory.mktemp("server")) as running:
        yield running


def make_pool(server: Server | str, slots: int, options: dict[str, Any]) -> Pool:
    """Return a pool with so many slots on one host of this kind."""
    if server == "local":
        return Pool(local=slots, **options)
    host = Loopback(slots=slots) if isinstance(server, str) else server.host(slots=slots)
    return Pool(local=0, hosts=[host], **options)


def pool_in_a_program(server: Server | str, slots: int = 2, options: str = "") -> str:
    """Return the source of what `make_pool` returns, for a program of its own; it goes behind an import of `SSH` and `Loopback`."""
    if server == "local":
        return f"Pool(local={slots}, {options})"
    host = f"Loopback(slots={slots})" if isinstance(server, str) else repr(server.host(slots=slots))
    return f"Pool(local=0, hosts=[{host}], {options})"


@pytest.fixture
def open_pool(server: Server | str) -> OpenPool:
    """Return `open_pool(slots=2, *, bystanders=True, **options)`: a pool amid whose other tasks the journey takes place.

    When the block is left normally, the other tasks have all succeeded and the pool is usable; that nothing is left behind when the
    journey is over is seen to by the fixture that every test has (`leaves_nothing_behind`). `bystanders=False` is for a journey in
    which the pool itself ends.
    """

    @asynccontextmanager
    async def opened(slots: int = 2, *, bystanders: bool = True, **options: Any) -> AsyncIterator[Pool]:
        async with make_pool(server, slots, options) as pool:
            if not bystanders:
                yield pool
                return
            before = [pool.submit(operator.neg, number) for number in range(BYSTANDERS)]
            await before[0]
            yield pool
            after = [pool.submit(operator.neg, number) for number in range(BYSTANDERS)]
            assert await asyncio.gather(*before, *after) == 2 * [-number for number in range(BYSTANDERS)]
            assert all(task.attempts[-1].outcome == "succeeded" for task in before + after)

    return opened
