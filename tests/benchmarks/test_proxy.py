"""The slow link: bytes arrive whole, in order, not too early, and not faster than it is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from .proxy import PACKET_BYTES, Pipe, Proxy


@contextmanager
def echo_behind(delay: float, rate: float | None) -> Iterator[socket.socket]:
    """Yield a link to a server that echoes, through a proxy."""
    door = socket.create_server(("127.0.0.1", 0))
    stop, stopper = socket.socketpair()
    proxy = Proxy(door.getsockname()[1], delay, rate)

    def echo() -> None:
        with door.accept()[0] as link:
            while data := link.recv(1 << 16):
                link.sendall(data)

    threads = [threading.Thread(target=echo), threading.Thread(target=proxy.serve, args=(stop.fileno(),))]
    for thread in threads:
        thread.start()
    try:
        with socket.create_connection(("127.0.0.1", proxy.port)) as link:
            yield link
    finally:
        threads[0].join()
        stopper.close()
        threads[1].join()
        proxy.close()
        door.close()
        stop.close()


@pytest.mark.parametrize(("delay", "rate"), [(0.0, None), (0.02, None), (0.001, 4e6)])
def test_bytes_arrive_whole_and_in_order(delay: float, rate: float | None) -> None:
    data = bytes(range(256)) * 4000
    with echo_behind(delay, rate) as link:
        sender = threading.Thread(target=lambda: (link.sendall(data), link.shutdown(socket.SHUT_WR)))
        sender.start()
        back = b""
        while more := link.recv(1 << 16):
            back += more
        sender.join()
    assert back == data


def test_nothing_is_early() -> None:
    with echo_behind(0.05, None) as link:
        began = time.monotonic()
        link.sendall(b"x")
        assert link.recv(1) == b"x"
        assert time.monotonic() - began >= 0.1


def test_a_rate_says_when_each_packet_is_through() -> None:
    near, source = socket.socketpair()
    with near, source:
        source.setblocking(False)
        pipe = Pipe(source, near, 0.0, 1000.0 * PACKET_BYTES)
        near.sendall(bytes(4 * PACKET_BYTES))
        began = time.monotonic()
        while pipe.reads:
            pipe.read()
            if pipe._held == 4 * PACKET_BYTES:
                break
        due = [when - began for when, _ in pipe._late]
        assert len(due) == 4
        assert due[0] >= 0.001
        assert all(later - sooner >= 0.0009 for sooner, later in pairwise(due))
