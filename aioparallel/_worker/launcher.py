"""The first steps of an agent: it is forked off what asyncio started, and forks its template before either has loaded what it needs.

The template loads what slots need while the agent loads what it needs itself, on another core; what both need is loaded before.
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_DFL, SIG_IGN, SIG_SETMASK, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGTERM, pthread_sigmask, set_wakeup_fd, signal

from .._wire import frames, messages  # noqa: F401 - both need them
from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from .agent import Agent

NOT_BORN = 83
"""Exit code of a slot that did not come as far as its loop."""


def main(fd: int, controller_pid: int) -> None:
    """Fork the agent off and end: what asyncio started must not be the agent, since asyncio kills what it started."""
    if os.getppid() != controller_pid:
        os._exit(0)
    pthread_sigmask(SIG_SETMASK, ())  # what the controller has blocked is inherited: no death and no request to stop would be seen
    controller = kernel.pidfd_open(controller_pid)
    if os.fork():
        os._exit(0)
    os.setsid()
    kernel.become_subreaper()
    for number in (SIGINT, SIGHUP, SIGPIPE):
        signal(number, SIG_IGN)
    own = [fd] if controller is None else [fd, controller]
    template = fork_template(own)

    def make() -> Agent:
        from .agent import Agent
        from .channel import NearChannel

        return Agent(NearChannel(fd), controller, template)

    supervise(make)


def supervise(make: Callable[[], Agent]) -> NoReturn:
    """Be the agent that `make` makes, until the controller lets go."""
    code = 1
    try:
        agent = make()
        signal(SIGTERM, lambda *_: agent.stop())
        agent.run()
        code = 0
    except BaseException:  # noqa: BLE001 - the last words of a process that must leave nothing behind
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def fork_template(not_its: Iterable[int]) -> tuple[int, int]:
    """Fork a template, which closes these descriptors; return its pid and our end of the socket to it."""
    from _socket import AF_UNIX, SOCK_STREAM, socketpair

    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    agent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours.detach()
    try:
        for fd in (*not_its, ours.detach()):
            os.close(fd)
        kernel.die_with_parent(agent)
        set_wakeup_fd(-1)
        for number in (SIGCHLD, SIGTERM):
            signal(number, SIG_DFL)
        from .template import Template

        Template(theirs.detach(), agent).main()
    finally:
        os._exit(1)


__all__ = ["NOT_BORN", "fork_template", "main"]
