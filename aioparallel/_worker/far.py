"""The first steps of an agent at the far end of a channel: its standard streams are the link, and its program came over them.

Guarantees
    Nothing but frames reaches the channel: what processes below write to their standard output and standard error comes to the agent,
    which passes it on as OUTPUT. Nothing is left on the host's disk.
"""

from __future__ import annotations

import os
from _signal import SIG_IGN, SIGHUP, SIGINT, SIGPIPE, signal

from . import kernel
from .launcher import fork_template, supervise
from .machine import temporary_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .agent import Agent

_BOOT = (
    "import sys;P=type(sys)('aioparallel');P.__path__=[{archive!r}+'/aioparallel'];"
    "sys.modules['aioparallel']=P;sys.path.insert(0,{archive!r})"
)


def main(archive: int, nonce: str) -> None:
    """Be the agent; `archive` is the descriptor of the zip that this came from. Never returns."""
    incoming, outgoing, errors = os.dup(0), os.dup(1), os.dup(2)
    outputs = take_over_standard_streams()
    try:
        os.setsid()
    except PermissionError:
        pass  # the login gave us a session of our own
    kernel.become_subreaper()
    for number in (SIGINT, SIGHUP, SIGPIPE):
        signal(number, SIG_IGN)
    template = fork_template([incoming, outgoing, errors, *outputs])
    os.dup2(errors, 2)  # our own last words go to the pool directly
    os.close(errors)
    facts = {
        "boot": _BOOT.format(archive=f"/proc/{os.getpid()}/fd/{archive}"),
        "archive": [archive],
        "flags": [],
        "scratch": f"{temporary_folder()}/aioparallel-{nonce}",
    }

    def make() -> Agent:
        from .agent import Agent
        from .far_channel import FarChannel

        return Agent(FarChannel(incoming, outgoing, outputs), None, template, facts)

    supervise(make)


def take_over_standard_streams() -> tuple[int, int]:
    """Give this process and all below it an empty standard input and pipes for the rest; return their reading ends."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    reading: list[int] = []
    for number in (1, 2):
        read, write = os.pipe()
        os.dup2(write, number)
        os.close(write)
        os.set_blocking(read, False)
        reading.append(read)
    return reading[0], reading[1]


__all__ = ["main"]
