"""Promises of `_wire/pieces`: what travels in pieces arrives as it was sent, whatever stands between; what is abandoned leaves nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from aioparallel._wire.frames import Frame, FrameError, encode, encode_head
from aioparallel._wire.lanes import Lanes
from aioparallel._wire.memory import Buffer
from aioparallel._wire.messages import OUTCOME, PIECE, WHOLE
from aioparallel._wire.pieces import PIECE_BYTES, PassingReader, PieceReader
from aioparallel._worker.relay import Relay

OTHER = 200
buffers = st.lists(st.sampled_from([0, 1, 1000, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES]).map(bytes), max_size=3)


class Sender:
    """A slot's two streams, and what reads them."""

    def __init__(self, frames: list[tuple[int, list[bytes]]]) -> None:
        self.heads = b"".join(
            encode_head(OUTCOME, 0, ident, b"body", list(map(len, parts))) if parts else encode(OUTCOME, 0, ident, b"body")
            for ident, parts in frames
        )
        self.bulk = b"".join(part for _, parts in frames for part in parts)
        self.reader = PassingReader()

    def read(self, limit: int) -> list[Frame]:
        """Return what the next bytes complete."""
        if not self.reader.stream:
            data, self.heads = self.heads[:limit], self.heads[limit:]
            return self.reader.feed(data)
        count = min(self.reader.wanted, limit)
        data, self.bulk = self.bulk[:count], self.bulk[count:]
        return self.reader.passed(data)

    @property
    def done(self) -> bool:
        return not self.heads and not self.reader.stream


def pass_on(relay: Relay, frames: list[Frame], wanted: bool = True) -> None:
    for frame in frames:
        if frame[0] in (PIECE, WHOLE):
            relay.piece(frame)
        else:
            relay.frame(frame, wanted=wanted)
    relay.flush()


def carried(lanes: Lanes, there: Lanes) -> list[Frame]:
    """Carry all that waits to the other end; return what arrives."""
    arrived: list[Frame] = []
    while pieces := lanes.take():
        arrived += there.feed(b"".join(pieces))
        lanes.feed(b"".join(there.take()))
    return arrived


@given(st.lists(buffers, max_size=4), st.lists(buffers, max_size=4), st.data())
@settings(deadline=None)
def test_answers_of_two_slots_arrive_whole_however_they_are_cut_and_mixed(one, other, data: st.DataObject) -> None:
    sent = {slot: [(10 * slot + at, parts) for at, parts in enumerate(frames)] for slot, frames in enumerate((one, other))}
    senders = [Sender(frames) for frames in sent.values()]
    near, far = Lanes(), Lanes()
    relay = Relay(near)
    arrived: list[Frame] = []
    while waiting := [sender for sender in senders if not sender.done]:
        sender = data.draw(st.sampled_from(waiting), label="who")
        pass_on(relay, sender.read(data.draw(st.sampled_from([3, 50, PIECE_BYTES, 1 << 20]), label="bytes")))
        near.work((encode(OTHER, 0, 0, b"between"),))
        arrived += carried(near, far)
    found = [(ident, bytes(body), [bytes(part) for part in parts]) for kind, _, ident, body, parts in arrived if kind == OUTCOME]
    for slot, frames in sent.items():
        assert [one for one in found if one[0] // 10 == slot] == [(ident, b"body", parts) for ident, parts in frames]
    assert not far._inner._coming


def test_what_nobody_wants_or_will_not_come_leaves_nothing() -> None:
    near, far = Lanes(), Lanes()
    relay = Relay(near)
    unwanted, torn, good = Sender([(1, [bytes(100)])]), Sender([(2, [bytes(3 * PIECE_BYTES)])]), Sender([(3, [b"good"])])
    while not unwanted.done:
        pass_on(relay, unwanted.read(1 << 20), wanted=False)
    for _ in range(2):
        pass_on(relay, torn.read(1 << 20))
    assert torn.reader.stream and not carried(near, far) and far._inner._coming
    relay.abandon(torn.reader.stream)
    assert not carried(near, far) and not far._inner._coming
    while not good.done:
        pass_on(relay, good.read(1 << 20))
    ((kind, _, ident, _, parts),) = carried(near, far)
    assert (kind, ident, [bytes(part) for part in parts]) == (OUTCOME, 3, [b"good"])


def test_a_piece_is_received_into_the_memory_it_stays_in() -> None:
    reader = PieceReader()
    size = 2 * PIECE_BYTES
    first = encode_head(PIECE, 0, 7, size.to_bytes(8, "little"), [PIECE_BYTES])
    assert reader.feed(first) == [] and reader.hole is not None
    owner = reader.hole.obj
    reader.fill(len(reader.hole))
    assert reader.feed(encode_head(PIECE, 0, 7, b"", [PIECE_BYTES])) == [] and reader.hole is not None
    assert reader.hole.obj is owner


@pytest.mark.parametrize("begins", [b"", (5).to_bytes(8, "little")])
def test_a_piece_that_belongs_nowhere_is_an_error(begins: bytes) -> None:
    with pytest.raises(FrameError, match="does not belong to any buffer"):
        PieceReader().feed(encode_head(PIECE, 0, 7, begins, [6]))


def test_frames_without_pieces_are_what_they_were() -> None:
    reader = PieceReader()
    parts: list[Buffer] = [b"one", b"two"]
    data = encode(OTHER, 1, 2, b"three") + encode_head(OTHER, 1, 3, b"four", [3, 3]) + b"".join(map(bytes, parts))
    assert [(frame[2], [bytes(part) for part in frame[4]]) for frame in reader.feed(data)] == [(2, []), (3, [b"one", b"two"])]
