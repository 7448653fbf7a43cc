"""Promises of `_wire/link`: frames between a slot and its pool, whole and in order, of any size and from several threads."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from threading import Thread

import pytest
from hypothesis import given, strategies as st

from aioparallel._wire.frames import MAX_BODY, Frame, FrameReader
from aioparallel._wire.link import PIPE_BODY, Link, framed, unframed

heads = st.integers(0, 40).map(lambda size: bytes(range(size)))
tails = st.integers(0, 100) | st.integers(MAX_BODY - 60, MAX_BODY + 60)
parts = st.lists(st.integers(0, 5000).map(bytes), max_size=3).map(tuple)


@given(heads, tails, parts)
def test_unframed_is_the_inverse_of_framed(head: bytes, size: int, buffers: tuple[bytes, ...]) -> None:
    """Whatever the sizes, and at the border where a tail becomes a buffer."""
    tail = b"x" * size
    data, extra = framed(1, 2, 3, head, tail, buffers)
    frames = FrameReader().feed(data + b"".join(extra))
    assert len(frames) == 1
    kind, flags, ident, body, received = frames[0]
    assert (kind, flags, ident, body[: len(head)]) == (1, 2, 3, head)
    rest, others = unframed(body, len(head), received)
    assert bytes(rest) == tail
    assert tuple(bytes(other) for other in others) == buffers


@pytest.mark.parametrize("size", [MAX_BODY - 5, MAX_BODY - 4, MAX_BODY - 3])
@pytest.mark.parametrize("buffers", [(), (b"",), (b"abc", b"")])
def test_the_very_border(size: int, buffers: tuple[bytes, ...]) -> None:
    data, extra = framed(1, 0, 0, b"head", bytes(size), buffers)
    ((_, _, _, body, received),) = FrameReader().feed(data + b"".join(extra))
    rest, others = unframed(body, 4, received)
    assert len(rest) == size and [bytes(other) for other in others] == list(buffers)


class Pool:
    """The pool's end, blocking: frames from the pipe, large buffers from the socket."""

    def __init__(self, end: socket.socket, answers: int) -> None:
        self.socket = end
        self.answers = answers
        self.reader = FrameReader(apart=True)

    def receive(self, count: int) -> list[Frame]:
        found: list[Frame] = []
        while len(found) < count:
            if self.reader.hole is None:
                data = os.read(self.answers, 65536)
                assert data, "the pipe ended early"
                found += self.reader.feed(data)
            else:
                found += self.reader.fill(self.socket.recv_into(self.reader.hole))
        assert not self.reader.torn
        return found


@pytest.fixture
def ends() -> Iterator[tuple[Pool, Link]]:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with ours, theirs, os.fdopen(read, "rb"), os.fdopen(write, "wb"):
        yield Pool(ours, read), Link(theirs, write)


def receive_one(link: Link) -> None:
    while not link.receive():
        pass


def in_thread(function, *arguments) -> Thread:
    thread = Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_large_buffers_and_small_frames_in_order(ends: tuple[Pool, Link]) -> None:
    pool, link = ends
    pattern = bytes(range(256))
    sizes = [0, 10, PIPE_BODY // 256 - 1, PIPE_BODY // 256, 5000, 0, 40_000, 3]

    def send() -> None:
        for n, size in enumerate(sizes):
            link.send(1, 0, n, b"head", pattern * size, (memoryview(pattern * (size // 2)),) if n % 2 else ())

    thread = in_thread(send)
    found = pool.receive(len(sizes))
    thread.join()
    for (_, _, ident, body, buffers), (n, size) in zip(found, enumerate(sizes), strict=True):
        rest, others = unframed(body, 4, buffers)
        assert ident == n and bytes(rest) == pattern * size
        assert [bytes(other) for other in others] == ([pattern * (size // 2)] if n % 2 else [])


def test_frames_of_several_threads_stay_whole(ends: tuple[Pool, Link]) -> None:
    pool, link = ends
    size = 300_000  # more than a socket takes at once
    body = PIPE_BODY - 100  # more than a pipe takes in one piece

    def send(number: int) -> None:
        for _ in range(5):
            link.send(number, 0, number, bytes([number]) * body)
            link.send(number, 1, number, b"", b"", (bytes([number]) * size,))

    threads = [in_thread(send, number) for number in range(4)]
    found = pool.receive(40)
    for thread in threads:
        thread.join()
    assert sorted(frame[0] for frame in found) == sorted(list(range(4)) * 10)
    for kind, flags, _, content, buffers in found:
        if flags:
            assert buffers[0] == bytes([kind]) * size
        else:
            assert content == bytes([kind]) * body and not buffers


@pytest.mark.parametrize("cut", [0, 5, 20, 40, 200_000])
def test_the_end_of_the_stream_is_an_error_wherever_it_comes(ends: tuple[Pool, Link], cut: int) -> None:
    pool, link = ends
    head, buffers = framed(1, 0, 0, b"head", b"tail", (bytes(300_000),))
    stream = head + buffers[0]

    def send() -> None:
        pool.socket.sendall(stream[:cut])
        pool.socket.close()

    thread = in_thread(send)
    with pytest.raises(EOFError):
        receive_one(link)
    thread.join()


def test_several_frames_come_out_of_one_read(ends: tuple[Pool, Link]) -> None:
    pool, link = ends
    pool.socket.sendall(b"".join(framed(kind, 0, 0, b"")[0] for kind in range(10)))
    assert [frame[0] for frame in link.receive()] == list(range(10))


def test_whether_there_is_room() -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    link = Link(ours, write)
    with ours, theirs:
        assert link.has_room()
        os.set_blocking(write, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, bytes(4096))
        assert not link.has_room()
        os.read(read, 65536)
        assert link.has_room()
    os.close(read)
    os.close(write)
    assert not link.has_room()
