"""What is known of one request and its response while they are in flight.

Attributes have class-level defaults instead of an ``__init__`` that sets thirty of them: most requests touch ten, and
on CPython the difference is a microsecond per request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from hostmesh.base.errors import MeshError, Sent
from hostmesh.routing.classifiers import SUCCESS, Verdict

if TYPE_CHECKING:
    from hostmesh.naming.dtab import Dtab
    from hostmesh.protocol.h1_head import RequestHead, ResponseHead
    from hostmesh.protocol.h2.engine import Pairs
    from hostmesh.proxy.branch import Branch
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.context import Context
    from hostmesh.proxy.diagnostics import Diagnosis
    from hostmesh.proxy.endpoint_stack import EndpointStack
    from hostmesh.proxy.halves import AnyCaller, AnyEndpoint
    from hostmesh.proxy.held import Held
    from hostmesh.proxy.path_stack import PathStack
    from hostmesh.proxy.router import Router
    from hostmesh.proxy.server import Server
    from hostmesh.pump.loop import TimerHandle


NO_NAMES: Final[frozenset[bytes]] = frozenset()
NOTHING_SENT: Final = Sent.NOTHING


class ExchangeState:
    """The attributes of an :class:`~hostmesh.proxy.exchange.Exchange`."""

    # what was asked
    path: PathStack | None = None
    local: Dtab | None = None
    target: bytes | None = None
    """The target to forward when an identifier consumed a part of it; else that of the head."""
    context: Context | None = None
    """What the caller sent along; None when it sent nothing of the kind."""
    trace: bytes = b""
    """Lines with trace context to forward, made when an attempt is dispatched."""
    trace_pairs: Pairs | None = None
    """The same instead of it, where the endpoint speaks HTTP/2."""
    reqid: bytes = b""
    deadline: float | None = None
    """On the loop's clock; the strictest of the caller's and our own timeouts."""
    server_timeout = False
    """``deadline`` is not the caller's but the ``timeoutMs`` of the server."""

    # request half
    body = b""
    """Request bytes not yet, or for a replayable request possibly again, to be sent."""
    request_done = True
    request_trailers = b""
    upgrade: bytes | None = None
    """What of the caller's Upgrade goes on to the endpoint, whose 101 then makes a tunnel of both connections."""
    upgrade_key = b""
    """The ``Sec-WebSocket-Key`` that we made for this attempt, because the caller has none in HTTP/2."""
    drop: frozenset[bytes] = NO_NAMES
    """Lower-case names of fields that another propagator owns: cut, then written anew."""
    simple = True
    """No body at all: the head alone is the request."""
    streamed = False
    """The body is passed through as it comes and cannot be sent again."""
    is_grpc = False
    """Errors are answered as gRPC statuses, and the method is counted."""

    # where it goes
    branch: Branch | None = None
    client: ClientStack | None = None
    endpoint: EndpointStack | None = None
    last_endpoint: EndpointStack | None = None
    """The endpoint of the last attempt, for the record; ``endpoint`` is None once that attempt is accounted."""
    attempt_start = 0.0
    attempts = 0
    connects = 0
    requeues = 0
    retries = 0
    tried: set[EndpointStack] | None = None
    backoffs: Iterator[float] | None = None
    next_delay = 0.0
    diagnosis: Diagnosis | None = None
    """Set for a TRACE that asks where it goes."""
    nacked = False
    """The answer of this attempt said that it was not processed."""
    sent: Sent = NOTHING_SENT
    ttfb: float | None = None
    verdict: Verdict = SUCCESS

    # response half
    committed = False
    response: ResponseHead | None = None
    status = 0
    error: MeshError | None = None
    response_trailers = b""
    held: Held | None = None
    """A response that waits for its verdict, so that it can be retried (``held.py``)."""
    unjudged = False
    """The head has left, and the verdict comes with the end of the response; until then it is IGNORABLE."""
    informational = 0
    finished = False
    request_bytes = 0
    response_bytes = 0

    # timers
    total_timer: TimerHandle | None = None
    attempt_timer: TimerHandle | None = None
    retry_timer: TimerHandle | None = None
    parked = False

    def __init__(self, caller: AnyCaller, server: Server | Any, head: RequestHead, now: float) -> None:
        self.caller = caller
        # A Server of http and h2, a TcpServer of tcp, which compiled code asks through the interpreter.
        self.server: Server | Any = server
        # Not above: mypyc leaves out the None of a class if it is one of more than two types.
        self.session: AnyEndpoint | None = None
        self.router: Router = server.router
        self.head = head
        self.start = now
