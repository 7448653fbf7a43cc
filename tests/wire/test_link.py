"""Promises of `_wire/link`: frames over a blocking socket, whole and in order, of any size and from several threads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from threading import Thread

import pytest
from hypothesis import given, strategies as st

from aioparallel._wire.frames import MAX_BODY, Frame, FrameReader
from aioparallel._wire.link import Link, framed, unframed

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


@pytest.fixture
def links() -> Iterator[tuple[Link, Link]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Link(ours), Link(theirs)


def receive(link: Link, count: int) -> list[Frame]:
    found: list[Frame] = []
    while len(found) < count:
        found += link.receive()
    return found


def in_thread(function, *arguments) -> Thread:
    thread = Thread(target=function, args=arguments)
    thread.start()
    return thread


def test_large_buffers_and_small_frames_in_order(links: tuple[Link, Link]) -> None:
    ours, theirs = links
    pattern = bytes(range(256))
    sizes = [0, 10, 5000, 40_000, 3]
    sent = [framed(1, 0, n, b"head", pattern * size, (memoryview(pattern * (size // 2)),)) for n, size in enumerate(sizes)]

    def send() -> None:
        for head, buffers in sent:
            theirs.send(head, buffers)

    thread = in_thread(send)
    found = receive(ours, len(sent))
    thread.join()
    for (_, _, ident, body, buffers), size in zip(found, sizes, strict=True):
        rest, others = unframed(body, 4, buffers)
        assert bytes(rest) == pattern * size and bytes(others[0]) == pattern * (size // 2), ident


def test_frames_of_several_threads_stay_whole(links: tuple[Link, Link]) -> None:
    ours, theirs = links
    size = 300_000  # more than a socket takes at once

    def send(number: int) -> None:
        for _ in range(5):
            theirs.send(*framed(number, 0, number, b"", b"", (bytes([number]) * size,)))

    threads = [in_thread(send, number) for number in range(4)]
    found = receive(ours, 20)
    for thread in threads:
        thread.join()
    assert sorted(frame[0] for frame in found) == sorted(list(range(4)) * 5)
    for kind, _, _, _, (buffer,) in found:
        assert buffer == bytes([kind]) * size


@pytest.mark.parametrize("cut", [0, 5, 20, 40, 200_000])
def test_the_end_of_the_stream_is_an_error_wherever_it_comes(links: tuple[Link, Link], cut: int) -> None:
    ours, theirs = links
    head, buffers = framed(1, 0, 0, b"head", b"tail", (bytes(300_000),))
    stream = head + buffers[0]

    def send() -> None:
        theirs.socket.sendall(stream[:cut])
        theirs.socket.close()

    thread = in_thread(send)
    with pytest.raises(EOFError):
        receive(ours, 1)
    thread.join()


def test_several_frames_come_out_of_one_read(links: tuple[Link, Link]) -> None:
    ours, theirs = links
    theirs.socket.sendall(b"".join(framed(kind, 0, 0, b"")[0] for kind in range(10)))
    assert [frame[0] for frame in ours.receive()] == list(range(10))
