"""What is measured."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Case:
    """One kind of load on every proxy."""

    name: str
    title: str
    requests: str
    """``plain``, ``big`` (64 KB answers), ``upload`` (1 MB bodies), ``varied`` (50 names, 600-900 byte heads)
    ``websocket`` (echoed messages), ``stream``; to endpoints of HTTP/2: ``h2`` (h2load, always the same),
    ``h2-varied`` (different in each), ``h1-varied`` (from HTTP/1.1 callers) or ``grpc`` (unary calls).
    """
    connections: int
    rate: float | None = None
    """Requests per second, open loop; None is as fast as it goes."""
    with_direct: bool = False
    """Also without a proxy."""
    only: str | None = None
    """The one proxy that the case makes sense for."""
    message_bytes: int = 0
    """Of a WebSocket message."""
    disturbance: str | None = None
    """``storm``: a namer's files change all the time; ``endpoints``: 40,000 endpoints are loaded."""

    streams: int = 0
    """Requests at once on each connection, HTTP/2 and gRPC."""

    connections_only: bool = False
    """The proxies carry connections, not requests."""

    tls: str | None = None
    """Where the proxies speak TLS: a name of :data:`tests.bench.tls_load.WAYS`."""
    handshakes: str = "keep"
    """Of callers with TLS: ``keep`` their connections, or a new one for each request with a ``full`` handshake or a
    ``resumed`` session.
    """

    @property
    def endpoints_speak_h2(self) -> bool:
        return self.requests in ("h2", "h2-varied", "h1-varied", "grpc")

    @property
    def topology(self) -> str:
        if self.tls is not None:
            return self.tls
        if self.connections_only:
            return "tcp"
        if self.endpoints_speak_h2:
            return "h2"
        if self.disturbance == "endpoints":
            return "large"
        return "many" if self.requests == "varied" else "one"


RATE_CONNECTIONS = 10


def _rate(rate: int, requests: str) -> Case:
    suffix = "" if requests == "plain" else "-varied"
    return Case(
        name=f"rate-{rate}{suffix}",
        title=f"fixed {rate:,}/s, {RATE_CONNECTIONS} connections, {requests}",
        requests=requests,
        connections=RATE_CONNECTIONS,
        rate=rate,
        with_direct=requests == "plain",
    )


def _websocket(size: int, connections: int) -> Case:
    return Case(
        name=f"ws-{size}-{connections}",
        title=f"WebSocket echo, {size:,} B messages, {connections} connections, one message in flight on each",
        requests="websocket",
        connections=connections,
        message_bytes=size,
    )


CASES = (
    Case(name="sat-32", title="saturation, 32 connections, 64 B, one name", requests="plain", connections=32),
    Case(
        name="sat-512", title="saturation, 512 connections, 64 B, one name", requests="plain", connections=512
    ),
    Case(
        name="sat-32-64k", title="saturation, 32 connections, 64 KB answers", requests="big", connections=32
    ),
    Case(
        name="sat-512-64k",
        title="saturation, 512 connections, 64 KB answers",
        requests="big",
        connections=512,
    ),
    Case(
        name="sat-32-varied",
        title="saturation, 32 connections, 64 B, 50 names x 20 endpoints, varied heads",
        requests="varied",
        connections=32,
    ),
    Case(
        name="sat-512-varied",
        title="saturation, 512 connections, 64 B, 50 names x 20 endpoints, varied heads",
        requests="varied",
        connections=512,
    ),
    Case(name="upload", title="uploads of 1 MB, 8 connections", requests="upload", connections=8),
    _websocket(64, 32),
    _websocket(64, 512),
    _websocket(4096, 32),
    _websocket(4096, 512),
    _rate(200, "plain"),
    _rate(1000, "plain"),
    _rate(3000, "plain"),
    _rate(200, "varied"),
    _rate(1000, "varied"),
    _rate(3000, "varied"),
    Case(
        name="lone",
        title="a lone caller: one connection, closed loop",
        requests="plain",
        connections=1,
        rate=0,
        with_direct=True,
    ),
    Case(
        name="storm",
        title="1,000/s while the endpoint files change 200 times a second",
        requests="plain",
        connections=RATE_CONNECTIONS,
        rate=1000,
        only="hostmesh",
        disturbance="storm",
    ),
    Case(
        name="endpoints",
        title="1,000/s with 40 names x 1,000 endpoints loaded",
        requests="plain",
        connections=RATE_CONNECTIONS,
        rate=1000,
        only="hostmesh",
        disturbance="endpoints",
    ),
)

CASES += (
    Case(
        name="tcp-32",
        title="TCP proxies, saturation, 32 connections of small requests",
        requests="plain",
        connections=32,
        connections_only=True,
        with_direct=True,
    ),
    Case(
        name="tcp-1g",
        title="TCP proxies, a stream of 1 GiB (a request is 1 MiB)",
        requests="stream",
        connections=1,
        connections_only=True,
        with_direct=True,
    ),
    Case(
        name="tcp-8",
        title="TCP proxies, 8 streams of 128 MiB at once (a request is 1 MiB)",
        requests="stream",
        connections=8,
        connections_only=True,
    ),
)

CASES += (
    Case(
        name="h2-8x16",
        title="h2c to h2c, 8 connections x 16 streams, always the same (h2load)",
        requests="h2",
        connections=8,
        streams=16,
    ),
    Case(
        name="h2-1x1",
        title="h2c to h2c, 1 connection x 1 stream, always the same (h2load)",
        requests="h2",
        connections=1,
        streams=1,
    ),
    Case(
        name="h2-8x16-varied",
        title="h2c to h2c, 8 connections x 16 streams, 600-900 B heads with new paths, trace ids and cookies",
        requests="h2-varied",
        connections=8,
        streams=16,
    ),
    Case(
        name="h2-1x1-varied",
        title="h2c to h2c, 1 connection x 1 stream, varied heads",
        requests="h2-varied",
        connections=1,
        streams=1,
    ),
    Case(
        name="h2-rate-1000-varied",
        title=f"h2c to h2c, fixed 1,000/s, {RATE_CONNECTIONS} connections, varied heads",
        requests="h2-varied",
        connections=RATE_CONNECTIONS,
        streams=100,
        rate=1000,
    ),
    Case(
        name="h1-h2-128-varied",
        title="HTTP/1.1 to h2c, 128 connections, varied heads",
        requests="h1-varied",
        connections=128,
    ),
    Case(
        name="h1-h2-1-varied",
        title="HTTP/1.1 to h2c, 1 connection, varied heads",
        requests="h1-varied",
        connections=1,
        rate=0,
    ),
    Case(
        name="grpc-8x16",
        title="gRPC unary, grpcio on both sides, 8 connections x 16 calls, metadata of their own",
        requests="grpc",
        connections=8,
        streams=16,
    ),
    Case(
        name="grpc-rate-1000",
        title=f"gRPC unary, fixed 1,000/s, {RATE_CONNECTIONS} connections, metadata of their own",
        requests="grpc",
        connections=RATE_CONNECTIONS,
        streams=100,
        rate=1000,
    ),
)

CASES += (
    Case(
        name="tls-in-32",
        title="TLS callers, plain endpoint, 32 connections",
        requests="plain",
        connections=32,
        tls="tls-in",
    ),
    Case(
        name="tls-out-32",
        title="plain callers, TLS endpoint, 32 connections",
        requests="plain",
        connections=32,
        tls="tls-out",
    ),
    Case(
        name="mtls-32",
        title="mTLS on both sides, 32 connections",
        requests="plain",
        connections=32,
        tls="mtls",
    ),
    Case(
        name="mtls-32-varied",
        title="mTLS on both sides, 32 connections, varied heads",
        requests="one-varied",
        connections=32,
        tls="mtls",
    ),
    Case(
        name="tls-full",
        title="a request on each new connection with a full handshake (TLS 1.3, ECDSA P-256), 32 at once",
        requests="plain",
        connections=32,
        tls="tls-in",
        handshakes="full",
    ),
    Case(
        name="tls-resumed",
        title="a request on each new connection with a resumed session, 32 at once",
        requests="plain",
        connections=32,
        tls="tls-in",
        handshakes="resumed",
    ),
    Case(
        name="tls-h2-8x16",
        title="h2 over TLS to h2c, 8 connections x 16 streams, always the same (h2load)",
        requests="h2",
        connections=8,
        streams=16,
        tls="tls-h2",
    ),
    Case(
        name="tls-h2-8x16-varied",
        title="h2 over TLS to h2c, 8 connections x 16 streams, varied heads",
        requests="h2-varied",
        connections=8,
        streams=16,
        tls="tls-h2",
    ),
)

MEMORY = "memory"
"""The name under which the memory measurements are selected."""
