"""What a template answers to a request for a slot, seen from its agent's end of the socket."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from aioparallel._wire.frames import FrameReader
from aioparallel._wire.messages import FORK_FAILED, unpack
from aioparallel._worker.template import Template


@pytest.fixture
def template() -> Iterator[tuple[Template, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    template = Template(theirs.detach(), os.getpid())
    template._config["threads"] = 0
    with ours:
        yield template, ours
        template._socket.close()


def no_fork() -> int:
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def no_second_fork(fork: Callable[[], int] = os.fork) -> int:
    pid = fork()
    if not pid:
        os.fork = no_fork
    return pid


def killed_between(fork: Callable[[], int] = os.fork) -> int:
    pid = fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


@pytest.mark.parametrize(
    ("fork", "said"), [(no_fork, "temporarily unavailable"), (no_second_fork, "temporarily unavailable"), (killed_between, "status 9")]
)
def test_a_fork_that_fails_is_told(template, monkeypatch, fork, said):
    template, ours = template
    read, write = os.pipe()
    monkeypatch.setattr(os, "fork", fork)
    template._fork(3, 7, [write])
    ((kind, _, _, body, _),) = FrameReader().feed(ours.recv(4096))
    index, incarnation, text = unpack(body)
    assert (kind, index, incarnation) == (FORK_FAILED, 3, 7) and said in text
    assert os.read(read, 1) == b"", "what was the slot's is closed"
    os.close(read)
