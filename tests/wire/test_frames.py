"""Promises of `_wire/frames`: whole frames, whatever way the stream is cut; a FrameError or patience for what is none of ours."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given, strategies as st

from aioparallel._wire import frames
from aioparallel._wire.frames import HEADER, HEADER_SIZE, MAX_BODY, MAX_BUFFER, Frame, FrameError, FrameReader, encode, encode_head

byte = st.integers(0, 255)
number = st.integers(0, 2**64 - 1)
sizes = st.sampled_from([0, 0, 1, 2, 7, 255, 4096, 70_000])
plain_frames = st.tuples(byte, byte, number, sizes.map(bytes) | st.binary(max_size=40), st.just(()))
buffers = st.lists(sizes.map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256)), min_size=1, max_size=4).map(tuple)
any_frames = st.lists(plain_frames | st.tuples(byte, byte, number, st.binary(max_size=40), buffers), max_size=8)


def stream_of(whole: list[tuple[int, int, int, bytes, tuple[bytes, ...]]]) -> bytes:
    pieces = []
    for kind, flags, ident, body, parts in whole:
        pieces.append(encode_head(kind, flags, ident, body, [len(part) for part in parts]) if parts else encode(kind, flags, ident, body))
        pieces += parts
    return b"".join(pieces)


def read(reader: FrameReader, piece: bytes) -> list[Frame]:
    """Give a reader the next bytes of its stream as a socket would: into the hole, where there is one."""
    found: list[Frame] = []
    while piece:
        if reader.hole is None:
            found += reader.feed(piece)
            break
        count = min(len(reader.hole), len(piece))
        reader.hole[:count] = piece[:count]
        found += reader.fill(count)
        piece = piece[count:]
    return found


def plain(frame: Frame) -> tuple[int, int, int, bytes, tuple[bytes, ...]]:
    kind, flags, ident, body, parts = frame
    return kind, flags, ident, bytes(body), tuple(bytes(part) for part in parts)


@given(any_frames, st.data())
def test_frames_arrive_equal_however_they_are_cut(whole, data: st.DataObject) -> None:
    stream = stream_of(whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12), label="cuts"))
    reader = FrameReader()
    found = [frame for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True) for frame in read(reader, stream[start:stop])]
    assert [plain(frame) for frame in found] == whole
    assert not reader.torn and reader.hole is None


def test_frames_arrive_equal_byte_by_byte() -> None:
    whole = [(1, 2, 3, b"body", ()), (4, 5, 6, b"", (b"", b"abc", b"", b"d")), (7, 8, 9, b"x", (b"",)), (255, 255, 2**64 - 1, b"", ())]
    stream = stream_of(whole)
    reader = FrameReader()
    found = [frame for position in range(len(stream)) for frame in read(reader, stream[position : position + 1])]
    assert [plain(frame) for frame in found] == whole


@given(any_frames.filter(bool), st.data())
def test_a_stream_that_ends_inside_a_frame_is_torn(whole, data: st.DataObject) -> None:
    stream = stream_of(whole)
    last = len(stream_of(whole[-1:]))
    missing = data.draw(st.integers(1, last - 1))
    reader = FrameReader()
    found = read(reader, stream[:-missing])
    assert [plain(frame) for frame in found] == whole[:-1]
    assert reader.torn


@contextmanager
def counted_memory(limit: int) -> Iterator[list[int]]:
    """Count the memory that readers take for buffers; more than `limit` bytes at once are refused as by a system that has no more."""
    taken: list[int] = []

    def memory(size: int) -> bytearray:
        taken.append(size)
        if size > limit:
            raise MemoryError
        return bytearray(size)

    real, frames.memory = frames.memory, memory  # type: ignore[assignment]
    try:
        yield taken
    finally:
        frames.memory = real


headers = st.builds(HEADER.pack, byte, byte, st.sampled_from([0, 1, 2, 3, 65535]), st.integers(0, 60) | st.integers(0, 2**32 - 1), number)
tables = st.lists(st.sampled_from([0, 1, 5, 100, 1 << 20, 1 << 40, 2**64 - 1]), max_size=4).map(
    lambda row: b"".join(n.to_bytes(8, "little") for n in row)
)


@given(st.lists(st.binary(max_size=64) | headers | tables, max_size=20), st.integers(1, 50))
@example([HEADER.pack(1, 0, 65535, 65535 * 8, 0), b"\xff\xff\x0f\0\0\0\0\0" * 65535], 65536)
@example([HEADER.pack(1, 0, 0, 2**32 - 1, 0)], 50)
@example([HEADER.pack(1, 0, 2, 8, 0), bytes(8)], 50)
def test_garbage_is_refused_or_waits_and_takes_little_memory(garbage: list[bytes], step: int) -> None:
    """Every byte is consumed or an error comes; memory is taken for what has arrived, and one buffer more."""
    stream = b"".join(garbage)
    reader = FrameReader()
    with counted_memory(1 << 20) as taken:
        try:
            for start in range(0, len(stream), step):
                read(reader, stream[start : start + step])
        except FrameError:
            pass
    assert sum(taken[:-1]) <= len(stream)


def test_what_cannot_be_a_frame_is_an_error_that_says_why() -> None:
    with pytest.raises(FrameError, match="body of 1048577 bytes"):
        FrameReader().feed(HEADER.pack(1, 0, 0, MAX_BODY + 1, 0))
    with pytest.raises(FrameError, match="shorter than its table"):
        FrameReader().feed(HEADER.pack(1, 0, 2, 8, 0) + bytes(8))
    with pytest.raises(FrameError, match="at most"):
        FrameReader().feed(encode_head(1, 0, 0, b"", [MAX_BUFFER, 1]))
    with counted_memory(100), pytest.raises(FrameError, match="no memory for a buffer of 101 bytes"):
        FrameReader().feed(encode_head(1, 0, 0, b"", [100, 101]) + bytes(100))


def test_the_largest_body_and_one_byte_more() -> None:
    (frame,) = FrameReader().feed(encode(1, 2, 3, bytes(MAX_BODY)))
    assert len(frame[3]) == MAX_BODY
    (frame,) = FrameReader().feed(encode_head(1, 2, 3, bytes(MAX_BODY), [0, 0]))
    assert len(frame[3]) == MAX_BODY and [len(part) for part in frame[4]] == [0, 0]
    with pytest.raises(FrameError):
        FrameReader().feed(encode_head(1, 2, 3, bytes(MAX_BODY + 1), [0]))


def test_a_buffer_is_received_into_the_memory_it_stays_in() -> None:
    reader = FrameReader()
    assert reader.feed(encode_head(1, 0, 7, b"body", [3, 5]) + b"ab") == []
    assert reader.hole is not None and len(reader.hole) == 1
    first = reader.hole.obj
    reader.hole[:] = b"c"
    assert reader.fill(1) == []
    assert reader.hole is not None and len(reader.hole) == 5
    reader.hole[:2] = b"de"
    assert reader.fill(2) == []
    assert len(reader.hole) == 3
    reader.hole[:] = b"fgh"
    ((_, _, ident, body, parts),) = reader.fill(3)
    assert (ident, body, [bytes(part) for part in parts]) == (7, b"body", [b"abc", b"defgh"])
    assert parts[0] is first
    assert reader.hole is None and not reader.torn
    parts[0].append(0)  # type: ignore[union-attr] # nobody holds a view of it any more


def test_a_socket_fills_the_hole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(encode_head(1, 0, 0, b"", [1000]))
        reader = FrameReader()
        assert reader.feed(ours.recv(HEADER_SIZE + 8)) == []
        theirs.sendall(bytes(1000) + encode(2, 0, 0, b""))
        assert reader.hole is not None
        ((kind, _, _, _, parts),) = reader.fill(ours.recv_into(reader.hole))
        assert kind == 1 and len(parts[0]) == 1000
        assert [frame[0] for frame in reader.feed(ours.recv(100))] == [2]
