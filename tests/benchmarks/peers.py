"""The contenders behind one face: `submit(function, *arguments)` returns something to await.

All have two slots, all are warm when the work begins. The peers' executors are used as an asyncio program uses them, through
`loop.run_in_executor`; the standard library's with the fork context, which is its fastest.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from .measure import OURS, Contender, Sample
from .work import identity

SLOTS = 2
WARM_UP_TASKS = 200

Submit = Callable[..., "asyncio.Future[Any]"]
Work = Callable[[Submit, int], Awaitable[Sample]]


def forked_executor() -> ProcessPoolExecutor:
    """Return the standard library's pool at its fastest."""
    return ProcessPoolExecutor(SLOTS, mp_context=multiprocessing.get_context("fork"))


def loky_executor() -> Executor:
    """Return loky's pool."""
    import loky

    return loky.ProcessPoolExecutor(SLOTS)  # type: ignore[no-any-return]


@asynccontextmanager
async def ours(**options: Any) -> AsyncIterator[Submit]:
    """Yield the `submit` of a pool of ours, with `pool.options(**options)` if there are any."""
    from aioparallel import Pool

    async with Pool(local=SLOTS) as pool:
        submit = pool.options(**options).submit if options else pool.submit
        await warm_up(submit)
        yield submit


@asynccontextmanager
async def theirs(make: Callable[[], Executor]) -> AsyncIterator[Submit]:
    """Yield the `submit` of an executor."""
    with make() as executor:
        submit = partial(asyncio.get_running_loop().run_in_executor, executor)
        await warm_up(submit)
        yield submit


@asynccontextmanager
async def two_pipes() -> AsyncIterator[Submit]:
    """Yield what sends a few bytes to a forked process that echoes them: how fast this machine lets two processes talk, and no pool."""
    loop = asyncio.get_running_loop()
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(our_out)
        while data := os.read(their_in, 4096):
            os.write(their_out, data)
        os._exit(0)
    os.close(their_in)
    waiting: list[tuple[asyncio.Future[Any], Any]] = []

    def answered() -> None:
        os.read(our_in, 4096)
        future, value = waiting.pop()
        future.set_result(value)

    def submit(_: Callable[..., Any], value: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = loop.create_future()
        waiting.append((future, value))
        os.write(our_out, b"x" * 100)
        return future

    loop.add_reader(our_in, answered)
    try:
        yield submit
    finally:
        loop.remove_reader(our_in)
        os.close(our_out)
        os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once, and nothing else runs
        os.close(our_in)
        os.close(their_out)


async def warm_up(submit: Submit) -> None:
    """Bring every slot up, and everything that is loaded at first use."""
    await asyncio.gather(*(submit(identity, i) for i in range(WARM_UP_TASKS)))


DOORS: dict[str, Callable[[], Any]] = {
    OURS: ours,
    "ours, copy=False": partial(ours, copy=False),
    "executor": partial(theirs, forked_executor),
    "loky": partial(theirs, loky_executor),
    "two bare pipes": two_pipes,
}


def by_submit(work: Work, *names: str) -> dict[str, Contender]:
    """Return contenders that all do the same work, each through its own `submit`."""

    def contender(name: str) -> Contender:
        async def sample(size: int) -> Sample:
            async with DOORS[name]() as submit:
                return await work(submit, size)

        return sample

    return {name: contender(name) for name in names}
