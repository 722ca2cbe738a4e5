"""A linker as ``hostmesh run`` builds it, on the memory loop: the configuration is real, time and network are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, field, frozen

from hostmesh.config.load import load
from hostmesh.daemon.build import carried
from hostmesh.daemon.linker import Linker
from hostmesh.daemon.shared import Shared
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.namer import NamerConfig, NamerDeps
from hostmesh.naming.path import Path
from hostmesh.proxy.client_stack import ClientStack
from hostmesh.proxy.endpoint_stack import EndpointStack
from hostmesh.proxy.recorder import Recorder
from hostmesh.proxy.router import Router
from hostmesh.pump.listen import ListenOptions
from hostmesh.pump.memory import MemoryListener, MemoryLoop, VirtualEnv
from hostmesh.routing.balancers.held import FAILURE_HOLD
from hostmesh.telemetry.record import Record
from hostmesh.telemetry.render_json import render
from tests.fakes_naming import LiteralNamer, endpoints
from tests.flow.scripted import Call, Caller, Handler, Received, ScriptedEndpoint

CONFIG = """
routers:
- protocol: http
  label: out
  dtab: /svc => /#/lit
  servers:
  - port: 4140
"""
"""One router, and every name where :meth:`World.name` puts it."""

LATENCY = 0.0001
"""Seconds one way between any two places: a hop inside a host."""


def config(service: str = "", client: str = "", *, router: str = "", server: str = "") -> str:
    """:data:`CONFIG` with further keys, each block as a flow mapping: ``config("totalTimeoutMs: 100")``."""
    lines = ["routers:", "- protocol: http", "  label: out", "  dtab: /svc => /#/lit"]
    lines += [f"  service: {{{service}}}"] if service else []
    lines += [f"  client: {{{client}}}"] if client else []
    lines += [f"  {line}" for line in router.splitlines()]
    lines += ["  servers:", f"  - {{port: 4140{', ' if server else ''}{server}}}"]
    return "\n".join(lines) + "\n"


@frozen(kw_only=True)
class LiteralConfig(NamerConfig):
    """Puts a test's own namer where a configured one would be."""

    namer: Any = field(default=None, repr=False, eq=False)

    def mk(self, deps: NamerDeps) -> LiteralNamer:
        return self.namer


class Sink:
    """Keeps every record."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def wants(self, failed: bool) -> bool:
        return True

    def on_exchange(self, record: Record) -> None:
        self.records.append(record)


def listen(
    _loop: object,
    opened: MemoryListener,
    _options: ListenOptions,
    make_session: Callable[[Any], Any],
    capacity: Callable[[], int],
) -> MemoryListener:
    return opened.serve(make_session, capacity)


class World:
    """Loop, linker, names, and builders of callers and endpoints.

    ``errors`` holds what the daemon would have logged as bugs; :meth:`check` is for the end of every test.
    """

    def __init__(
        self, text: str = CONFIG, *, seed: int = 1, latency: float = LATENCY, records: bool = True
    ) -> None:
        self.errors: list[BaseException] = []
        self.reports: list[tuple[str, Mapping[str, Any]]] = []
        self.loop = MemoryLoop(latency=latency, report=self.errors.append)
        self.env = VirtualEnv(self.loop, seed)
        self.shared = Shared(
            env=self.env,
            report=lambda event, facts: self.reports.append((event, facts)),
            report_error=self.errors.append,
            loop=self.loop,
        )
        self.namer = LiteralNamer(self.shared.turn, "/lit")
        self.linker = Linker(self.shared, bind=self.loop.open_listener, listen=listen)
        self.sink = Sink() if records else None
        self.endpoints: list[ScriptedEndpoint] = []
        self.apply(text)

    def apply(self, text: str) -> None:
        """Switch to a configuration, as at the start and at every reload."""
        found, report = load(text, "test.yaml")
        assert found is not None, report.mistake_lines()
        names = LiteralConfig(kind="lit", prefix=Path.of("lit"), namer=self.namer)
        found = evolve(found, namers=(*found.namers, names))
        recorders: dict[str, Any] = {
            router.name: None if self.sink is None else Recorder(router.name, self.env, [self.sink])
            for router in carried(found)
        }
        self.linker.apply(found, recorders)

    # -- who takes part -------------------------------------------------------------------------------------------

    def endpoint(
        self, handler: Handler | None = None, *, ip: str | None = None, port: int = 80
    ) -> ScriptedEndpoint:
        """A listening endpoint; without a handler it answers 200 at once."""
        ip = f"10.0.0.{len(self.endpoints) + 1}" if ip is None else ip
        endpoint = ScriptedEndpoint(self.loop, ip, port, answering() if handler is None else handler)
        self.endpoints.append(endpoint)
        return endpoint

    def name(self, name: str, *members: ScriptedEndpoint | str) -> None:
        """``name`` is bound to these endpoints from now on; with none, to an empty set."""
        texts = [member if isinstance(member, str) else member.text for member in members]
        known = self.namer.addrs.get(name)
        if known is None:
            self.namer.add(name, *texts)
        else:
            known.set(endpoints(*texts))

    def serving(self, *handlers: Handler, name: str = "web") -> list[ScriptedEndpoint]:
        """An endpoint for each handler (or one that answers at once), all under ``name``."""
        made = [self.endpoint(handler) for handler in handlers] or [self.endpoint()]
        self.name(name, *made)
        return made

    def caller(self, port: int = 4140, *, source: str = "10.9.9.9") -> Caller:
        return Caller(self.loop, "127.0.0.1", port, source)

    # -- what happens ---------------------------------------------------------------------------------------------

    def get(self, target: str = "/", **options: Any) -> Call:
        """One request on a connection of its own, run to its end."""
        call = self.caller().request(target, **options)
        self.finish(call)
        return call

    def finish(self, *calls: Call, limit: float = 300.0) -> None:
        """Run until every call has its answer."""
        self.loop.run_while(lambda: any(call.ended is None for call in calls), limit)

    def run(self, seconds: float) -> None:
        self.loop.run_for(seconds)

    # -- what is seen ---------------------------------------------------------------------------------------------

    def router(self, label: str = "out") -> Router:
        return self.linker.routers[label]

    def client(self, name: str = "web", label: str = "out") -> ClientStack:
        return self.router(label).clients.entries[Path.read(f"/#/lit/{name}")]

    def node(self, endpoint: ScriptedEndpoint, name: str = "web") -> EndpointStack:
        for node in self.client(name).endpoints:
            if node.text == endpoint.text:
                return node
        raise KeyError(endpoint.text)

    def metric(self, name: str) -> float:
        """A counter or gauge by its path, as ``/admin/metrics.json`` shows it; 0 if there is none."""
        return float(self.metrics().get(name, 0))

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = json.loads("".join(render(self.shared.metrics)))
        return found

    def set_dtab(self, text: str, label: str = "out") -> None:
        self.linker.interpreters[label][1].set_base(Dtab.read(text))

    def check(self) -> None:
        """Nothing was logged as a bug, nothing is in flight, and every balancer has its slots back."""
        self.run(FAILURE_HOLD + 0.1)
        assert self.errors == []
        for label, router in self.linker.routers.items():
            for client in router.clients.entries.values():
                # A pick is when a balancer sees that the slots of failures may be given back.
                client.balancer.pick(self.loop.now())
                pending = {node.text: node.pending for node in client.endpoints if node.pending}
                assert (label, client.text, client.stats.pending, pending) == (label, client.text, 0, {})
            for path in router.paths.entries.values():
                assert (path.text, path.stats.pending) == (path.text, 0)
        assert self.linker.pending == 0


def answering(
    status: int = 200, body: bytes = b"ok", *, after: float = 0.0, fields: tuple[str, ...] = ()
) -> Handler:
    """A handler that always answers so."""

    def handler(received: Received) -> None:
        received.answer(status, body, after=after, fields=fields)

    return handler


def silent(received: Received) -> None:
    """A handler that never answers."""
