"""What a request brings along in ``l5d-*``, ``Via`` and friends, and what it takes on to the next hop.

Only requests that carry such fields, or whose server adds lines of its own, come here; the others get a new trace and
nothing else (:meth:`Router.write_context`).
"""

from __future__ import annotations

from binascii import b2a_base64, hexlify
from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.syntax import DtabError
from hostmesh.protocol.context import TraceId, count_hops, decode_rate, is_chosen, root_trace
from hostmesh.protocol.grpc import format_timeout, parse_timeout
from hostmesh.protocol.h2.heads import line_pairs
from hostmesh.protocol.upgrade import upgrade_to_forward
from hostmesh.proxy.diagnostics import diagnosis_of
from hostmesh.routing.deadline import Deadline, parse_deadlines

if TYPE_CHECKING:
    from hostmesh.protocol.h1_message import Special
    from hostmesh.protocol.h2.engine import Pair
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.router import Router

MAX_LOCAL_DTAB = 4096
"""Bytes of ``l5d-dtab`` and ``l5d-ctx-dtab`` together: the rest of a head limit is for everybody else."""


VIA_H1 = b"Via: 1.1 hostmesh\r\n"
VIA_H2 = b"Via: h2 hostmesh\r\n"
"""What a request came as, named as Linkerd 1 does."""

VIA_H1_PAIR: Final = (b"via", b"1.1 hostmesh")
VIA_H2_PAIR: Final = (b"via", b"h2 hostmesh")

PLAIN_FIELDS: Final = frozenset((b"host", b"content-length", b"te"))
"""Special fields of a head that say nothing to a hop."""

GRPC_TIMEOUT: Final = frozenset((b"grpc-timeout",))


class Context:
    """The context of one request. ``trace`` is our own span as a server."""

    __slots__ = ("deadline", "forwarded", "grpc_deadline", "local", "trace")

    def __init__(self) -> None:
        self.trace: TraceId | None = None
        self.deadline: Deadline | None = None
        self.grpc_deadline: float | None = None
        """When the caller's ``grpc-timeout`` is over, on the loop's clock."""
        self.local: Dtab | None = None
        self.forwarded = b""
        """Whole lines: Forwarded, the timestamp header."""

    def lines(self, ex: Exchange, router: Router, now: float) -> bytes:
        """The lines to forward; a new client span at each call, so one per attempt."""
        parts = [
            router.propagator.lines(self._span(ex, router)),
            VIA_H2 if ex.head.version == 20 else VIA_H1,
            self.forwarded,
        ]
        deadline = self._deadline(ex, router, now)
        if deadline:
            parts.append(b"l5d-ctx-deadline: %b\r\n" % deadline)
        if self.grpc_deadline is not None:
            parts.append(b"grpc-timeout: %b\r\n" % self._time_left(router, self.grpc_deadline))
        if self.local is not None:
            parts.append(b"l5d-ctx-dtab: %b\r\n" % self.local.show().encode("ascii"))
        return b"".join(parts)

    def pairs(self, ex: Exchange, router: Router, now: float) -> list[Pair]:
        """As :meth:`lines`, for an endpoint that speaks HTTP/2."""
        pairs: list[Pair] = router.propagator.pairs(self._span(ex, router))
        pairs.append(VIA_H2_PAIR if ex.head.version == 20 else VIA_H1_PAIR)
        if self.forwarded:
            pairs += line_pairs(self.forwarded)
        deadline = self._deadline(ex, router, now)
        if deadline:
            pairs.append((b"l5d-ctx-deadline", deadline))
        if self.grpc_deadline is not None:
            pairs.append((b"grpc-timeout", self._time_left(router, self.grpc_deadline)))
        if self.local is not None:
            pairs.append((b"l5d-ctx-dtab", self.local.show().encode("ascii")))
        return pairs

    def _span(self, ex: Exchange, router: Router) -> TraceId:
        """The span of the attempt that is to be made."""
        server = self.trace
        assert server is not None
        ex.reqid = server.hex.encode("ascii") if server.high else server.low_hex
        return server.child(router.trace_rng)

    def _deadline(self, ex: Exchange, router: Router, now: float) -> bytes:
        """The value of ``l5d-ctx-deadline``; b"" for none."""
        deadline = ex.deadline
        client = ex.client
        if client is not None and client.attempt_timeout_ms is not None:
            attempt = now + client.attempt_timeout_ms / 1000
            deadline = attempt if deadline is None else min(deadline, attempt)
        if deadline is None:
            return b""
        wall = router.env.wall()
        # Both clocks are read here: ``now`` may be older, and the difference would be time given away.
        until = int((wall + deadline - router.env.now()) * 1e9)
        stamp = int(wall * 1e9)
        if self.deadline is not None:
            stamp = self.deadline.timestamp
            # The way through our clock costs some microseconds, or a pause: never hand on more than was given.
            until = min(until, self.deadline.deadline)
        return b"%d %d" % (stamp, until)

    def _time_left(self, router: Router, until: float) -> bytes:
        """The value of ``grpc-timeout``: what is left of the caller's own, and nothing of our timeouts. Those end with
        the response head, while an endpoint ends the whole call at this one, however long its response is to be."""
        return format_timeout(int((until - router.env.now()) * 1e9))


class PlainContext(Context):
    """Of a request by HTTP/2 that brought none: one for all of them. What :meth:`Router.write_context` does for HTTP/1
    requests of that kind."""

    __slots__ = ()

    def lines(self, ex: Exchange, router: Router, now: float) -> bytes:
        return b"".join([b"%b: %b\r\n" % pair for pair in self.pairs(ex, router, now)])

    def pairs(self, ex: Exchange, router: Router, now: float) -> list[Pair]:
        client = ex.client
        if ex.deadline is not None or (client is not None and client.attempt_timeout_ms is not None):
            ex.context = context = Context()
            context.trace = root_trace(router.trace_rng)
            return context.pairs(ex, router, now)
        raw: bytes = router.trace_rng.getrandbits(128).to_bytes(16, "big")
        root = raw[8:]
        ex.reqid = reqid = hexlify(root)
        # The root is the server's span, the client's is its child (reference 8.3).
        trace = b2a_base64(raw + root + _ROOT_FLAGS, newline=False)
        return [(b"l5d-reqid", reqid), (b"l5d-ctx-trace", trace), VIA_H2_PAIR]


PLAIN: Final = PlainContext()
_ROOT_FLAGS: Final = bytes(8)


def read_context(ex: Exchange, now: float) -> None:
    """Read the context of ``ex`` into it. Raises MeshError (400) for a bad dtab or too many hops."""
    head = ex.head
    server = ex.server
    router = ex.router
    special = head.special
    if (
        head.version == 20
        and server.plain_lines
        and not router.always_context
        and head.method != b"TRACE"
        and _are_plain(special)
    ):
        timeout = head.get(b"grpc-timeout") if ex.is_grpc else None
        if timeout is None:
            ex.context = PLAIN
            return
        ex.context = context = Context()
        context.trace = root_trace(router.trace_rng)
        _take_grpc_timeout(ex, context, timeout, now)
        return
    context = Context()
    if any(name == b"via" for name, _ in special):
        hops = count_hops(special)
        if hops > server.max_call_depth:
            raise MeshError(
                Reason.LIMIT_CALL_DEPTH,
                f"Maximum number of calls ({server.max_call_depth}) has been exceeded. "
                "Please check for proxy loops.",
                status=400,
                side=Side.CALLER,
            )
    if not server.clear_context:
        _read_l5d(ex, context, now)
    ex.drop = router.owned_fields
    if ex.is_grpc and (timeout := head.get(b"grpc-timeout")) is not None:
        _take_grpc_timeout(ex, context, timeout, now)
    if context.trace is None:
        context.trace = root_trace(router.trace_rng)
    settings = server.settings
    if settings.forwarded is not None:
        context.forwarded = settings.forwarded(ex)
    if settings.timestamp_header is not None:
        context.forwarded += b"%b: %d\r\n" % (settings.timestamp_header, int(router.env.wall() * 1000))
    if settings.timeout_ms is not None:
        limit = now + settings.timeout_ms / 1000
        if ex.deadline is None or limit < ex.deadline:
            ex.deadline = limit
            ex.server_timeout = True
    if settings.timestamp_header is not None:
        ex.drop |= {settings.timestamp_header.lower()}
    if settings.forwarded is not None and server.clear_context:
        # What an untrusted caller says of those before it is replaced, what a trusted one says is added to (T4).
        ex.drop |= {b"forwarded"}
    if head.method == b"TRACE":
        ex.diagnosis = diagnosis = diagnosis_of(head)
        if diagnosis is not None and diagnosis.max_forwards is not None:
            ex.drop |= {b"max-forwards"}
            context.forwarded += diagnosis.line
    elif head.upgrade is not None:
        ex.upgrade = upgrade_to_forward(head, settings.upgrades)
    ex.context = context


def _read_l5d(ex: Exchange, context: Context, now: float) -> None:
    head = ex.head
    router = ex.router
    ctx_dtab: list[bytes] = []
    user_dtab: list[bytes] = []
    deadlines: list[bytes] = []
    rate: float | None = None
    for name, value in head.special:
        if name[:4] != b"l5d-":
            continue
        if name == b"l5d-ctx-dtab":
            ctx_dtab.append(value)
        elif name == b"l5d-dtab":
            user_dtab.append(value)
        elif name == b"l5d-ctx-deadline":
            deadlines.append(value)
        elif name == b"l5d-sample":
            rate = decode_rate(value)
    incoming = router.propagator.read(head.get)
    trace = incoming.trace
    # The id that came in is the caller's client span: ours as a server is its child (reference 9.1).
    trace = (
        trace.child(router.trace_rng) if trace is not None else root_trace(router.trace_rng, incoming.flags)
    )
    if rate is not None:
        trace = trace.sampled_as(is_chosen(trace.trace, rate, router.salt))
    context.trace = trace
    if ctx_dtab or user_dtab:
        context.local = ex.local = _read_dtab(ctx_dtab + user_dtab)
    if deadlines:
        deadline = parse_deadlines(deadlines)
        if deadline is not None:
            context.deadline = deadline
            ex.deadline = now + deadline.deadline / 1e9 - router.env.wall()


def _are_plain(special: Special) -> bool:
    return all(name in PLAIN_FIELDS for name, _value in special)


def _take_grpc_timeout(ex: Exchange, context: Context, value: bytes, now: float) -> None:
    """A gRPC caller's own limit, trusted or not: it can only ask for less."""
    timeout = parse_timeout(value)
    if timeout is not None:
        context.grpc_deadline = deadline = now + timeout / 1e9
        if ex.deadline is None or deadline < ex.deadline:
            ex.deadline = deadline
        ex.drop = ex.drop | GRPC_TIMEOUT if ex.drop else GRPC_TIMEOUT


def deadline_field(ex: Exchange) -> str:
    """The name of the field that the caller's deadline came in."""
    context = ex.context
    is_grpc = context is not None and context.grpc_deadline == ex.deadline
    return "grpc-timeout" if is_grpc else "l5d-ctx-deadline"


def grpc_time_is_over(ex: Exchange, now: float) -> bool:
    """Whether ``grpc-timeout`` has passed, whose timer may be a slot of the wheel late."""
    context = ex.context
    return context is not None and context.grpc_deadline is not None and now >= context.grpc_deadline


def _read_dtab(values: list[bytes]) -> Dtab | None:
    if sum(map(len, values)) > MAX_LOCAL_DTAB:
        raise MeshError(
            Reason.BAD_DTAB,
            f"l5d-dtab and l5d-ctx-dtab are longer than {MAX_LOCAL_DTAB} bytes together",
            status=400,
            side=Side.CALLER,
        )
    dtab = Dtab.EMPTY
    for value in values:
        text = value.decode("latin-1")
        try:
            dtab = dtab + Dtab.read(text)
        except DtabError as error:
            raise MeshError(Reason.BAD_DTAB, f"l5d-dtab: {error}", status=400, side=Side.CALLER) from error
    return dtab if len(dtab) else None
