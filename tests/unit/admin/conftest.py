"""A view of a small daemon that exists only in these tests, and a way to ask the admin application without sockets."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from hostmesh.admin.app import AdminApp
from hostmesh.admin.view import Identified, Readiness, RouterView, Unidentified, View
from hostmesh.base.var import PENDING, Ok, Turn, Var
from hostmesh.config.model import SecurityConfig
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, AddrBound, AddrFailed, Endpoint
from hostmesh.naming.bound import BoundLeaf, BoundName
from hostmesh.naming.delegate import DelegateTree
from hostmesh.naming.nametree import NEG
from hostmesh.naming.path import Path
from hostmesh.telemetry.metrics import MetricsTree


class FakeInterpreter:
    """Everything binds to nothing; paths below ``/slow`` are pending until ``finish``, or for ever."""

    def __init__(self) -> None:
        self.turn = Turn(wake=self._wake)
        self.asked: list[Var[Any]] = []
        self.dtabs: list[str] = []

    def _wake(self) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self.turn.run)

    def delegation(self, dtab: Any, path: Path) -> Var[Any]:
        self.dtabs.append(dtab.show())
        if path.startswith(("slow",)):
            tree = DelegateTree(type="exception", path=path, state=PENDING, message="no answer yet")
        elif path.startswith(("half",)):
            name = BoundName(path, Var(self.turn, ADDR_PENDING), Path.EMPTY)
            state = Ok(BoundLeaf(name))
            tree = DelegateTree(type="leaf", path=path, state=state, bound=name, addr=ADDR_PENDING)
        else:
            tree = DelegateTree(type="neg", path=path, state=Ok(NEG))
        self.asked.append(Var(self.turn, tree))
        return self.asked[-1]

    def finish(self) -> None:
        for var in self.asked:
            var.set(DelegateTree(type="neg", path=var.value.path, state=Ok(NEG)))


class FakeNamer:
    """A namer with pages."""

    def state(self) -> object:
        return {"running": True, "web": {"age": 3}}

    def bound_names(self) -> list[Path]:
        return [Path.read("/#/io.l5d.fs/web"), Path.read("/#/io.l5d.fs/api")]


class QuietNamer:
    """A namer without pages."""


class Daemon:
    """The fake daemon: its view, and what was done to it."""

    def __init__(self) -> None:
        self.interpreter = FakeInterpreter()
        self.metrics = MetricsTree()
        self.levels = {"root": "INFO", "hostmesh.admin": "INFO"}
        self.shutdowns = 0
        self.readiness = Readiness(True)
        self.view = View(
            metrics=self.metrics,
            config_json=lambda: {
                "admin": {"port": 9990},
                "namers": [{"kind": "io.l5d.consul", "token": "s3cret"}],
            },
            routers={"http": self.router("http")},
            namers={"io.l5d.fs": FakeNamer(), "rewrite": QuietNamer()},
            log_levels=lambda: dict(self.levels),
            set_log_level=self.set_log_level,
            shutdown=self.count_shutdown,
            health=lambda: self.readiness,
            server_info=lambda: {"version": "1.2.3", "config": "<stdin>"},
            loop=lambda: {"lag_ms_p99": 0.5},
        )

    def router(self, label: str) -> RouterView:
        return RouterView(
            label=label,
            protocol="http",
            base_dtab=lambda: "/svc=>/#/io.l5d.fs",
            interpreter=self.interpreter,
            identify=self.identify,
            clients=lambda: [
                ("/#/io.l5d.fs/web", AddrBound([Endpoint("127.0.0.1", 8080), Endpoint("::1", 8081)])),
                ("/#/io.l5d.fs/gone", ADDR_NEG),
                ("/#/io.l5d.fs/new", ADDR_PENDING),
                ("/#/io.l5d.fs/bad", AddrFailed("permission denied")),
            ],
            interpreter_states=lambda: {"io.l5d.mesh/default": lambda: {"connected": True}},
        )

    def identify(self, head: Any) -> Identified | Unidentified:
        if head.get(b"x-bug") is not None:
            raise RuntimeError("an identifier's bug")
        if head.host == b"nobody":
            return Unidentified("no identifier took it")
        return Identified(f"/svc/{head.host.decode()}{head.target.decode()}", "/a=>/b")

    def set_log_level(self, logger: str, level: str) -> None:
        if logger not in self.levels:
            raise ValueError(f"unknown logger {logger}")
        self.levels[logger] = level.upper()

    def count_shutdown(self) -> None:
        self.shutdowns += 1


@attrs.frozen
class Answer:
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def asgi(
    app: Any, method: str, target: str, headers: dict[str, str], body: bytes | list[bytes]
) -> Answer:
    """One request to an ASGI application, in memory. A list of pieces is a body that never ends."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 9990),
    }
    endless = isinstance(body, list)
    pieces = list(body) if isinstance(body, list) else [body]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not pieces:
            await trio.sleep_forever()
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": endless or bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await app(scope, receive, send)
    return Answer(
        sent[0]["status"],
        {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


class Asker:
    """Asks an application; virtual time, so waiting costs nothing."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes | list[bytes] = b"",
        beside: Any = None,
    ) -> Answer:
        """``beside`` is an async function that runs while the request does."""
        headers = {"host": "localhost:9990", **(headers or {})}

        async def main() -> Answer:
            async with trio.open_nursery() as nursery:
                if beside is not None:
                    nursery.start_soon(beside)
                answer = await asgi(self.app, method, target, headers, body)
                nursery.cancel_scope.cancel()
                return answer
            raise AssertionError("unreachable")

        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def asker() -> type[Asker]:
    """For other applications than the admin's."""
    return Asker


@pytest.fixture
def ask(daemon: Daemon) -> Asker:
    return Asker(AdminApp(daemon.view, security=SecurityConfig(), loopback=True))


@pytest.fixture
def ask_with(daemon: Daemon) -> Any:
    """Makes an asker for an admin with these options."""

    def make(*, loopback: bool = True, **security: Any) -> Asker:
        return Asker(AdminApp(daemon.view, security=SecurityConfig(**security), loopback=loopback))

    return make
