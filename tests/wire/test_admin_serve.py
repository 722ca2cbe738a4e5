"""The admin port over real sockets: serving, bounds, and how it ends."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from hostmesh.admin import serve as serving
from hostmesh.admin.serve import serve
from hostmesh.admin.view import Identified, Readiness, RouterView, Unidentified, View
from hostmesh.base.var import PENDING, Ok, Turn, Var
from hostmesh.config.model import AdminConfig
from hostmesh.naming.delegate import DelegateTree
from hostmesh.naming.nametree import NEG
from hostmesh.naming.path import Path
from hostmesh.telemetry.metrics import MetricsTree

TIMEOUT_S = 20


def identify(head: Any) -> Identified | Unidentified:
    if head.host == b"nobody":
        return Unidentified("no Host that I know")
    if head.host == b"bug":
        raise RuntimeError("an identifier's bug")
    return Identified(f"/svc/{head.host.decode()}", (head.get(b"l5d-dtab") or b"").decode())


def make_view(**changes: Any) -> View:
    router = RouterView(
        label="http",
        protocol="http",
        base_dtab=lambda: "",
        interpreter=None,
        identify=identify,
        clients=list,
    )
    view = View(
        metrics=MetricsTree(),
        config_json=dict,
        routers={"http": router, "h2": attrs.evolve(router, label="h2", identify=None)},
        namers={},
        log_levels=dict,
        set_log_level=lambda _logger, _level: None,
        shutdown=lambda: None,
        health=lambda: Readiness(True),
    )
    return attrs.evolve(view, **changes)


class SlowNamer:
    """An interpreter whose delegation is pending until ``answer``."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.turn = Turn()
        self.tree = Var(self.turn, DelegateTree(type="exception", path=Path.EMPTY, state=PENDING))

    def delegation(self, _dtab: object, _path: object) -> Var[Any]:
        self.asked.set()
        return self.tree

    def answer(self) -> None:
        self.tree.set(DelegateTree(type="neg", path=Path.EMPTY, state=Ok(NEG)))
        self.turn.run()


def explaining(namer: SlowNamer) -> View:
    """A view of one router that binds with ``namer``."""
    router = make_view().routers["http"]
    return make_view(routers={"http": attrs.evolve(router, interpreter=namer)})


class Running:
    """A served admin: where it listens, and how to end it."""

    def __init__(
        self, stop: trio.Event, scope: trio.CancelScope, sock: socket.socket, other: socket.socket
    ) -> None:
        self.stop = stop
        self.scope = scope
        self.port: int = sock.getsockname()[1]
        self.identifier_port: int = other.getsockname()[1]
        self.ended = trio.Event()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def get(
        self, path: str, *, port: int | None = None, headers: str = "Host: localhost\r\n"
    ) -> tuple[int, bytes]:
        stream = await trio.open_tcp_stream("127.0.0.1", port or self.port)
        async with stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())
            return parse(await read_all(stream))


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    while piece := await stream.receive_some():
        data += piece
    return data


async def read_one(stream: trio.SocketStream) -> bytes:
    """One answer with Content-Length from a connection that stays open."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
    )
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


def parse(data: bytes) -> tuple[int, bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


@asynccontextmanager
async def running(
    view: View, *, tls: Callable[[], ssl.SSLContext] | None = None, **options: Any
) -> AsyncIterator[Running]:
    """An admin on ports that the system chose, for as long as the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as sock, socket.create_server(("127.0.0.1", 0)) as other:
        with trio.fail_after(TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                stop = trio.Event()
                admin = Running(stop, trio.CancelScope(), sock, other)

                async def run(task_status: trio.TaskStatus[None]) -> None:
                    with admin.scope:
                        await serve(
                            view,
                            AdminConfig(**options),
                            [sock],
                            stop=stop,
                            identifier_sockets=[other],
                            tls=tls,
                            task_status=task_status,
                        )
                    admin.ended.set()

                await nursery.start(run)
                yield admin
                nursery.cancel_scope.cancel()


def wire(test: Any) -> Any:
    """Run an async test on trio, on the real clock."""

    def run(**fixtures: Any) -> None:
        trio.run(partial(test, **fixtures))

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@wire
async def test_a_page_over_a_socket() -> None:
    """Status and body arrive, and no Server header tells with what."""
    async with running(make_view()) as admin:
        stream = await admin.connect()
        await stream.send_all(b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await read_one(stream)
        await stream.aclose()

    assert answer.endswith(b"\r\n\r\npong")
    assert b"server:" not in answer.lower()


@wire
async def test_a_connection_is_kept() -> None:
    """Two requests, one after the other and pipelined, on one connection."""
    async with running(make_view()) as admin:
        stream = await admin.connect()
        request = b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _again in range(2):
            await stream.send_all(request)
            assert (await read_one(stream)).endswith(b"pong")
        await stream.send_all(request + request.replace(b"Host", b"Connection: close\r\nHost"))
        both = await read_all(stream)
        await stream.aclose()

    assert both.count(b"pong") == 2


@wire
async def test_head_has_no_body() -> None:
    """HEAD is GET without the body."""
    async with running(make_view()) as admin:
        stream = await admin.connect()
        await stream.send_all(b"HEAD /admin/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await read_all(stream)
        await stream.aclose()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")


@wire
async def test_x6_the_host_check_follows_the_bind_address() -> None:
    """On loopback a foreign name is refused; the example that routes to the admin keeps working."""
    async with running(make_view()) as admin:
        assert (await admin.get("/admin/ping", headers="Host: evil.example\r\n"))[0] == 403
        assert (await admin.get("/admin/ping", headers="Host: localhost:4140\r\n"))[0] == 200


@wire
async def test_an_admin_on_every_address_takes_any_host() -> None:
    """Bound to 0.0.0.0, as in a DaemonSet."""
    with socket.create_server(("0.0.0.0", 0)) as sock, trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, make_view(), AdminConfig(), [sock], stop=trio.Event()))
            stream = await trio.open_tcp_stream("127.0.0.1", sock.getsockname()[1])
            await stream.send_all(b"GET /admin/ping HTTP/1.1\r\nHost: node-7\r\nConnection: close\r\n\r\n")
            answer = await read_all(stream)
            await stream.aclose()
            nursery.cancel_scope.cancel()

    assert parse(answer) == (200, b"pong")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web", {"path": "/svc/web", "dtab": "/a=>/b"}),
        ("nobody", {"error": "no Host that I know"}),
        ("bug", {"error": "RuntimeError: an identifier's bug"}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_identifier_port_says_what_routers_make_of_a_request(
    method: str, host: str, expected: dict[str, str]
) -> None:
    """Any method, path and Host; one entry per router that identifies such requests."""

    async def test() -> None:
        async with running(make_view()) as admin:
            stream = await trio.open_tcp_stream("127.0.0.1", admin.identifier_port)
            await stream.send_all(
                f"{method} /x/y?z=1 HTTP/1.1\r\nHost: {host}\r\nl5d-dtab: /a=>/b\r\n"
                "Content-Length: 3\r\nConnection: close\r\n\r\nabc".encode()
            )
            status, body = parse(await read_all(stream))
            await stream.aclose()

        assert (200, {"http": expected}) == (status, json.loads(body))

    trio.run(test)


@wire
async def test_stop_ends_idle_connections_at_once_and_returns() -> None:
    """A kept connection is no reason to wait for the grace."""
    async with running(make_view(), shutdown_grace_ms=600_000) as admin:
        stream = await admin.connect()
        await stream.send_all(b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await read_one(stream)
        admin.stop.set()
        with trio.fail_after(serving.KEEP_ALIVE_S / 2):
            assert await stream.receive_some() == b""
        await stream.aclose()
        await admin.ended.wait()


@wire
async def test_stop_lets_an_answer_finish() -> None:
    """A page that is being made when the stop comes is delivered whole."""
    namer = SlowNamer()
    async with running(explaining(namer), shutdown_grace_ms=600_000) as admin:
        stream = await admin.connect()
        await stream.send_all(b"GET /delegator.json?path=/svc HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await namer.asked.wait()
        admin.stop.set()
        namer.answer()
        answer = await read_all(stream)
        await stream.aclose()
        await admin.ended.wait()

    assert parse(answer) == (200, b'{"type": "neg", "path": "~"}\n')


@wire
async def test_stop_cuts_what_outlasts_the_grace() -> None:
    """A page that is still waiting when the grace is over."""
    namer = SlowNamer()
    async with running(explaining(namer), shutdown_grace_ms=50) as admin:
        stream = await admin.connect()
        await stream.send_all(b"GET /delegator.json?path=/svc HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await namer.asked.wait()
        admin.stop.set()
        await admin.ended.wait()
        await stream.aclose()


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_peer_that_does_not_read_cannot_hold_the_end(how: str) -> None:
    """The answer is larger than what the kernel buffers, and nobody takes it."""

    async def test() -> None:
        view = make_view(config_json=lambda: "x" * 30_000_000)
        async with running(view, shutdown_grace_ms=50) as admin:
            stream = await admin.connect()
            await stream.send_all(b"GET /config.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some(1)
            if how == "stop":
                admin.stop.set()
            else:
                admin.scope.cancel()
            with trio.fail_after(serving.WRITE_STALL_S / 2):
                await admin.ended.wait()
            await stream.aclose()

    trio.run(test)


def test_connections_over_the_bound_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one over MAX_CONNECTIONS ends without an answer; the others are served."""
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)

    async def test() -> None:
        async with running(make_view()) as admin:
            request = b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
            first, second = await admin.connect(), await admin.connect()
            for stream in (first, second):
                await stream.send_all(request)
                await read_one(stream)
            third = await admin.connect()
            assert await third.receive_some() == b""
            await first.send_all(request)
            assert (await read_one(first)).endswith(b"pong")
            for stream in (first, second, third):
                await stream.aclose()

    trio.run(test)


def test_a_head_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """KEEP_ALIVE_S is also the time a head may take."""
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.1)

    async def test() -> None:
        async with running(make_view()) as admin:
            stream = await admin.connect()
            await stream.send_all(b"GET /admin/ping HTTP/1.1\r\nHo")
            assert await stream.receive_some() == b""
            await stream.aclose()

    trio.run(test)


@wire
async def test_a_flood_as_a_body_is_413_and_ends() -> None:
    """The connection does not outlive the refusal, whoever is still sending."""
    async with running(make_view()) as admin:
        stream = await admin.connect()

        async def flood() -> None:
            try:
                await stream.send_all(
                    b"POST /logging.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
                )
                for _piece in range(1000):
                    await stream.send_all(b"x" * 50_000)
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            answer = await stream.receive_some()
        await stream.aclose()
        assert parse(answer)[0] == 413
        assert (await admin.get("/admin/ping"))[0] == 200


@wire
async def test_a_websocket_is_refused() -> None:
    """Admin has none; the answer is a plain refusal."""
    async with running(make_view()) as admin:
        stream = await admin.connect()
        await stream.send_all(
            b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await stream.receive_some()
        await stream.aclose()

    assert parse(answer)[0] == 403


@wire
async def test_the_callers_socket_stays_open() -> None:
    """serve works on duplicates: after its end the daemon can serve the same socket again."""
    with socket.create_server(("127.0.0.1", 0)) as sock, trio.fail_after(TIMEOUT_S):
        for _again in range(2):
            async with trio.open_nursery() as nursery:
                stop = trio.Event()
                await nursery.start(partial(serve, make_view(), AdminConfig(), [sock], stop=stop))
                stream = await trio.open_tcp_stream("127.0.0.1", sock.getsockname()[1])
                await stream.send_all(b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await read_one(stream)).endswith(b"pong")
                await stream.aclose()
                stop.set()
