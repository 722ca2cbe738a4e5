"""Two connections joined after an upgrade: what comes from one goes to the other, untouched, until both have ended.

A tunnel begins where its exchange has done its work: the endpoint's 101 has been checked and has gone to the caller.
The request is counted then, with the time to the 101 as its latency; the tunnel goes on counting as load (``pending``)
of its server, its path, its client and its endpoint, so balancers see it, and its record is made when it ends.

The loop moves the bytes, paced by who reads them, and passes a FIN on (``pump/tunnel.py``); here is what makes it a
part of the proxy: what it counts as, how long it may be silent, and its end with a drain. It is cut with a reset both
ways, because a stream that is cut must not look complete.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from hostmesh.protocol.upgrade import SWITCHING
from hostmesh.proxy import refusals
from hostmesh.pump.loop import Transport
from hostmesh.pump.tunnel import CopyTunnel

if TYPE_CHECKING:
    from hostmesh.base.errors import MeshError
    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.pump.loop import TimerHandle
    from hostmesh.pump.tunnel import Side
    from hostmesh.pump.tunnel import Tunnel as Relay
    from hostmesh.telemetry.metrics import Scope

TUNNEL_IDLE = 3600.0
"""Seconds without a byte in either direction after which a tunnel is cut (``tunnelIdleTimeMs``). An hour: WebSockets
may be silent for long, and a peer that vanished without a word must not be remembered for ever."""

HALF_CLOSED_IDLE = 300.0
"""The same once one side has said that it sends no more: nearly always it has gone, and the other has not noticed."""

LOOK = 15.0
"""Seconds between looks at what has passed, at most: so stale are the byte counters, and so late may an idle tunnel be
cut. A byte itself costs no clock reading and no counter."""

LOOKS = 4
"""Looks in an idle time, and in the time that a reader may take nothing, at least."""


@frozen
class Handover:
    """One end, as its half gives it away: nobody else reads or writes it from then on."""

    transport: Transport
    early: bytes
    """What had been read from it behind its last message: the first bytes of the tunnel."""
    head: bytes
    """What has to be written to it before the tunnel begins."""
    over: Callable[[int, int], object]
    """Called once, when the tunnel has ended, with the bytes that came out of it and went into it."""


class TunnelStats:
    """The tunnels of one server: ``tunnels/*`` below its node."""

    __slots__ = ("duration", "open", "opened", "received_bytes", "sent_bytes")

    def __init__(self, scope: Scope) -> None:
        self.open = 0
        scope.gauge("open", lambda: float(self.open))
        self.opened = scope.counter("opened")
        self.received_bytes = scope.counter("received_bytes")
        self.sent_bytes = scope.counter("sent_bytes")
        self.duration = scope.stat("duration_ms", scale=1000)


class Tunnel:
    """See the module's text. Made by :func:`open_tunnel`; ends itself. A server holds it as a caller's connection."""

    __slots__ = (
        "_idle",
        "_interval",
        "_last",
        "_over",
        "_relay",
        "_sent",
        "_since",
        "_stalls",
        "_stats",
        "_stuck",
        "_timer",
        "ex",
    )

    def __init__(self, ex: Exchange, now: float) -> None:
        self.ex = ex
        self._stats = ex.server.tunnels
        self._idle = ex.server.settings.tunnel_idle
        self._since = now
        self._last = now
        """When a byte was last seen to have passed."""
        self._stuck = [now, now]
        """When the caller and the endpoint were last seen to take a byte, or none waited for them."""
        self._stalls = (0.0, 0.0)
        """Seconds after which they have gone."""
        self._interval = min(LOOK, self._idle / LOOKS)
        self._timer: TimerHandle | None = None
        self._relay: Relay | None = None
        self._sent = 0
        """What to add to the bytes that the relay has written to the caller."""
        self._over: tuple[Callable[[int, int], object], ...] = ()

    def join(self, caller: Handover, endpoint: Handover) -> None:
        """Begin. What came early on either side goes first."""
        self._stats.open += 1
        self._stats.opened.value += 1
        self._over = (caller.over, endpoint.over)
        near = caller.transport
        # Of transports that go on; sockets that leave theirs are looked after here (hardening R2).
        self._stalls = (near.write_stall, endpoint.transport.write_stall)
        self._interval = min([self._interval, *(each / LOOKS for each in self._stalls if each)])
        before = near.bytes_out
        near.write(caller.head + endpoint.early)
        loop = self.ex.router.loop
        self._relay = loop.tunnel(near, endpoint.transport, caller.early, self._ended)
        if isinstance(self._relay, CopyTunnel):
            self._sent = len(endpoint.early)
        else:
            # Behind that: a tunnel of sockets sends what is held, and this counts what it does not.
            self._sent = near.bytes_out - before - len(caller.head)
        self._timer = loop.call_at(self._last + self._interval, self._look)

    def _ended(self, side: Side | None, error: OSError | None) -> None:
        """Both connections are closed: ``side`` broke, or both have ended."""
        if self._relay is None:
            # Both were broken before it began, and it says so before it is there.
            self.ex.router.loop.turn.call_soon(self._ended, side, error)
        elif error is None:
            self._finish(None)
        elif side == "near":
            self._finish(refusals.gone(f"caller's connection broke in the tunnel: {error}"))
        else:
            self._finish(refusals.endpoint_gone(f"the endpoint broke its connection in the tunnel: {error}"))

    def _cut(self, error: MeshError) -> None:
        assert self._relay is not None
        self._relay.abort()
        self._finish(error)

    def drain(self) -> None:
        """Nothing can be said inside a tunnel: it has the time of the drain to end by itself."""

    def abort(self) -> None:
        """The end of the drain."""
        self.end_with(refusals.end_of_drain())

    def end_with(self, error: MeshError) -> None:
        """Cut both ends, because of ``error``."""
        if self._relay is not None:
            self._cut(error)

    # -- what has passed ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        loop = self.ex.router.loop
        now = loop.now()
        self._timer = None
        relay = self._relay
        assert relay is not None
        received, sent = self._count()
        if received or sent:
            self._last = now
        stuck = self._stuck
        if sent or not relay.held_near:
            stuck[0] = now
        if received or not relay.held_far:
            stuck[1] = now
        limit = min(self._idle, HALF_CLOSED_IDLE) if relay.half_closed else self._idle
        near, far = self._stalls
        if now - self._last >= limit:
            self._cut(refusals.idle_tunnel(limit))
        elif near and now - stuck[0] >= near:
            self._cut(
                refusals.gone(f"caller has taken nothing of what waits for it in the tunnel for {near:g} s")
            )
        elif far and now - stuck[1] >= far:
            what = f"the endpoint has taken nothing of what waits for it in the tunnel for {far:g} s"
            self._cut(refusals.endpoint_gone(what))
        else:
            self._timer = loop.call_at(now + self._interval, self._look)

    def _count(self) -> tuple[int, int]:
        """Count what has passed since the last time; how many bytes to the endpoint and to the caller."""
        ex, relay, stats = self.ex, self._relay, self._stats
        assert relay is not None
        received = relay.sent_far - ex.request_bytes
        sent = max(0, relay.sent_near + self._sent - ex.response_bytes)
        ex.request_bytes += received
        ex.response_bytes += sent
        stats.received_bytes.value += received
        stats.sent_bytes.value += sent
        return received, sent

    def _finish(self, error: MeshError | None) -> None:
        self._count()
        ex = self.ex
        ex.error = error
        self._relay = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = ex.router.loop.now()
        stats = self._stats
        stats.open -= 1
        stats.duration.add(int((now - self._since) * 1e6))
        node, client, path, server = ex.last_endpoint, ex.client, ex.path, ex.server
        assert node is not None
        assert client is not None
        assert path is not None
        client.balancer.finished(node, now, None, False)
        client.stats.pending -= 1
        path.stats.pending -= 1
        server.stats.pending -= 1
        if error is not None:
            server.stats.failed(error.reason)
            path.stats.failed(error.reason)
        recorder = ex.router.recorder
        if recorder is not None:
            recorder.exchange_done(ex, int((now - ex.start) * 1e6), error is None, now)
        over, self._over = self._over, ()
        passed = (ex.request_bytes, ex.response_bytes)
        for each, (came, went) in zip(over, (passed, passed[::-1]), strict=True):
            each(came, went)


def open_tunnel(ex: Exchange, head: ResponseHead, protocol: bytes, endpoint: Handover) -> None:
    """The endpoint has switched to ``protocol`` with ``head``: account the request, tell the caller, join the two."""
    now = ex.router.loop.now()
    path, client = ex.path, ex.client
    assert path is not None
    assert client is not None
    ex.switched(head, now)
    node = ex.last_endpoint
    assert node is not None
    micros = int((now - ex.start) * 1e6)
    # The request is over and counted; from here on the tunnel is what is pending.
    client.balancer.started(node, now)
    client.stats.pending += 1
    path.done(ex, micros, True)
    path.stats.done(SWITCHING, micros, True)
    path.stats.pending += 1
    ex.server.stats.done(SWITCHING, micros, True)
    tunnel = Tunnel(ex, now)
    tunnel.join(ex.caller.switch(ex, head, protocol, tunnel), endpoint)
