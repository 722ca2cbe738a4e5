"""One HTTP/2 connection as the proxy sees it: bytes in, calls of a listener and bytes out.

An engine does no I/O and has no clock. It serves a connection from the preface to the close; which one it is
(:mod:`library` or the lane) its owner does not notice. Stream ids are plain ints; header lists are pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason

Pair: TypeAlias = tuple[bytes, ...]
"""A field: name and value, always two. Compiled code takes tuples of a declared length apart and makes others of the
parts, and some pairs are more than their parts (:class:`lane_pair.NeverIndexedPair`), so it is not declared.
"""

Pairs: TypeAlias = Sequence[Pair]
"""A header list: (lower-case name, value), pseudo fields first. Never changed by those who get one."""

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 3.4)."""

MAX_STREAM: Final = 2**31 - 1
"""The highest stream id; as ``last`` of a GOAWAY: nothing is refused yet, but open no more (RFC 9113 6.8)."""

MAX_WINDOW: Final = 2**31 - 1

# Error codes, RFC 9113 section 7. Peers may send any other 32-bit number.
NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD

CODE_NAMES: Final = {
    NO_ERROR: "NO_ERROR",
    PROTOCOL_ERROR: "PROTOCOL_ERROR",
    INTERNAL_ERROR: "INTERNAL_ERROR",
    FLOW_CONTROL_ERROR: "FLOW_CONTROL_ERROR",
    SETTINGS_TIMEOUT: "SETTINGS_TIMEOUT",
    STREAM_CLOSED: "STREAM_CLOSED",
    FRAME_SIZE_ERROR: "FRAME_SIZE_ERROR",
    REFUSED_STREAM: "REFUSED_STREAM",
    CANCEL: "CANCEL",
    COMPRESSION_ERROR: "COMPRESSION_ERROR",
    CONNECT_ERROR: "CONNECT_ERROR",
    ENHANCE_YOUR_CALM: "ENHANCE_YOUR_CALM",
    INADEQUATE_SECURITY: "INADEQUATE_SECURITY",
    HTTP_1_1_REQUIRED: "HTTP_1_1_REQUIRED",
}


def code_name(code: int) -> str:
    """The name of an error code for messages to people; its number if it has none."""
    return CODE_NAMES.get(code) or f"{code:#x}"


class ConnectionFault(MeshError):  # noqa: N818 - says what it is, as BadMessage does
    """The peer broke the connection's rules or a budget: a GOAWAY with ``code`` has been queued.

    What :meth:`Engine.take` still returns is to be written, then the connection is to be closed. The streams that
    were open are not reported one by one: their owner ends them with this error.
    """

    def __init__(
        self, reason: Reason, message: str, code: int, *, client_side: bool, told: bool = False
    ) -> None:
        super().__init__(
            reason,
            message,
            status=502 if client_side else 400,
            side=Side.CALLEE if client_side else Side.CALLER,
            sent=Sent.SOME if client_side else Sent.NOTHING,
        )
        self.code = code
        self.told = told
        """A stream fault has told the listener the same, so it has been accounted."""


class Engine(Protocol):
    """One connection. All calls are synchronous; none but ``receive`` calls the listener."""

    @property
    def open_streams(self) -> int:
        """Streams that are open or half-closed; 0 after every exchange has ended."""
        ...

    @property
    def capacity(self) -> int:
        """Client side: streams that may be opened now by the peer's MAX_CONCURRENT_STREAMS; 0 also once a GOAWAY was
        sent or received, and when ids are used up. Server side: 0.
        """
        ...

    @property
    def last_peer_stream(self) -> int:
        """The highest stream id that the peer has opened and that was not refused; 0 before the first."""
        ...

    @property
    def exhausted(self) -> bool:
        """Server side: the peer has opened ``Budgets.max_streams``, it is time for a graceful GOAWAY (H8)."""
        ...

    @property
    def connect_protocol(self) -> bool:
        """Client side: the endpoint takes extended CONNECT (RFC 8441); known once its SETTINGS have come."""
        ...

    @property
    def headers_since(self) -> float | None:
        """The ``now`` at which a header block began that is not complete, else None (H3): whoever has the clock ends
        the connection when it stays for ``Budgets.header_seconds``.
        """
        ...

    @property
    def blocked_output(self) -> int:
        """Bytes that :meth:`take` would return: when a peer does not read its control frames, stop reading it."""
        ...

    def start(self) -> None:
        """Queue our preface and SETTINGS. Called once, first."""
        ...

    def start_upgraded(self, settings: bytes) -> None:
        """Server side, instead of :meth:`start`: an HTTP/1.1 request with ``Upgrade: h2c`` was accepted.

        ``settings`` is the decoded payload of its HTTP2-Settings. Stream 1 is then open and its request complete,
        without a call of ``on_head``; the client's preface follows. Raises ConnectionFault.
        """
        ...

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the peer; calls the listener in the order of the frames.

        ``now`` is in seconds. Raises ConnectionFault after queueing GOAWAY; after it no further byte is taken. The
        listener may call any other method from within its calls.
        """
        ...

    def take(self) -> bytes:
        """Everything to be written now, in order; b"" if nothing. The engine forgets it."""
        ...

    def open(self, pairs: Pairs, end: bool) -> int:
        """Client side: send a request head on a new stream, ``end`` if it has no body. Returns the stream's id.

        Raises ValueError when ``capacity`` is 0.
        """
        ...

    def send_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        """Server side: send a response head, also a 1xx (then ``end`` is False). Ignored on a closed stream."""
        ...

    def send_data(self, stream: int, data: bytes, end: bool) -> None:
        """Send body bytes, at most :meth:`window` of them, in frames as large as the peer takes.

        Ignored on a closed stream. Raises ValueError for more than the window.
        """
        ...

    def send_trailers(self, stream: int, pairs: Pairs) -> None:
        """End the stream with trailers (or, without pairs, as an empty end). Ignored on a closed stream."""
        ...

    def window(self, stream: int) -> int:
        """Body bytes that may be sent now: what the stream and the connection have left; 0 for a closed stream.

        Of stream 0: what the connection has left.
        """
        ...

    def credit(self, stream: int, size: int) -> None:
        """``size`` body bytes of the stream have left us: its window is given back, when enough has come together.

        Nothing for a stream whose body is complete or that is closed.
        """
        ...

    def reset(self, stream: int, code: int) -> None:
        """End the stream with RST_STREAM, unless it is closed; nothing more is heard of it."""
        ...

    def goaway(self, code: int, debug: bytes = b"", last: int | None = None) -> None:
        """Queue a GOAWAY. ``last`` defaults to ``last_peer_stream``; MAX_STREAM is the graceful first notice.

        Open streams go on; peers' streams above ``last`` are ignored from then on.
        """
        ...

    def ping(self, payload: bytes) -> None:
        """Queue a PING with these 8 bytes; ``on_pong`` brings them back."""
        ...


class Listener(Protocol):
    """What happens on a connection, in the order of the peer's frames."""

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        """A request head (server side) or the final response head (client side), proved; ``end``: no body follows.

        A request that the peer reset in the bytes of the same ``receive`` is not reported at all (H1).
        """
        ...

    def on_informational(self, stream: int, pairs: Pairs) -> None:
        """Client side: a 1xx head."""
        ...

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        """Body bytes without padding; possibly b"" with ``end``. To be given back with :meth:`Engine.credit`."""
        ...

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        """Trailers, proved but not filtered; they end the body."""
        ...

    def on_reset(self, stream: int, code: int) -> None:
        """The peer reset the stream. After a complete response NO_ERROR only says: send no more (RFC 9113 8.1)."""
        ...

    def on_stream_fault(self, stream: int, error: MeshError, code: int) -> None:
        """The engine refused what came on that stream, which may be one that the listener has not seen yet.

        ``code`` is that of the RST_STREAM which has been queued; the stream is closed. NO_ERROR instead says that
        nothing was queued: this request head (server side) is to be answered with ``error`` and, as its body is not
        reported, the stream then reset.
        """
        ...

    def on_window(self, stream: int) -> None:
        """More may be sent on this stream; 0: possibly on every stream."""
        ...

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        """The peer takes no new streams, and has not processed ours above ``last``: they are closed without another
        word after this call. Comes again for each GOAWAY.
        """
        ...

    def on_settings(self) -> None:
        """The peer's settings were applied: ``capacity`` may have changed."""
        ...

    def on_pong(self, payload: bytes) -> None:
        """The answer to our PING."""
        ...
