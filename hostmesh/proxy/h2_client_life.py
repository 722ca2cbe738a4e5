"""The life of a connection to an HTTP/2 endpoint: how long it lasts, how it is found dead, and how it ends.

It ends when its peer says GOAWAY, at its age, or when it has been idle for long enough, and then lets the streams it
has come to their end. There is one timer per connection, re-armed when it fires and not at every read or stream.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h2.engine import NO_ERROR, PROTOCOL_ERROR
from hostmesh.protocol.h2.listening import SessionListener
from hostmesh.protocol.tls.failures import lost_reason
from hostmesh.proxy.h2_liveness import PING_QUIET, PING_TIMEOUT, Liveness

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engines import AnyEngine
    from hostmesh.proxy.h2_client_stream import H2EndpointStream
    from hostmesh.proxy.h2_pool import H2EndpointStack
    from hostmesh.proxy.h2_sending import Sending
    from hostmesh.pump.loop import AnyTransport, TimerHandle


class H2ClientLife(SessionListener):
    """What a connection is whatever it carries; :class:`H2ClientSession` makes the engine and then begins it."""

    __slots__ = (
        "_kept",
        "_liveness",
        "_loop",
        "_step",
        "_timer",
        "_transport",
        "closed",
        "endpoint",
        "engine",
        "idle_since",
        "opened",
        "retired",
        "sending",
        "streams",
    )

    __deletable__ = ("engine", "sending")

    sending: Sending

    def __init__(self, endpoint: H2EndpointStack, transport: AnyTransport, now: float) -> None:
        client = endpoint.client
        # Declared in the class, mypy would take the union for the protocol in it.
        self.engine: AnyEngine
        self.endpoint = endpoint
        self._transport = transport
        self._loop = client.loop
        self.streams: dict[int, H2EndpointStream] = {}
        self.closed = False
        self.retired = False
        """No new streams: it closes with its last one."""
        self.opened = now
        self.idle_since = now
        self._kept = now
        """When it was last kept although it had rested for its time."""
        self._liveness = Liveness(now)
        self._step = min(PING_QUIET, client.idle_time or inf)
        self._timer: TimerHandle | None = None

    def _changed(self) -> None:
        """It takes more or fewer streams than before."""
        raise NotImplementedError

    def _over(self) -> None:
        """It is gone; its streams are told after this."""
        raise NotImplementedError

    # -- time -----------------------------------------------------------------------------------------------------

    def _ping(self, now: float) -> None:
        self.engine.ping(self._liveness.ping(now))
        self.sending.flush_soon()
        self._watch(now)

    def _watch(self, now: float) -> None:
        """Set the timer to what is due next. It never waits for longer than the shortest of all times, so nothing has
        to set it anew that only moves a time further away, as every read and every stream does."""
        if self._timer is not None:
            self._timer.cancel()
        due = now + self._step
        since = self.engine.headers_since
        if since is not None:
            due = min(due, since + self.endpoint.client.settings.h2.budgets.header_seconds)
        due = min(due, self._liveness.due(bool(self.streams)), self._rest_until(), self._life_until())
        self._timer = self._loop.call_at(due, self._check)

    def _rest_until(self) -> float:
        idle_time = self.endpoint.client.idle_time
        return inf if self.streams or idle_time is None else max(self.idle_since, self._kept) + idle_time

    def _life_until(self) -> float:
        life_time = self.endpoint.client.life_time
        return inf if self.retired or life_time is None else self.opened + life_time

    def _check(self) -> None:
        self._timer = None
        now = self._loop.now()
        since = self.engine.headers_since
        if since is not None and now >= since + self.endpoint.client.settings.h2.budgets.header_seconds:
            self.engine.goaway(PROTOCOL_ERROR)
            self._end(Reason.BAD_RESPONSE, "did not complete a header block in time")
            return
        if self._liveness.dead(now):
            self._end(Reason.RESET_BY_ENDPOINT, f"did not answer a PING within {PING_TIMEOUT:g} s")
            # Nobody is there to read what is still to be written.
            self._transport.abort()
            return
        if now >= self._liveness.due(bool(self.streams)):
            self._ping(now)
            return
        if now >= self._rest_until():
            if self.endpoint.may_shrink():
                self._finish()
                return
            self._kept = now
        if now >= self._life_until():
            self.retire()
            if self.closed:
                return
        self._watch(now)

    # -- the end --------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Open no more streams; close with the last one, which may be now."""
        self.retired = True
        if not self.streams:
            self._finish()
        else:
            self._changed()

    def _finish(self) -> None:
        """Close: no stream is open."""
        if not self.closed:
            self.engine.goaway(NO_ERROR)
            self._shut()
            self._transport.close()
            self._over()

    def _end(self, reason: Reason, what: str) -> None:
        """The endpoint did ``what``, which is the end of the connection and of every stream."""
        if not self.closed:
            self._shut()
            self._transport.close()
            self._lose(reason, what)

    def _shut(self) -> None:
        """Write what the engine still has to say, and nothing after it."""
        self.sending.flush()
        self.sending.close()
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # In a later turn, since the engine may be what calls.
        self._loop.turn.call_soon(self._let_go)

    def _let_go(self) -> None:
        """Break the cycles with those who call back: the collector's pauses are the data path's."""
        del self.engine
        del self.sending

    def _lose(self, reason: Reason, what: str) -> None:
        streams, self.streams = self.streams, {}
        self._over()
        for half in streams.values():
            half.lost(half.broke(what, reason))

    def eof_received(self) -> None:
        self._end(Reason.RESET_BY_ENDPOINT, "closed the connection")

    def connection_lost(self, error: OSError | None) -> None:
        if not self.closed:
            self._shut()
            what = "closed the connection"
            if error is not None:
                what = f"broke the connection ({error.strerror or error})"
            self._lose(lost_reason(error), what)
