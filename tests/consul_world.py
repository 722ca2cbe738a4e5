"""A scripted agent on a real socket, and a Consul namer on it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import h11
import trio
from attrs import field, frozen

from hostmesh.naming.namer import NamerDeps
from hostmesh.naming.path import Path
from namer.consul import ConsulConfig, ConsulNamer
from tests.fs_world import World


@frozen
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    connection: int

    @property
    def index(self) -> int:
        return int(self.query.get("index", "0"))


@frozen
class Answer:
    """``raw`` is sent instead of an HTTP response; ``cut`` ends the connection after that many bytes of it all."""

    body: Any = None
    status: int = 200
    index: int | str | None = None
    headers: dict[str, str] = field(factory=dict)
    raw: bytes | None = None
    cut: int | None = None

    def data(self) -> bytes:
        if self.raw is not None:
            return self.raw
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Length: {len(body)}"]
        if self.index is not None:
            lines.append(f"X-Consul-Index: {self.index}")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


Script = Callable[[Asked], Awaitable[Answer]]


class ScriptedAgent:
    """Answers with what ``script(asked)`` returns; probes of the leader are answered unless ``leader`` is set."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or self.services
        self.asked: list[Asked] = []
        self.probes = 0
        self.leader: Script | None = None
        self.connections = 0
        self.open = 0
        self.port = 0
        self._state: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._changed = trio.Event()
        self._scopes: set[trio.CancelScope] = set()

    # A small catalog, for tests that do not script each answer.

    def put(self, service: str, *ports: int, index: int | None = None, **more: Any) -> None:
        """The instances of a service from now on."""
        last = max((known for known, _ in self._state.values()), default=10)
        entries = [
            {"ServiceAddress": "127.0.0.1", "ServicePort": port, "Address": "127.0.0.9", **more}
            for port in ports
        ]
        self._state[service] = (last + 1 if index is None else index, entries)
        self._changed.set()
        self._changed = trio.Event()

    async def services(self, asked: Asked) -> Answer:
        """As an agent does: at once without an index, else when there is a higher one."""
        service = asked.path.rpartition("/")[2]
        while True:
            index, entries = self._state.get(service, (1, []))
            if index > asked.index:
                return Answer(entries, index=index)
            await self._changed.wait()

    # Serving.

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, self._serve, self.port, host="127.0.0.1")
            listeners = await nursery.start(serve)
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    def reset_all(self) -> None:
        """End all connections."""
        for scope in list(self._scopes):
            scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    send, receive = trio.open_memory_channel[bytes](1000)
                    nursery.start_soon(self._read, stream, send, scope)
                    await self._answer(stream, receive, number)
                    scope.cancel()
        except* trio.BrokenResourceError:
            pass
        finally:
            self._scopes.discard(scope)
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _read(
        self, stream: trio.SocketStream, send: trio.MemorySendChannel[bytes], scope: trio.CancelScope
    ) -> None:
        # Reads on while an answer is being thought of, so that a caller that leaves is seen.
        while data := await stream.receive_some(65536):
            send.send_nowait(bytes(data))
        scope.cancel()

    async def _answer(
        self, stream: trio.SocketStream, receive: trio.MemoryReceiveChannel[bytes], number: int
    ) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await receive.receive())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                answer = await self._think(request, number)
                data = answer.data()
                await stream.send_all(data if answer.cut is None else data[: answer.cut])
                if answer.cut is not None or answer.raw is not None:
                    return
                # Only the request's half is h11's business.
                connection = h11.Connection(h11.SERVER)

    async def _think(self, request: h11.Request, number: int) -> Answer:
        parts = urlsplit(request.target.decode())
        asked = Asked(
            request.method.decode(),
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {name.decode(): value.decode() for name, value in request.headers},
            number,
        )
        if asked.path == "/v1/status/leader":
            self.probes += 1
            return await self.leader(asked) if self.leader is not None else Answer("127.0.0.1:8300")
        self.asked.append(asked)
        return await self.script(asked)


class ConsulWorld(World):
    """``run(test)`` runs ``await test(world)`` with a namer on a scripted agent."""

    def __init__(self, agent: ScriptedAgent | None = None, **config: Any) -> None:
        super().__init__(FilePath("/nonexistent"))
        self.agent = agent or ScriptedAgent()
        self._config = {"hold_ms": 100} | config
        self.namer: ConsulNamer

    async def until(self, holds: Callable[[], bool], seconds: float = 5.0) -> None:
        """Return when the condition holds. It may be about the agent, of which no Var tells, so it is looked at again
        and again."""
        with trio.move_on_after(seconds):
            while not holds():
                with trio.move_on_after(0.005):
                    assert self._changed is not None
                    await self._changed.wait()
            return
        raise AssertionError(f"not within {seconds} s; reports {self.reports}")

    def make(self, **changes: Any) -> ConsulNamer:
        config = ConsulConfig(kind="io.l5d.consul", host="127.0.0.1", port=self.agent.port, **self._config)
        return attrs.evolve(config, **changes).mk(
            NamerDeps(
                env=self.env,
                turn=self.turn,
                prefix=Path.read("/io.l5d.consul"),
                metrics=self.metrics.scope("consul"),
                resolver=self.shared.resolver,
                report=self.report,
                shared=self.shared,
            )
        )

    def run_consul(self, test: Callable[[ConsulWorld], Awaitable[None]]) -> None:
        async def main(_world: World) -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.agent.run)
                self.namer = self.make()
                nursery.start_soon(self.namer.run)
                await test(self)
                nursery.cancel_scope.cancel()

        self.run(main)
