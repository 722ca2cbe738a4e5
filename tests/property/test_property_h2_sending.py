"""Whatever streams write and whatever windows open: what is sent is what was written, in order and within windows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.proxy.h2_sending import FRAME
from tests.unit.proxy.h2_sending_world import Connection

STREAMS = st.sampled_from([1, 3, 5, 7])
SIZES = st.integers(0, 3 * FRAME)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), STREAMS, SIZES),
        st.tuples(st.just("end"), STREAMS, SIZES),
        st.tuples(st.just("trailers"), STREAMS, st.just(0)),
        st.tuples(st.just("forget"), STREAMS, st.just(0)),
        st.tuples(st.just("window"), STREAMS, st.integers(1, 4 * FRAME)),
        st.tuples(st.just("connection window"), st.just(0), st.integers(1, 4 * FRAME)),
        st.tuples(st.just("pause"), st.just(0), st.just(0)),
        st.tuples(st.just("resume"), st.just(0), st.just(0)),
        st.tuples(st.just("settle"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 4 * FRAME), st.integers(0, 4 * FRAME), STEPS)
def test_what_is_sent_is_what_was_written(
    connection_window: int, stream_window: int, steps: list[tuple[str, int, int]]
) -> None:
    """For every stream: its bytes in order, nothing after its end, nothing of it once it is forgotten; and when all
    windows are open nothing is left."""
    world = Connection()
    engine = world.engine
    engine.connection = connection_window
    engine.streams = dict.fromkeys((1, 3, 5, 7), stream_window)
    written: dict[int, int] = dict.fromkeys((1, 3, 5, 7), 0)
    over: set[int] = set()
    for what, stream, size in steps:
        if what in ("write", "end") and stream not in over:
            world.sending.write(stream, b"x" * size, what == "end")
            written[stream] += size
        elif what == "trailers" and stream not in over:
            world.sending.trailers(stream, [(b"x", b"1")])
        elif what == "forget":
            world.sending.forget(stream)
            written[stream] = sum(n for s, n, _end in engine.sent if s == stream)
        elif what == "window":
            engine.streams[stream] += size
            world.sending.window_opened(stream)
        elif what == "connection window":
            engine.connection += size
            world.sending.window_opened(0)
        elif what == "pause":
            world.far.pause()
        elif what == "resume":
            world.far.resume()
        else:
            world.loop.settle()
        if what in ("end", "trailers", "forget"):
            over.add(stream)
        assert world.sending.size == sum(written.values()) - sum(n for _s, n, _end in engine.sent)

    world.far.resume()
    engine.connection = 1 << 40
    for stream in engine.streams:
        engine.streams[stream] = 1 << 40
    world.sending.window_opened(0)
    for stream in engine.streams:
        world.sending.window_opened(stream)
    world.loop.settle()

    assert world.sending.size == 0
    assert {s: sum(n for t, n, _end in engine.sent if t == s) for s in written} == written
    for stream in written:
        ends = [end for s, _n, end in engine.sent if s == stream]
        assert True not in ends[:-1]
    assert not any(world.sending.pending(stream) or world.sending.blocked(stream) for stream in written)
    world.sending.close()
