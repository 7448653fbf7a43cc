"""How every test runs: `async def` tests in a loop of their own, and nothing may be left behind by any."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from .leaks import GRACE_SECONDS, WORKER, Snapshot, lasting_leftovers


def pytest_configure() -> None:
    """Hear signals, and let the programs that tests start hear them: a shell has its background jobs ignore Ctrl-C, `nohup` a hang-up."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if WORKER:  # what another process's tests have in the temp folder is none of ours
        os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix=f"{WORKER}-")


def pytest_unconfigure() -> None:
    """Remove the worker's own temp folder."""
    if WORKER:
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this machine could not show."""
    if shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        terminalreporter.section("SKIPPED: no journey went over OpenSSH", red=True, bold=True)
        terminalreporter.line("There is no sshd on this machine. Debian's package is openssh-server.")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test: a plain `asyncio.run` is what a user does, and needs no plugin."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(_leaving_no_task(pyfuncitem.obj(**arguments)), debug=False)
    return True


async def _leaving_no_task(test: Coroutine[Any, Any, None]) -> None:
    await test
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=GRACE_SECONDS)
    if left:
        pytest.fail("asyncio tasks left behind:\n" + "\n".join(f"  {task!r}" for task in left), pytrace=False)


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test which leaves a process, a file descriptor, a thread or a file of ours in the temp folder."""
    before = Snapshot.take()
    yield
    left = lasting_leftovers(before)
    if left:
        left.kill()
        pytest.fail(str(left), pytrace=False)
