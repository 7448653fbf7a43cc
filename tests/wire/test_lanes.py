"""Two lanes over one stream: whole frames in order on each, and control frames that wait for no more than a window."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from aioparallel._wire import lanes
from aioparallel._wire.frames import HEADER_SIZE, encode, encode_head
from aioparallel._wire.lanes import ASKS, FIRST_WINDOW, MIN_WINDOW, SLICE_BYTES, Lanes
from aioparallel._wire.messages import ACK, DATA, KILL, RUN


def moved(one: Lanes) -> bytes:
    """Return what one end would send now."""
    return b"".join(one.take())


bodies = st.binary(max_size=300) | st.integers(1, 300_000).map(bytes)


@given(st.lists(st.tuples(st.booleans(), bodies), max_size=12), st.data())
@settings(deadline=None)  # thousands of cuts take their time
def test_frames_of_each_lane_arrive_whole_and_in_order_however_the_stream_is_cut(
    frames: list[tuple[bool, bytes]], data: st.DataObject
) -> None:
    near, far = Lanes(), Lanes()
    heard: list[tuple[int, bytes]] = []
    for number, (control, body) in enumerate(frames):
        if control:
            near.say(encode(KILL, 0, number, body[:1000]))
        else:
            near.work([encode_head(RUN, 0, number, b"", [len(body)]), body] if len(body) > 200 else [encode(RUN, 0, number, body)])
    while near.may_take or near.waiting:
        stream = moved(near)
        while stream:
            cut = data.draw(st.integers(1, len(stream)))
            for kind, _, number, body, buffers in far.feed(stream[:cut]):
                heard.append((number, bytes(buffers[0]) if buffers else body))
                assert (kind == KILL) == frames[number][0]
            stream = stream[cut:]
        near.feed(moved(far))
    for control in (True, False):
        sent = [(number, body[:1000] if control else body) for number, (lane, body) in enumerate(frames) if lane == control]
        assert [one for one in heard if frames[one[0]][0] == control] == sent


def test_no_more_than_a_window_of_work_is_under_way_and_control_frames_go_at_once() -> None:
    near = Lanes()
    near.work([bytes(10 * FIRST_WINDOW)])
    first = near.take()
    assert FIRST_WINDOW <= sum(map(len, first)) < FIRST_WINDOW + 1000 and not near.may_take
    assert near.take() == [] and near.waiting == 9 * FIRST_WINDOW
    near.say(b"urgent")
    assert near.take() == [b"urgent"]


def test_a_turn_takes_about_as_much_as_it_is_told() -> None:
    near = Lanes()
    near.work([bytes(FIRST_WINDOW)])
    assert sum(map(len, near.take(1000))) < 1100 and near.may_take


def test_the_window_grows_while_answers_come_soon_and_shrinks_when_they_are_late(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(lanes, "monotonic", lambda: now[0])
    near, far = Lanes(), Lanes()
    near.work([bytes(1 << 26)])

    def turn(seconds: float) -> None:
        stream = moved(near)
        now[0] += seconds
        far.feed(stream)
        near.feed(moved(far))

    for _ in range(4):
        turn(0.01)
    grown = near.window
    assert grown == FIRST_WINDOW * 16
    for _ in range(20):
        turn(1.0)
    assert near.window == MIN_WINDOW
    for _ in range(3):
        turn(0.01)
    assert near.window == MIN_WINDOW * 8


def test_small_work_is_acknowledged_along_with_what_is_sent_anyway(monkeypatch) -> None:
    monkeypatch.setattr(lanes, "monotonic", lambda: 0.05)  # no probe is due but the first
    near, far = Lanes(), Lanes()
    near._next_probe = 0.1
    for _ in range(3):
        near.work([encode(RUN, 0, 1, b"small")])
        assert len(far.feed(moved(near))) == 1
        assert far.take() == []
    far.work([encode(RUN, 0, 2, b"answer")])
    ack, *_ = far.take()
    assert ack[0] == ACK
    near.feed(bytes(ack))
    assert near._acknowledged == near._sent


def test_what_is_asked_for_is_acknowledged_at_once_and_a_window_asks_a_few_times() -> None:
    near, far = Lanes(), Lanes()
    near.work([encode(RUN, 0, 1, b"the first one asks")])
    far.feed(moved(near))
    assert [piece[0] for piece in far.take()] == [ACK]
    near.window = near_window = ASKS * SLICE_BYTES * 2
    near.work([bytes(near_window)])
    asked = [piece[1] for piece in near.take() if len(piece) == HEADER_SIZE and piece[0] == DATA]
    assert len(asked) == 2 * ASKS + 1 and sum(asked) == ASKS


def test_what_fills_a_window_that_was_cut_is_acknowledged_all_the_same() -> None:
    near, far = Lanes(), Lanes()
    near.window = 1 << 24
    near.work([bytes(1 << 20)])
    sent = moved(near)
    while near.take():
        pass
    near.window = MIN_WINDOW
    near.work([bytes(1 << 20)])
    for _ in range(200):
        far.feed(sent)
        near.feed(moved(far))
        sent = moved(near)
        if not near.waiting:
            return
    pytest.fail(f"{near.waiting} bytes wait for ever")


def test_the_slices_are_frames_as_any() -> None:
    near = Lanes()
    near.work([b"a", b"b"])
    head, *pieces = near.take()
    assert head[0] == DATA and [bytes(piece) for piece in pieces] == [b"a", b"b"]
