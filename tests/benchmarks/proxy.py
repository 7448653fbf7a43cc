"""A slow link on this machine: a TCP proxy that hands bytes on later, in order, and if it is told to, no faster than a rate.

    python -m tests.benchmarks.proxy TARGET_PORT DELAY_MS [KBIT_PER_S]

It prints the port on 127.0.0.1 where it listens, and ends with its standard input. It is a process of its own, so that the loop of the
program that is measured has no part in it.

How it works
    One thread waits in `select`, whose time limit is exact to a tenth of a millisecond. What was read at t is written at t + delay, each
    direction by itself; so much is held that half a GB/s passes at 10 ms. With a rate, the link is busy for size / rate with each packet
    of 1,460 bytes, and no more is read than is under way and in a queue of `QUEUE_SECONDS`; sockets' buffers are as small as the kernel
    lets them be. So the bytes that wait do so at the sender, as before a slow modem, and not in here.
"""

from __future__ import annotations

import select
import socket
import sys
from collections import deque
from time import monotonic

READ_BYTES = 1 << 18
HELD_BYTES = 1 << 23
"""At the most in one direction, without a rate."""
PACKET_BYTES = 1460
QUEUE_SECONDS = 0.02
SMALL_BUFFER = 1 << 13
"""Bytes asked for; the kernel doubles it, and does with no less than 4.6 KB."""


class Pipe:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay: float, rate: float | None) -> None:
        self.source, self.sink = source, sink
        self._delay = delay
        self._rate = rate
        self._room = HELD_BYTES if rate is None else max(int(rate * (delay + QUEUE_SECONDS)), 2 * PACKET_BYTES)
        self._held = 0
        self._free = 0.0
        """When the link has carried all that was read."""
        self._late: deque[tuple[float, memoryview]] = deque()
        self.blocked = self.ended = self.closed = False

    @property
    def reads(self) -> bool:
        """Whether it would take more in."""
        return not self.ended and self._held < self._room

    @property
    def due(self) -> float | None:
        """When it has something to write; None: not by the clock."""
        return None if self.blocked or not self._late else self._late[0][0]

    def read(self) -> None:
        """Take in what there is."""
        try:
            data = self.source.recv(READ_BYTES if self._rate is None else min(self._room - self._held, PACKET_BYTES))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = monotonic()
        if self._rate is not None:
            now = self._free = max(self._free, now) + len(data) / self._rate
        self._held += len(data)
        self._late.append((now + self._delay, memoryview(data)))
        self.ended = not data

    def write(self, now: float) -> None:
        """Write what is due, as far as it goes."""
        self.blocked = False
        while self._late and self._late[0][0] <= now:
            due, data = self._late.popleft()
            if not data:
                self.close()
                return
            try:
                count = self.sink.send(data)
            except BlockingIOError:
                count = 0
            except OSError:
                self.close()
                return
            self._held -= count
            if count < len(data):
                self._late.appendleft((due, data[count:]))
                self.blocked = True
                return

    def close(self) -> None:
        """Say the end to the other side; what comes from there is none of our business."""
        self._late.clear()
        self.ended = self.closed = True
        try:
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended too


class Proxy:
    """All connections, and the door."""

    def __init__(self, target: int, delay: float, rate: float | None) -> None:
        self._target, self._delay, self._rate = target, delay, rate
        self._pipes: list[Pipe] = []
        self._door = socket.socket()
        self._slim(self._door)
        self._door.bind(("127.0.0.1", 0))
        self._door.listen()
        self.port: int = self._door.getsockname()[1]

    def _slim(self, link: socket.socket) -> None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._rate is not None:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, PACKET_BYTES)  # loopback's own are 64 KiB, as large as such buffers
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)

    def serve(self, until: int) -> None:
        """Serve until this descriptor can be read from."""
        while True:
            pipes = self._pipes
            reading = [pipe.source for pipe in pipes if pipe.reads]
            due = min((pipe.due for pipe in pipes if pipe.due is not None), default=None)
            wait = None if due is None else max(due - monotonic(), 0.0)
            readable, writable, _ = select.select([until, self._door, *reading], [pipe.sink for pipe in pipes if pipe.blocked], [], wait)
            if until in readable:
                return
            if self._door in readable:
                self._let_in()
            now = monotonic()
            for pipe in pipes:
                if pipe.source in readable:
                    pipe.read()
                if pipe.sink in writable or (pipe.due is not None and pipe.due <= now):
                    pipe.write(now)
            self._bury()

    def close(self) -> None:
        """Let go of everything."""
        self._door.close()
        for pipe in self._pipes[::2]:
            pipe.source.close()
            pipe.sink.close()

    def _let_in(self) -> None:
        near, _ = self._door.accept()
        far = socket.socket()
        for link in (near, far):
            self._slim(link)
        far.connect(("127.0.0.1", self._target))
        for link in (near, far):
            link.setblocking(False)
        self._pipes += [Pipe(near, far, self._delay, self._rate), Pipe(far, near, self._delay, self._rate)]

    def _bury(self) -> None:
        for out, back in zip(self._pipes[::2], self._pipes[1::2], strict=True):
            if out.closed and back.closed:
                self._pipes = [pipe for pipe in self._pipes if pipe not in (out, back)]
                out.source.close()
                out.sink.close()


def main(target: str, delay_ms: str, kbit_per_s: str | None = None) -> None:
    """Be the proxy."""
    proxy = Proxy(int(target), float(delay_ms) / 1000, None if kbit_per_s is None else float(kbit_per_s) * 1000 / 8)
    print(proxy.port, flush=True)
    proxy.serve(sys.stdin.fileno())


if __name__ == "__main__":
    main(*sys.argv[1:])
