"""An engine between a recording listener and a raw peer: what tests of HTTP/2 engines stand on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.budgets import DEFAULT_BUDGETS, Budgets
from hostmesh.protocol.h2.engine import ConnectionFault, Engine, Listener, Pairs
from hostmesh.protocol.h2.engines import ENGINES as KINDS
from hostmesh.protocol.h2.engines import make_engine
from hostmesh.protocol.h2.settings import H2Settings
from tests import h2_raw as raw
from tests.h2_raw import RawFrame, RawPeer

EngineClass: TypeAlias = Callable[[H2Settings, Listener], Engine]

ENGINES: dict[str, EngineClass] = {kind: partial(make_engine, kind) for kind in KINDS}
"""Every engine passes the same tests."""


class Recorder:
    """A listener that writes down what it hears."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.errors: list[MeshError] = []
        """Of the stream faults, in order."""
        self.on_event: Callable[[tuple[Any, ...]], None] | None = None
        """Called with each event: how a test acts from within a call of the engine."""

    def _add(self, *event: Any) -> None:
        self.events.append(event)
        if self.on_event is not None:
            self.on_event(event)

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        self._add("head", stream, [(bytes(n), bytes(v)) for n, v in pairs], end)

    def on_informational(self, stream: int, pairs: Pairs) -> None:
        self._add("informational", stream, [(bytes(n), bytes(v)) for n, v in pairs])

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        self._add("data", stream, bytes(data), end)

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        self._add("trailers", stream, [(bytes(n), bytes(v)) for n, v in pairs])

    def on_reset(self, stream: int, code: int) -> None:
        self._add("reset", stream, code)

    def on_stream_fault(self, stream: int, error: MeshError, code: int) -> None:
        self.errors.append(error)
        self._add("fault", stream, error.reason.value, error.status, code)

    def on_window(self, stream: int) -> None:
        self._add("window", stream)

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        self._add("goaway", last, code, bytes(debug))

    def on_settings(self) -> None:
        self._add("settings")

    def on_pong(self, payload: bytes) -> None:
        self._add("pong", bytes(payload))

    def said(self, *kinds: str) -> list[tuple[Any, ...]]:
        """The events of these kinds, all without any."""
        return [event for event in self.events if not kinds or event[0] in kinds]


class Connection:
    """An engine, already started, and the raw peer it talks to."""

    def __init__(
        self,
        engine_class: EngineClass,
        client_side: bool = False,
        budgets: Budgets = DEFAULT_BUDGETS,
        started: bool = True,
        **settings: Any,
    ) -> None:
        self.heard = Recorder()
        self.settings = H2Settings(client_side=client_side, budgets=budgets, **settings)
        self.engine = engine_class(self.settings, self.heard)
        self.peer = RawPeer()
        self.now = 0.0
        self.fault: ConnectionFault | None = None
        """What ended the connection."""
        self.greeting: list[RawFrame] = []
        if started:
            self.engine.start()
            self.greeting = self.frames()
            preface = b"" if client_side else raw.PREFACE
            self.feed(preface, raw.settings(), raw.SETTINGS_ACK)
            self.frames()
            self.heard.events.clear()

    def feed(self, *parts: bytes) -> None:
        """Bytes from the peer, in one read; a fault is kept in ``fault``."""
        try:
            self.engine.receive(b"".join(parts), self.now)
        except ConnectionFault as fault:
            self.fault = fault

    def frames(self) -> list[RawFrame]:
        """What the engine wants to send now."""
        return self.peer.read(self.engine.take())

    def request(self, stream: int, fields: raw.Fields | None = None, end: bool = True) -> None:
        self.feed(self.peer.headers(stream, raw.get() if fields is None else fields, end))

    def sent(self, kind: int) -> list[RawFrame]:
        """The frames of this type that the engine wants to send; the others are dropped."""
        return [each for each in self.frames() if each.kind == kind]

    def resets(self) -> list[tuple[int, int]]:
        """(stream, code) of each RST_STREAM that the engine wants to send."""
        return [(each.stream, each.code) for each in self.sent(raw.RST_STREAM)]
