"""TLS over a transport: what the session above is told, whatever the wire does to the session below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostmesh.base.reasons import Reason
from hostmesh.protocol.tls.codec import TlsCodec
from hostmesh.protocol.tls.failures import TlsConnectionError, TlsFailure
from hostmesh.pump.marks import HIGH_MARK
from hostmesh.pump.memory import MemoryLoop
from hostmesh.pump.memory_transport import MemoryTransport, pair
from hostmesh.pump.secure import HANDSHAKE_TIME, Handshake, SecureTransport
from tests import tls_pairs
from tests.tls_files import TlsFiles
from tests.tls_records import KEY_UPDATE_WITH_ANSWER, maker_for
from tests.unit.pump.pump_world import Told


class End:
    """One side of a connection: its handshake, then its session and its transport."""

    def __init__(self, loop: MemoryLoop, inner: MemoryTransport, codec: TlsCodec, **options: Any) -> None:
        self.told = Told()
        self.inner = inner
        self.transport: SecureTransport | None = None
        self.failure: TlsFailure | None = None
        self.handshake = Handshake(loop, inner, codec, self._established, self._failed, **options)
        inner.session = self.handshake
        inner.open()

    def _established(self, transport: SecureTransport) -> Told:
        self.transport = transport
        return self.told

    def _failed(self, failure: TlsFailure) -> None:
        assert self.failure is None
        self.failure = failure

    @property
    def up(self) -> SecureTransport:
        assert self.transport is not None
        return self.transport


class Link:
    """A caller's and a server's end on one loop."""

    def __init__(self, files: TlsFiles, read_size: int | None = None) -> None:
        self.loop = MemoryLoop()
        self.loop.read_size = read_size
        near, far = pair(self.loop, ("10.0.0.1", 1000), ("10.0.0.2", 443), 0.001, 64 * 1024)
        self.server = End(self.loop, far, tls_pairs.server(files).connection())
        self.caller = End(self.loop, near, tls_pairs.client(files).connection("web.mesh", "web.mesh"))

    def agree(self) -> Link:
        self.caller.handshake.start()
        self.loop.run_for(1)
        return self

    def close(self) -> None:
        for end in (self.caller, self.server):
            end.inner.abort()
        self.loop.run_for(1)


@pytest.fixture(params=[None, 1], ids=["whole", "byte by byte"])
def link(tls_files: TlsFiles, request: pytest.FixtureRequest) -> Iterator[Link]:
    """Both ends after their handshake, on a wire that delivers as it likes."""
    made = Link(tls_files, request.param).agree()
    yield made
    made.close()


def test_bytes_go_both_ways(link: Link) -> None:
    """In order, however they were written."""
    link.caller.up.write(b"hello")
    link.caller.up.write(b" world")
    link.server.up.write(b"hi")
    link.loop.run_for(1)

    assert link.server.told.data == b"hello world"
    assert link.caller.told.data == b"hi"
    assert link.caller.up.identity is not None
    assert "web.mesh" in link.caller.up.identity.dns_names
    assert link.server.up.identity is None


def test_large_writes_block_and_go_on(tls_files: TlsFiles) -> None:
    """Ciphertext counts towards the high mark; who waits is told."""
    link = Link(tls_files).agree()
    link.server.up.pause()
    size = 4 * HIGH_MARK
    link.caller.up.write(b"x" * size)
    assert link.caller.up.blocked
    assert link.caller.up.unsent
    link.loop.run_for(1)
    assert link.server.told.data == b""
    link.server.up.resume()
    link.loop.run_for(10)

    assert len(link.server.told.data) == size
    assert link.caller.told.events == ["writable"]
    assert not link.caller.up.blocked
    link.close()


def test_an_end_is_told_behind_the_data(link: Link) -> None:
    """shutdown_write is close_notify and FIN; the other direction goes on."""
    link.caller.up.write(b"last")
    link.caller.up.shutdown_write()
    link.caller.up.write(b"too late")
    link.loop.run_for(1)
    link.server.up.write(b"answer")
    link.loop.run_for(1)

    assert link.server.told.events == ["data", "eof"]
    assert link.server.told.data == b"last"
    assert link.server.up.ended
    assert link.caller.told.data == b"answer"


def test_a_close_ends_both_sides_without_an_error(link: Link) -> None:
    """What was written arrives first."""
    link.server.up.write(b"bye")
    link.server.up.close()
    link.loop.run_for(1)
    link.caller.up.close()
    link.loop.run_for(5)

    assert link.caller.told.events == ["data", "eof", "lost"]
    assert link.caller.told.error is None
    assert link.server.told.events[-1] == "lost"
    assert link.server.told.error is None


def test_who_answers_an_end_waits_for_nothing(link: Link) -> None:
    """Behind close_notify nothing comes: what was written leaves, and the connection is gone before any FIN."""
    link.caller.up.write(b"ask")
    link.caller.inner.write(link.caller.up._codec.close_notify())
    link.loop.run_while(lambda: "eof" not in link.server.told.events)
    link.server.up.write(b"answer")
    link.server.up.close()
    at_once = link.loop.now()
    link.loop.run_while(lambda: "lost" not in link.server.told.events)
    assert link.loop.now() == at_once
    link.loop.run_for(1)

    assert link.server.told.error is None
    assert link.caller.told.data == b"answer"
    assert link.caller.told.events == ["data", "eof"]


def test_a_cut_is_no_end(link: Link) -> None:
    """A FIN without close_notify could be anybody's (RFC 8446 section 6.1)."""
    link.caller.up.write(b"half a messa")
    link.caller.inner.shutdown_write()
    link.loop.run_for(1)

    assert link.server.told.events == ["data", "lost"]
    assert isinstance(link.server.told.error, ConnectionResetError)
    assert "close_notify" in str(link.server.told.error)


def test_nothing_is_delivered_while_paused(link: Link) -> None:
    """Neither data nor the end of it; both come in order after resume."""
    link.server.up.pause()
    link.caller.up.write(b"data")
    link.caller.up.shutdown_write()
    link.loop.run_for(1)
    assert link.server.told.events == []
    link.server.up.resume()
    link.loop.run_for(1)

    assert link.server.told.events == ["data", "eof"]


def test_what_comes_with_the_handshake_waits_for_resume(tls_files: TlsFiles) -> None:
    """A session that pauses at once misses nothing of what the peer has said before it was there."""
    loop = MemoryLoop()
    near, far = pair(loop, ("10.0.0.1", 1000), ("10.0.0.2", 443), 0.001, 64 * 1024)
    caller_codec = tls_pairs.client(tls_files).connection("web.mesh", "web.mesh")

    class Pausing(End):
        def _established(self, transport: SecureTransport) -> Told:
            transport.pause()
            return super()._established(transport)

    server = Pausing(loop, far, tls_pairs.server(tls_files).connection())
    told = Told()
    near.session = told
    near.open()
    near.write(caller_codec.handshake(b""))
    loop.run_for(1)
    # The last flight and the first words in one segment, the end behind them.
    near.write(
        caller_codec.handshake(told.data) + caller_codec.encrypt(b"at once") + caller_codec.close_notify()
    )
    loop.run_for(1)
    assert server.told.events == []
    server.up.resume()
    loop.run_for(1)

    assert server.told.events == ["data", "eof"]
    assert server.told.data == b"at once"
    near.abort()
    far.abort()
    loop.run_for(1)


def test_changed_bytes_end_the_connection(link: Link) -> None:
    """The session is told why, the peer gets an alert; nothing of what came is delivered."""
    sealed = bytearray(link.caller.up._codec.encrypt(b"pay 1 to Bob"))
    sealed[-1] ^= 1
    link.caller.inner.write(bytes(sealed))
    link.loop.run_for(1)

    assert link.server.told.events == ["lost"]
    assert isinstance(link.server.told.error, TlsConnectionError)
    assert link.caller.told.events == ["lost"]
    assert isinstance(link.caller.told.error, TlsConnectionError)
    assert link.caller.told.error.failure.reason is Reason.TLS_REJECTED


def test_a_handshake_is_bounded_in_time(tls_files: TlsFiles) -> None:
    """X3: a peer that says nothing, or stops in the middle, is closed after 10 s."""
    link = Link(tls_files)
    link.loop.run_for(HANDSHAKE_TIME - 0.1)
    assert link.server.failure is None
    link.loop.run_for(0.2)

    assert link.server.failure is not None
    assert link.server.failure.reason is Reason.TLS_TIMEOUT
    link.close()


def test_a_handshake_that_is_broken_off_is_told_once(tls_files: TlsFiles) -> None:
    """By a FIN or by a reset, with what came later ignored."""
    for breaks in ("shutdown_write", "reset"):
        link = Link(tls_files)
        link.caller.handshake.start()
        getattr(link.caller.inner, breaks)()
        link.loop.run_for(HANDSHAKE_TIME + 1)

        assert link.server.failure is not None
        assert link.server.failure.reason is Reason.TLS_HANDSHAKE
        assert link.server.told.events == []
        link.close()


def test_a_cancelled_handshake_tells_nobody(tls_files: TlsFiles) -> None:
    """And closes the connection."""
    link = Link(tls_files)
    link.caller.handshake.start()
    link.caller.handshake.cancel()
    link.loop.run_for(HANDSHAKE_TIME + 1)

    assert link.caller.failure is None
    assert link.caller.inner.closed
    link.close()


def test_a_peer_without_tls_gets_an_answer_it_understands(tls_files: TlsFiles) -> None:
    """In plain text, where the server has one; no engine is asked."""
    loop = MemoryLoop()
    near, far = pair(loop, ("10.0.0.1", 1000), ("10.0.0.2", 443), 0.001, 64 * 1024)
    codec = tls_pairs.server(tls_files).connection()
    server = End(loop, far, codec, answer=lambda data: b"not " + data[:3])
    told = Told()
    near.session = told
    near.open()
    near.write(b"GET / HTTP/1.1\r\n\r\n")
    loop.run_for(1)

    assert told.data == b"not GET"
    assert told.events == ["data", "eof"]
    assert server.failure is not None
    assert server.failure.reason is Reason.TLS_NOT_SPOKEN
    near.abort()
    loop.run_for(5)


def test_a_session_that_cannot_be_made_closes_the_connection(tls_files: TlsFiles) -> None:
    """Its error is reported by the loop; nobody else would close it."""
    errors: list[BaseException] = []
    loop = MemoryLoop(report=errors.append)
    near, far = pair(loop, ("10.0.0.1", 1000), ("10.0.0.2", 443), 0.001, 64 * 1024)

    class Failing(End):
        def _established(self, transport: SecureTransport) -> Told:
            raise RuntimeError("no session")

    Failing(loop, far, tls_pairs.server(tls_files).connection())
    caller = End(loop, near, tls_pairs.client(tls_files).connection("web.mesh", "web.mesh"))
    caller.handshake.start()
    loop.run_for(1)

    assert [str(error) for error in errors] == ["no session"]
    assert far.closed
    near.abort()
    loop.run_for(1)


def test_an_endpoint_is_told_when_an_idle_connection_is_closed(link: Link) -> None:
    """abort of the dialling side says close_notify; that of a server, whose answer may be cut, does not."""
    link.caller.up.abort()
    link.loop.run_for(1)

    assert link.server.told.events == ["eof"]
    link.server.up.abort()
    link.loop.run_for(5)
    assert link.caller.told.events == ["lost"]


def test_a_cut_answer_does_not_look_complete(link: Link) -> None:
    """abort of a server's connection is a cut for its caller."""
    link.server.up.write(b"half an ans")
    link.loop.run_for(1)
    link.server.up.abort()
    link.loop.run_for(1)

    assert link.caller.told.events == ["data", "lost"]
    assert isinstance(link.caller.told.error, ConnectionError)


def test_x3_answers_that_nobody_reads_are_bounded(tls_files: TlsFiles, tmp_path: Path) -> None:
    """A caller that asks for new keys again and again, and reads nothing, is cut; one that reads is answered."""
    loop = MemoryLoop()
    near, far = pair(loop, ("10.0.0.1", 1000), ("10.0.0.2", 443), 0.001, 64 * 1024)
    raw, told = Told(), Told()
    near.session = raw
    codec = tls_pairs.server(tls_files).connection()
    maker, flight = maker_for(tls_files, codec, tmp_path)
    codec.handshake(flight)
    secure = SecureTransport(far, codec, loop.turn)
    far.session = secure
    near.open()
    far.open()
    secure.begin(told)

    def ask() -> None:
        """Ask for 30 renewals, and let the answers come."""
        near.write(b"".join(maker.key_update(KEY_UPDATE_WITH_ANSWER) for _ in range(30)))
        loop.run_for(0.1)

    for _ in range(300):
        ask()
    assert told.events == []
    near.pause()
    read = len(raw.data)
    for _ in range(300):
        if told.events:
            break
        ask()
    assert told.events == ["lost"]
    assert "new keys" in str(told.error)
    assert len(raw.data) == read
    assert far.closed
    near.abort()
    loop.run_for(1)
