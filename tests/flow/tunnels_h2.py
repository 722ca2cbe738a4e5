"""The ends of tunnels over either version of HTTP, with one vocabulary, so that a test runs on all four mixes."""

from __future__ import annotations

from typing import Any, Protocol

from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from tests.flow import h2_scripted
from tests.flow.h2_endpoint import H2Endpoint, Stream
from tests.flow.h2_scripted import H2Call, H2Caller
from tests.flow.tunnels import Peer, Switching, dial, handshake
from tests.flow.world import World, config

FIELDS = (("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"), ("origin", "http://there"))
MIXES = ("h1-h1", "h1-h2", "h2-h1", "h2-h2")


class End(Protocol):
    """One end of a tunnel."""

    @property
    def data(self) -> bytes: ...

    @property
    def ended(self) -> bool:
        """The other side has said that it sends no more."""
        ...

    @property
    def cut(self) -> bool:
        """The other side has reset it."""
        ...

    def send(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """Say that no more will come."""
        ...

    def reset(self) -> None: ...

    def read(self, on: bool) -> None:
        """Take what comes, or not; at first it is taken."""
        ...


class H1End:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    @property
    def data(self) -> bytes:
        return self.peer.data

    @property
    def ended(self) -> bool:
        return "eof" in self.peer.events

    @property
    def cut(self) -> bool:
        return "reset" in self.peer.events

    def send(self, data: bytes) -> None:
        self.peer.send(data)

    def finish(self) -> None:
        self.peer.transport.shutdown_write()

    def reset(self) -> None:
        self.peer.transport.reset()

    def read(self, on: bool) -> None:
        if on:
            self.peer.transport.resume()
        else:
            self.peer.transport.pause()


class H2CallerEnd:
    def __init__(self, caller: H2Caller, call: H2Call) -> None:
        self.caller = caller
        self.call = call
        self._unsent = bytearray()
        self._over = False
        """Nothing is sent any more, but what waits."""

    @property
    def data(self) -> bytes:
        return bytes(self.call.body)

    @property
    def ended(self) -> bool:
        return self.call.done

    @property
    def cut(self) -> bool:
        return self.call.reset is not None or self.caller.closed

    def send(self, data: bytes) -> None:
        """As the windows allow, and looked at again every millisecond."""
        self._unsent += data
        self._push()

    def _push(self) -> None:
        if self.cut:
            return
        room = self.caller.room(self.call) if self._unsent else 0
        if room > 0:
            piece = bytes(self._unsent[:room])
            del self._unsent[:room]
            self.caller.data(self.call, piece)
        if self._unsent:
            self.caller.loop.call_at(self.caller.loop.now() + 0.001, self._push)
        elif self._over:
            self.caller.finish(self.call)

    def finish(self) -> None:
        self._over = True
        if not self._unsent:
            self._push()

    def reset(self) -> None:
        self._unsent.clear()
        self._over = False
        self.caller.cancel(self.call)

    def read(self, on: bool) -> None:
        self.caller.credits = on
        if on and self.call.uncredited:
            self.caller.give_back(self.call, self.call.uncredited)


class H2EndpointEnd:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    @property
    def data(self) -> bytes:
        return bytes(self.stream.body)

    @property
    def ended(self) -> bool:
        return self.stream.done

    @property
    def cut(self) -> bool:
        return self.stream.reset_code is not None

    def send(self, data: bytes) -> None:
        self.stream.data(data)

    def finish(self) -> None:
        self.stream.data(b"", end=True)

    def reset(self) -> None:
        self.stream.reset(ErrorCodes.CANCEL)

    def read(self, on: bool) -> None:
        endpoint = self.stream.session.endpoint
        endpoint.credits = on
        if on:
            size = len(self.stream.body)
            conn = self.stream.session.conn
            conn.increment_flow_control_window(size)
            conn.increment_flow_control_window(size, self.stream.id)
            self.stream.session.flush()


class Mix:
    """A world of one mix: ``caller-endpoint``, each h1 or h2."""

    def __init__(self, mix: str, *, server: str = "", client: str = "", service: str = "") -> None:
        self.mix = mix
        self.caller_version, _, self.endpoint_version = mix.partition("-")
        keys = [client] if client else []
        if self.endpoint_version == "h2":
            keys.insert(0, "protocol: h2")
        router = f"h2Engine: {h2_scripted.ENGINE}"
        self.text = config(service, ", ".join(keys), router=router, server=server)
        self.world = World(self.text)
        self.h1: Switching | None = None
        self.h2: H2Endpoint | None = None
        self.accepts = True
        """Whether an HTTP/2 endpoint agrees at once."""
        if self.endpoint_version == "h1":
            self.h1 = Switching(self.world)
        else:
            self.h2 = self.h2_endpoint()
            self.world.name("web", self.h2.text)

    def h2_endpoint(self, *, connect: bool = True) -> H2Endpoint:
        settings: Any = {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1} if connect else {}
        endpoint = H2Endpoint(self.world.loop, "10.3.0.1", 80, None, settings=settings)
        endpoint.on_head = self._agree
        return endpoint

    def _agree(self, stream: Stream) -> None:
        if self.accepts:
            stream.head(200, ("sec-websocket-protocol", "chat"))

    def ask(self, *fields: tuple[str, str], protocol: str = "websocket") -> End:
        """A caller that has asked for a tunnel."""
        if self.caller_version == "h1":
            lines = [f"{name}: {value}".encode() for name, value in fields]
            return H1End(dial(self.world, handshake(*lines, upgrade=protocol.encode())))
        caller = H2Caller(self.world.loop, 4140)
        call = caller.request(
            "/chat", method="CONNECT", fields=((":protocol", protocol), *FIELDS, *fields), end=False
        )
        return H2CallerEnd(caller, call)

    def status(self, caller: End) -> int:
        """What the caller was told."""
        return caller.peer.status if isinstance(caller, H1End) else caller.call.status  # type: ignore[attr-defined]  # it is the other one

    def endpoints(self) -> list[End]:
        """The endpoint's ends so far."""
        if self.h1 is not None:
            return [H1End(peer) for peer in self.h1.peers]
        assert self.h2 is not None
        return [H2EndpointEnd(stream) for stream in self.h2.requests]

    def tunnel(self) -> tuple[End, End]:
        """Both ends of an established tunnel."""
        caller = self.ask()
        self.world.run(0.02)
        assert self.status(caller) == (101 if self.caller_version == "h1" else 200)
        return caller, self.endpoints()[-1]
