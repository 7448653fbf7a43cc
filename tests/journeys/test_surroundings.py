"""What is unusual about the controller's own process (masks, descriptors, names of files) is no reason for a pool to work less well."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from aioparallel import WorkerDied

from . import deeds
from .looks import written

# --- signals that the controller has blocked


@pytest.fixture
def blocked() -> Iterator[None]:
    """Block what pools use themselves."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGURG, signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


async def test_blocked_signals_hide_neither_deaths_nor_requests_to_stop(blocked, open_pool, tmp_path):
    async with open_pool(1) as pool:
        with pytest.raises(WorkerDied):
            await pool.submit(os._exit, 3)
        task = pool.options(grace=10).submit(deeds.sleep_until_asked, str(tmp_path / "a"))
        await written(tmp_path / "a.began")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.attempts[-1].stopped == "asked"
        assert await pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()) == set()
