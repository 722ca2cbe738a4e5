"""One request for each reason that HTTP/1.1 can meet, and the table in docs/reasons.md that is made of them.

``python -m tests.wire.reasons_table`` writes the table; tests/wire/test_wire_reasons.py runs the requests and fails
while the table is not what they are.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

from hostmesh.base.reasons import Reason

if TYPE_CHECKING:
    from tests.wire.harness import EndpointServer, RawClient, Received, Response

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reasons.md"

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, shutdownGraceMs: 300}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
- kind: test.silent
- kind: test.broken
routers:
- protocol: http
  label: out
  bindingTimeoutMs: 300
  dtab: |
    /fs => /#/io.l5d.fs;
    /svc/web => /fs/web;
    /svc/slow => /fs/web;
    /svc/attempt => /fs/attempt;
    /svc/pool => /fs/pool;
    /svc/gone => /fs/gone;
    /svc/empty => /fs/empty;
    /svc/dead => /fs/dead;
    /svc/hole => /fs/hole;
    /svc/failfast => /fs/failfast;
    /svc/silent => /#/test.silent/x;
    /svc/broken => /#/test.broken/x;
  service:
    kind: io.l5d.static
    configs:
    - {prefix: /svc/slow, totalTimeoutMs: 200}
  client:
    kind: io.l5d.static
    configs:
    - {prefix: /#/io.l5d.fs/attempt, requestAttemptTimeoutMs: 200}
    - {prefix: /#/io.l5d.fs/failfast, failFast: true}
    - prefix: /#/io.l5d.fs/pool
      hostConnectionPool: {maxSize: 1, maxWaiters: 0}
  servers:
  - {port: @port@, ip: 127.0.0.1}
  - port: @short@
    ip: 127.0.0.1
    maxCallDepth: 3
    maxConcurrentRequests: 1
    socketOptions: {readTimeoutMs: 300}
- protocol: http
  label: paths
  streamingEnabled: false
  identifier: {kind: io.l5d.path, segments: 2}
  dtab: /svc => /#/io.l5d.fs; /svc/silent/x => /#/test.silent/x;
  servers:
  - {port: @paths@, ip: 127.0.0.1}
- protocol: http
  label: bug
  identifier: {kind: test.bug}
  dtab: /svc => /#/io.l5d.fs;
  servers:
  - {port: @bug@, ip: 127.0.0.1}
"""

PLUGINS = '''\
from attrs import frozen
from hostmesh.plugin import Failed, NamerConfig, PENDING, Path, Var
from hostmesh.routing.identifiers import IdentifierConfig

class Constant:
    def __init__(self, deps, state):
        self.prefix, self.turn, self.answer = deps.prefix, deps.turn, state
    def lookup(self, path):
        return Var(self.turn, self.answer)

@frozen(kw_only=True)
class SilentConfig(NamerConfig):
    """Never answers."""
    def mk(self, deps):
        return Constant(deps, PENDING)

@frozen(kw_only=True)
class BrokenConfig(NamerConfig):
    """Cannot read its registry."""
    def mk(self, deps):
        return Constant(deps, Failed("the registry is on fire"))

class Bug:
    kind = "test.bug"
    consumes = False
    def key(self, head):
        return None
    def consume(self, head):
        return None
    def identify(self, head):
        if head.target == b"/bug":
            raise RuntimeError("this is the bug")
        return Path.of("svc", "web")

@frozen(kw_only=True)
class BugConfig(IdentifierConfig):
    """Breaks on one target."""
    def mk(self, prefix):
        return Bug()
'''

ENTRY_POINTS = """\
[hostmesh.namer]
test.silent = hostmesh_test_plugins:SilentConfig
test.broken = hostmesh_test_plugins:BrokenConfig
[hostmesh.identifier]
test.bug = hostmesh_test_plugins:BugConfig
"""


def install_plugins(folder: Path) -> dict[str, str]:
    """Put a distribution with the test's plugins there; the environment in which a process finds it."""
    info = folder / "hostmesh_test_plugins-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hostmesh-test-plugins\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "hostmesh_test_plugins.py").write_text(PLUGINS)
    return {"PYTHONPATH": str(folder)}


class Stage:
    """A running hostmesh with everything that the cases need around it."""

    def __init__(self, folder: Path) -> None:
        from tests.wire.harness import Answer, EndpointServer, Hostmesh

        self.go = threading.Event()
        self.stack = ExitStack()

        def respond(request: Received) -> Answer:
            if request.target == "/hang":
                return Answer(wait=self.go)
            if request.target.startswith("/raw"):
                return Answer(raw=RAW[request.target], close=True)
            return Answer()

        self.web: EndpointServer = self.stack.enter_context(EndpointServer("web-1", respond=respond))
        self.mesh = Hostmesh(
            folder, CONFIG, environment=install_plugins(folder / "site-packages"), start=False
        )
        self.stack.callback(self.mesh.close)
        for name in ("web", "attempt", "pool"):
            self.mesh.set_endpoints(name, [self.web])
        self.mesh.set_endpoints("empty", [])
        self.mesh.set_endpoints("dead", [f"127.0.0.1 {closed_port()}"])
        self.mesh.set_endpoints("failfast", [f"127.0.0.1 {closed_port()}", f"127.0.0.1 {closed_port()}"])
        self.mesh.set_endpoints("hole", [f"127.0.0.1 {self.stack.enter_context(full_listener())}"])
        self.mesh.start()

    def close(self) -> None:
        self.go.set()
        self.stack.close()

    def client(self, port: str = "port") -> RawClient:
        return self.stack.enter_context(self.mesh.client(port))

    def hang(self, host: str = "web", port: str = "port") -> RawClient:
        """A request that the endpoint has and does not answer."""
        count = len(self.web.requests)
        client = self.client(port)
        client.send(request(host, "/hang"))
        self.web.wait_for(lambda: len(self.web.requests) > count)
        return client


RAW = {
    "/raw-garbage": b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n\r\n",
    "/raw-cut": b"HTTP/1.1 200",
    "/raw-hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,
    "/raw-both": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


def closed_port() -> int:
    from tests.wire.harness import free_port

    return free_port()


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue is full: the kernel drops what else wants to connect, as a dead host would."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def request(
    host: str = "web", target: str = "/", *lines: str, method: str = "GET", body: bytes = b""
) -> bytes:
    head = "\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""))
    return head.encode("latin-1") + body


Run = Callable[[Stage, "RawClient"], "Response | None"]


def send(data: bytes) -> Run:
    """Send these bytes and read the answer."""

    def run(stage: Stage, client: RawClient) -> Response:
        client.send(data)
        return client.response()

    return run


def behind_a_hanging_one(host: str, port: str) -> Run:
    def run(stage: Stage, client: RawClient) -> Response:
        stage.go.clear()
        stage.hang(host, port)
        client.send(request(host))
        response = client.response()
        stage.go.set()
        return response

    return run


def while_hanging(host: str) -> Run:
    def run(stage: Stage, client: RawClient) -> Response:
        stage.go.clear()
        client.send(request(host, "/hang"))
        response = client.response()
        stage.go.set()
        return response

    return run


def leave(stage: Stage, client: RawClient) -> None:
    stage.go.clear()
    count = len(stage.web.requests)
    client.send(request("web", "/hang"))
    stage.web.wait_for(lambda: len(stage.web.requests) > count)
    client.reset()
    stage.web.wait_for(
        lambda: stage.web.requests[-1].connection in stage.web.closed or stage.go.set() is None
    )


def park_too_many(stage: Stage, client: RawClient) -> Response:
    with ExitStack() as stack:
        data = request("web", "/silent/x")
        parked = [stack.enter_context(stage.mesh.client("paths")) for _ in range(1000)]
        for each in parked:
            each.send(data)
        name = "rt/paths/service/unknown/pending"
        stage.mesh.wait_metric(name, lambda pending: pending >= 1000)
        client.send(data)
        return client.response()


@frozen(kw_only=True)
class Case:
    """How a request meets a reason, and what comes of it."""

    reason: Reason
    status: int | None
    """None: there is nobody left to be answered."""
    how: str
    """For people, in the table."""
    run: Run = field(repr=False)
    port: str = "port"
    label: str = "out"


def case(
    reason: Reason, status: int | None, how: str, run: Run, port: str = "port", label: str = "out"
) -> Case:
    return Case(reason=reason, status=status, how=how, run=run, port=port, label=label)


CASES = [
    case(
        Reason.NO_IDENTIFIER,
        400,
        "`GET /` where the identifier wants two path segments",
        send(request("web", "/")),
        "paths",
        "paths",
    ),
    case(Reason.NO_DENTRY, 502, "a name for which the dtab has no dentry", send(request("unknown"))),
    case(Reason.NAME_NEGATIVE, 502, "a dentry leads to a file that does not exist", send(request("gone"))),
    case(
        Reason.REGISTRY_UNREACHABLE,
        502,
        "a name that no registry has ever answered for",
        send(request("broken")),
    ),
    case(Reason.NO_ENDPOINTS, 502, "a name with an empty file", send(request("empty"))),
    case(
        Reason.ALL_EJECTED,
        503,
        "`failFast`, and every endpoint has refused a connect",
        send(request("failfast")),
    ),
    case(Reason.CONNECT_REFUSED, 502, "nobody listens at the endpoint", send(request("dead"))),
    case(Reason.CONNECT_TIMEOUT, 502, "the endpoint's host does not answer a connect", send(request("hole"))),
    case(
        Reason.BINDING_TIMEOUT, 503, "a namer says nothing within `bindingTimeoutMs`", send(request("silent"))
    ),
    case(Reason.TOTAL_TIMEOUT, 503, "no answer within `totalTimeoutMs`", while_hanging("slow")),
    case(Reason.ATTEMPT_TIMEOUT, 503, "no answer within `requestAttemptTimeoutMs`", while_hanging("attempt")),
    case(
        Reason.DEADLINE_EXPIRED,
        503,
        "`l5d-ctx-deadline` is in the past",
        send(request("web", "/", "l5d-ctx-deadline: 1 2")),
    ),
    case(Reason.RESET_BY_CALLER, None, "the caller resets its connection before the answer", leave),
    case(
        Reason.RESET_BY_ENDPOINT,
        502,
        "the endpoint closes in the middle of a head",
        send(request("web", "/raw-cut")),
    ),
    case(
        Reason.LIMIT_HEADER_BYTES,
        431,
        "header lines of more than `maxHeadersKB`",
        send(request("web", "/", "A: " + "x" * 9000)),
    ),
    case(
        Reason.LIMIT_HEADER_COUNT,
        431,
        "more than 100 header lines",
        send(request("web", "/", *[f"A{n}: x" for n in range(101)])),
    ),
    case(
        Reason.LIMIT_INITIAL_LINE,
        414,
        "a request line of more than `maxInitialLineKB`",
        send(request("web", "/" + "x" * 5000)),
    ),
    case(
        Reason.LIMIT_HEAD_TIME,
        408,
        "a head that is not complete within 10 s or `readTimeoutMs`",
        send(b"GET / HTTP/1.1\r\nHost: w"),
        "short",
    ),
    case(
        Reason.LIMIT_BODY_TIME,
        408,
        "a request body of which nothing comes for 60 s or `readTimeoutMs`; gRPC: silence for `tunnelIdleTimeMs`",
        send(request("web", "/", "Content-Length: 9", method="POST", body=b"half")),
        "short",
    ),
    case(
        Reason.LIMIT_BODY_BYTES,
        413,
        "more than 5 MiB of request body where `streamingEnabled` is false",
        send(request("web", "/web/x", "Content-Length: 6000000", method="POST")),
        "paths",
        "paths",
    ),
    case(Reason.LIMIT_INFORMATIONAL, 502, "more than ten 1xx responses", send(request("web", "/raw-hints"))),
    case(
        Reason.LIMIT_POOL_WAITERS,
        503,
        "`hostConnectionPool` has `maxSize` connections in use and `maxWaiters` wait",
        behind_a_hanging_one("pool", "port"),
    ),
    case(
        Reason.LIMIT_PARKED,
        503,
        "1,000 requests already wait for the name to be bound",
        park_too_many,
        "paths",
        "paths",
    ),
    case(
        Reason.LIMIT_CALL_DEPTH,
        400,
        "more hops in `Via` than `maxCallDepth`",
        send(request("web", "/", "Via: 1.1 a, 1.1 b, 1.1 c, 1.1 d")),
        "short",
    ),
    case(
        Reason.OVERLOADED, 503, "over `maxConcurrentRequests`", behind_a_hanging_one("web", "short"), "short"
    ),
    case(Reason.BAD_REQUEST, 400, "a header name that is no token", send(request("web", "/", "A : b"))),
    case(Reason.BAD_RESPONSE, 502, "the endpoint does not speak HTTP", send(request("web", "/raw-garbage"))),
    case(Reason.BAD_DTAB, 400, "`l5d-dtab` that is no dtab", send(request("web", "/", "l5d-dtab: nonsense"))),
    case(
        Reason.BAD_FRAMING,
        400,
        "both `Content-Length` and `Transfer-Encoding`",
        send(request("web", "/", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST")),
    ),
    case(Reason.BAD_NAME, 400, "a host that cannot be a path segment", send(request("a*b"))),
    case(Reason.UNSUPPORTED, 405, "`CONNECT`", send(b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n")),
    case(
        Reason.POLICY_DTAB,
        403,
        "`l5d-dtab` that leads to a link-local address",
        send(request("web", "/", "l5d-dtab: /svc/web => /$/inet/169.254.169.254/80")),
    ),
    case(Reason.BUG, 500, "an exception of ours or of a plugin", send(request("web", "/bug")), "bug", "bug"),
]

LAST = case(Reason.DRAINING, 503, "no answer within `shutdownGraceMs` after SIGTERM", while_hanging("web"))
"""Needs a daemon of its own, which it ends; its counter is gone with the process."""

CUT = "none, the stream or its connection ends"
TLS = "502 towards endpoints; callers get an alert"
ELSEWHERE = {
    Reason.LIMIT_RESETS: (CUT, "over 100 HTTP/2 streams reset within 10 s, or half of more than 200"),
    Reason.LIMIT_CONTROL_FRAMES: (
        CUT,
        "over 1,000 HTTP/2 frames at once, or 100 per second, that carry nothing",
    ),
    Reason.LIMIT_STALLED: (CUT, "an HTTP/2 window that stays closed for 30 s"),
    Reason.LIMIT_BUFFERED: (
        CUT,
        "over 1 MiB waits for the windows of one HTTP/2 connection, most of it here",
    ),
    Reason.TUNNEL_LIFE: (CUT, "a tcp connection older than `lifeTimeMs`"),
    Reason.BAD_CLIENT_HELLO: (CUT, "`io.l5d.tcp.sni`, and a ClientHello that breaks RFC 8446"),
    Reason.BAD_PROXY_HEADER: (
        CUT,
        "`proxyProtocol`, and a connection without a header, or with a malformed one",
    ),
    Reason.POLICY_CONNECT: ("403", "`CONNECT` to a destination that is not in `allowConnect`"),
    Reason.TUNNEL_IDLE: ("101, cut later", "a WebSocket through which no byte passed for `tunnelIdleTimeMs`"),
    Reason.TLS_HANDSHAKE: (TLS, "no cipher, group or ALPN protocol in common, or a peer that left"),
    Reason.TLS_NAME_MISMATCH: ("502", "an endpoint whose certificate is not for `commonName`"),
    Reason.TLS_UNTRUSTED: (TLS, "a certificate of a CA that is not trusted"),
    Reason.TLS_EXPIRED: (TLS, "a certificate that has expired or is not valid yet"),
    Reason.TLS_REVOKED: (TLS, "a certificate on the list of `crlPath`, or a list that has expired"),
    Reason.TLS_WRONG_USAGE: (TLS, "a server's certificate shown by a caller, or the other way round"),
    Reason.TLS_NO_CERTIFICATE: (CUT, "`requireClientAuth`, and a caller that shows no certificate"),
    Reason.TLS_NOT_ALLOWED: (CUT, "`allowedCallers`, and a caller with a valid certificate for another name"),
    Reason.TLS_NOT_SPOKEN: (
        TLS,
        "plain text where TLS is expected; HTTP/1 callers are answered 400 in plain text",
    ),
    Reason.TLS_UNEXPECTED: (
        TLS,
        "TLS to a server without `tls`, or an endpoint that answers our plain text with an alert",
    ),
    Reason.TLS_VERSION: (TLS, "no version of TLS in common"),
    Reason.TLS_REJECTED: (TLS, "an alert: the peer refuses our certificate"),
    Reason.TLS_TIMEOUT: (TLS, "a handshake of more than 10 s with a caller, or 5 s with an endpoint"),
}
"""Reasons that need more than a few bytes of HTTP/1.1: what is answered, and how they are met."""


def page() -> str:
    """The text of docs/reasons.md."""
    rows = [
        f"| `{c.reason.value}` | {c.status or 'none, the caller is gone'} | {c.how} |" for c in [*CASES, LAST]
    ]
    rows += [f"| `{reason.value}` | {status} | {why} |" for reason, (status, why) in ELSEWHERE.items()]
    return TEXT + "\n".join(rows) + "\n"


TEXT = """\
# Reasons

Every request that was not simply answered by an endpoint has one reason code. It is the first word of `l5d-err` in the
answer, `reason` in the log line and the access log, and the last part of the counter
`rt/<router>/server/<ip>/<port>/failures/<reason>` (and, once the name is known, of
`rt/<router>/service/<path>/failures/<reason>`). Codes are stable: once released one is never renamed.

Listeners with `clearContext` send no `l5d-err`: counters and log are the same.

This table is written by `python -m tests.wire.reasons_table` from the requests of `tests/wire/test_wire_reasons.py`,
which sends each to a running hostmesh and compares status, `l5d-err`, counter and log line.

| reason | status | a request that meets it |
| --- | --- | --- |
"""


if __name__ == "__main__":
    PAGE.write_text(page())
