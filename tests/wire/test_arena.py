"""The memory that is used again: bounded, and nobody else's while somebody has it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from aioparallel._wire import arena

SIZE = 1 << 20
ROUNDS = 3000


@pytest.fixture
def empty() -> Iterator[None]:
    """An arena with nothing in it, whose threads take turns as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    arena.clear()
    yield
    arena.clear()
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("empty")
def test_a_block_is_used_again() -> None:
    first = arena.take(SIZE)
    block = first.obj
    arena.give((first, first, b"not from here"))
    assert arena.take(SIZE).obj is block
    assert arena.take(SIZE).obj is not block


@pytest.mark.usefixtures("empty")
def test_the_pools_of_several_threads_share_it() -> None:
    failed: list[Exception] = []

    def work(mark: int) -> None:
        try:
            for _ in range(ROUNDS):
                taken = [arena.take(SIZE) for _ in range(2)]
                for one in taken:
                    one[0] = mark
                assert [one[0] for one in taken] == [mark, mark]
                arena.give(tuple(taken))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
