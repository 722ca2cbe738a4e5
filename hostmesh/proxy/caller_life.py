"""The life of a caller's HTTP/1.1 connection: its time, its refusals, and its ends.

It ends with an answer, when it has been idle for long enough, when its caller breaks a rule or takes too long, when it
becomes another session's or a tunnel's, or with a drain, and then never by surprise.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.protocol.h2.connect import switch_lines
from hostmesh.proxy import refusals
from hostmesh.proxy.caller_answers import RESPONSE_LINES, SUCCESS_LINES, CallerAnswers
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.tunnel import Handover

if TYPE_CHECKING:
    from hostmesh.protocol.h1_body import Body
    from hostmesh.protocol.h1_message import ResponseHead
    from hostmesh.proxy.server import Server
    from hostmesh.proxy.tunnel import Tunnel
    from hostmesh.pump.loop import TimerHandle, Transport


class CallerLife(CallerAnswers):
    """What :class:`hostmesh.proxy.caller_session.CallerSession` is apart from what it reads."""

    __slots__ = (
        "_body",
        "_buf",
        "_ex",
        "_held",
        "_searched",
        "_timer",
        "_unused",
        "head_since",
        "idle_since",
        "opened",
    )

    def __init__(self, server: Server, transport: Transport, now: float) -> None:
        super().__init__(server, transport)
        # A caller that reset its connection wants no answer, whatever it had sent before.
        transport.patient = False
        self._ex: Exchange | None = None
        self._buf = b""
        self._searched = 0
        """Bytes of an unfinished head that have been looked through."""
        self._body: Body | None = None
        self._held: list[bytes] | None = None
        """Pieces of a body that is read whole before it is forwarded."""
        self._unused = True
        """No request has arrived yet."""
        self.opened = now
        self.idle_since = now
        self.head_since = now
        first = min(server.first_head_time, server.settings.idle_time, server.settings.life_time or inf)
        self._timer: TimerHandle | None = server.loop.call_at(now + first, self._check_time)

    # -- refusals -------------------------------------------------------------------------------------------------

    def _refuse(self, error: MeshError) -> None:
        """A message that may not be parsed any further: answer if nothing was answered, and end the connection."""
        ex = self._ex
        self._buf = b""
        self._body = None
        self._held = None
        server = self._server
        if ex is None:
            server.refused(self, error, server.loop.now())
            self._write_error(error, b"")
        elif ex.finished:
            self._ex = None
        else:
            self._ex = None
            if ex.committed:
                ex.request_aborted(error)
                # As for a response that breaks off: it must not look complete.
                self._transport.reset()
            else:
                ex.status = error.status
                ex.request_aborted(error)
                self._write_error(error, ex.reqid)
        self._end()

    def cut(self) -> None:
        """The response stays incomplete: a reset, and on chunked bodies no last chunk, tell the caller so."""
        self._ex = None
        self._transport.reset()
        self._stop_timer()

    # -- ends -----------------------------------------------------------------------------------------------------

    def _abandon(self, ex: Exchange, error: MeshError) -> None:
        self._ex = None
        self._body = None
        self._held = None
        try:
            ex.request_aborted(error)
        except Exception as bug:
            self._server.router.report(bug)
        self._transport.abort()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        """The connection is another session's: the caller speaks HTTP/2."""
        self._stop_timer()

    def _end(self) -> None:
        """Close once what was written has left. The server counts the connection until it has gone."""
        self._stop_timer()
        self._transport.close()
        if not self._transport.unsent:
            self._server.gone(self, self._transport)

    def switch(self, ex: Exchange, head: ResponseHead, protocol: bytes, tunnel: Tunnel) -> Handover:
        """HTTP ends here: the 101 goes out, and the connection is the tunnel's."""
        server, transport = self._server, self._transport
        self._ex = None
        self._stop_timer()
        self._paused = False
        early, self._buf = self._buf, b""
        clear = server.clear_context
        data = switch_lines(ex.head, head, protocol, RESPONSE_LINES if clear else SUCCESS_LINES, clear=clear)
        server.became(self, tunnel)
        read = transport.bytes_in - len(early)
        written = transport.bytes_out + len(data)

        def over(came: int, went: int) -> None:
            # Of TLS the transport knows better: records are longer than what they carry.
            server.left(
                tunnel, max(read + came, transport.bytes_in), max(written + went, transport.bytes_out)
            )

        return Handover(transport, early, data, over)

    def give_up(self) -> bytes:
        """A CONNECT is carried out: the connection is a tunnel's. What had been read of it behind the head."""
        self._stop_timer()
        self._paused = False
        early, self._buf = self._buf, b""
        return early

    def given_up(self, received: int, sent: int) -> None:
        """That tunnel has ended; the connection carried so many bytes."""
        self._ex = None
        self._server.left(self, received, sent)

    # -- time -----------------------------------------------------------------------------------------------------

    def _head_due(self) -> float:
        """When the head that has begun must be complete; the first one on a connection also counts from the accept."""
        due = self.head_since + self._server.head_time
        return min(due, self.opened + self._server.first_head_time) if self._unused else due

    def _check_time(self) -> None:
        """One timer per connection, re-armed when it fires and not at every request."""
        self._timer = None
        server = self._server
        now = server.loop.now()
        if self._searched:
            due = self._head_due()
            if now >= due:
                self._refuse(refusals.late_head(due - self.head_since))
                return
        elif self._body is not None and not self._paused:
            due = now + server.body_idle
            read = self._transport.bytes_in
            if read == self._seen_bytes:
                self._refuse(refusals.late_body(server.body_idle))
                return
            self._seen_bytes = read
        elif self._ex is None:
            life = server.settings.life_time
            due = self.idle_since + (server.first_head_time if self._unused else server.settings.idle_time)
            if server.draining:
                due = self.idle_since + server.drain_quiet
            elif life is not None:
                due = min(due, self.opened + life)
            if now >= due:
                if not server.draining or not self._transport.unread:
                    self._end()
                    return
                # A request came while this batch was worked off: it is answered next.
                due = now + server.drain_quiet
        else:
            due = now + (server.settings.idle_time if self._body is None else server.body_idle)
            life = server.settings.life_time
            if life is not None:
                if now >= self.opened + life:
                    self._close = True
                else:
                    due = min(due, self.opened + life)
        self._timer = server.loop.call_at(due, self._check_time)

    def drain(self) -> None:
        """End with the next answer, which says so, or when nothing has been asked for a while; never by surprise."""
        if self._ex is None and not self._searched and not self._buf:
            server = self._server
            if self._timer is not None:
                self._timer.cancel()
            # By a timer even when it is due: what has arrived by now is read first.
            when = max(server.loop.now(), self.idle_since + server.drain_quiet)
            self._timer = server.loop.call_at(when, self._check_time)

    def abort(self) -> None:
        ex = self._ex
        if ex is not None:
            error = refusals.end_of_drain()
            if ex.committed:
                self._abandon(ex, error)
            else:
                self._refuse(error)
        else:
            self._transport.abort()
            self._stop_timer()
