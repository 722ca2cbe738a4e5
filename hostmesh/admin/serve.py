"""Serves the admin application over sockets: hypercorn's trio connections behind an accept loop of our own.

hypercorn's own ``serve`` is not used, because three bounds are ours to give: how many connections there may be, how
long a peer may refuse to read an answer, and that every connection is gone when the grace is over. (hypercorn writes
in a shielded scope without a deadline, so neither cancelling nor its ``graceful_timeout`` ends a connection whose peer
has stopped reading.)

No access log, no lifespan, no reloader; what hypercorn has to say goes to our logger.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from hostmesh.admin.app import AdminApp
from hostmesh.admin.identify import IdentifierApp
from hostmesh.admin.security import is_loopback_ip
from hostmesh.admin.view import View

if TYPE_CHECKING:
    from hostmesh.admin.secure import Handshakes
    from hostmesh.config.model import AdminConfig
    from hostmesh.protocol.tls.contexts import ServerContexts

MAX_CONNECTIONS = 200
"""Per listener. A dashboard needs 6, a scraper 1; each costs some 50 KiB, so this bounds admin at about 10 MiB."""

KEEP_ALIVE_S = 5.0
"""Also the time a request head may take."""

WRITE_STALL_S = 10.0
"""A peer that takes not one piece of the answer for so long is gone."""

WRITE_PIECE_BYTES = 64 * 1024

_MAX_STREAMS = 10
"""Requests at a time on one HTTP/2 connection: no more than a browser would use connections."""

_BACKLOG = 128


async def serve(
    view: View,
    options: AdminConfig,
    sockets: Sequence[socket.socket],
    *,
    stop: trio.Event,
    identifier_sockets: Sequence[socket.socket] = (),
    tls: Callable[[], ServerContexts] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on ``sockets`` until ``stop`` is set, then finish what is being answered and return.

    The sockets are bound stream sockets and stay the caller's: a port in use is an error where it was bound, and a
    reload can hand them on. This function works on duplicates, which it closes. Requests in progress at ``stop`` have
    ``options.shutdown_grace_ms``; idle connections end at once. Cancelling it cuts every connection.

    ``identifier_sockets`` is the ``httpIdentifierPort`` listener: it answers every request with what the http routers'
    identifiers make of it, and knows no other page. ``tls`` makes all of them https: it is asked for the contexts
    of every new connection.
    """
    apps: list[tuple[Any, socket.socket]] = []
    for sock in sockets:
        apps.append((AdminApp(view, security=options.security, loopback=_is_loopback(sock)), sock))
    for sock in identifier_sockets:
        apps.append((IdentifierApp(view), sock))
    grace_s = options.shutdown_grace_ms / 1000
    async with trio.open_nursery() as nursery:
        for app, sock in apps:
            handshakes = None if tls is None else _handshakes(tls, view)
            await nursery.start(partial(_serve_app, app, sock, handshakes, stop=stop, grace_s=grace_s))
        task_status.started()


def _handshakes(tls: Callable[[], ServerContexts], view: View) -> Handshakes:
    # Only here: an admin in plain text does not load TLS.
    from hostmesh.admin.secure import Handshakes

    return Handshakes(tls, view.metrics)


async def _serve_app(
    app: Callable[..., Any],
    sock: socket.socket,
    handshakes: Handshakes | None,
    *,
    stop: trio.Event,
    grace_s: float,
    task_status: trio.TaskStatus[None],
) -> None:
    config = _hypercorn_config()
    context = WorkerContext(None)
    wrapped = ASGIWrapper(app)
    open_now: set[_PatientStream] = set()

    async def connection(stream: trio.SocketStream) -> None:
        # Those that shake hands have a bound of their own: whoever stalls there takes nobody's place here.
        if len(open_now) - (0 if handshakes is None else handshakes.pending) >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        patient = _PatientStream(stream)
        open_now.add(patient)
        try:
            ready = patient if handshakes is None else await handshakes.secured(patient, _peer(stream))
            if ready is not None:
                await TCPServer(wrapped, config, context, ConnectionState({}), cast("Any", ready)).run()
        finally:
            if handshakes is not None:
                patient.cut()
            open_now.discard(patient)

    async def cut_at_the_end() -> None:
        # Closing the socket is what wakes a write that hypercorn has shielded from cancellation.
        try:
            await trio.sleep_forever()
        finally:
            for patient in open_now:
                patient.cut()

    async with trio.open_nursery() as connections:
        connections.start_soon(cut_at_the_end)
        async with trio.open_nursery() as accepting:
            listeners = [_listener(sock)]
            await accepting.start(
                partial(trio.serve_listeners, connection, listeners, handler_nursery=connections)
            )
            task_status.started()
            await stop.wait()
            accepting.cancel_scope.cancel()
            if handshakes is not None:
                handshakes.end()
        await context.terminated.set()
        with trio.move_on_after(grace_s):
            while open_now:
                await next(iter(open_now)).wait_closed()
        connections.cancel_scope.cancel()


def _listener(sock: socket.socket) -> trio.SocketListener:
    duplicate = sock.dup()
    duplicate.setblocking(False)
    if not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        duplicate.listen(_BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(duplicate))


def _is_loopback(sock: socket.socket) -> bool:
    if sock.family == socket.AF_UNIX:
        return True
    return is_loopback_ip(sock.getsockname()[0])


def _peer(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return "unknown"


class _PatientStream:
    """A stream whose writes end, whoever reads them. hypercorn sees it in place of the trio stream.

    It has no ``do_handshake``: that is how hypercorn tells plain connections from TLS.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._closed = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def send_all(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), WRITE_PIECE_BYTES):
            with trio.move_on_after(WRITE_STALL_S) as scope:
                await self._stream.send_all(view[start : start + WRITE_PIECE_BYTES])
            if scope.cancelled_caught:
                self.cut()
                raise trio.BrokenResourceError(f"the peer read nothing for {WRITE_STALL_S:g} s")

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._closed.set()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def cut(self) -> None:
        """Close the socket now; whoever waits on it gets ClosedResourceError."""
        self._stream.socket.close()
        self._closed.set()


class _Logger:
    """What hypercorn logs with: its errors become ours, its access log is nobody's."""

    def __init__(self, _config: Config) -> None:
        self._log = structlog.get_logger("hostmesh.admin.http")

    async def access(self, *_args: object) -> None:
        pass

    async def critical(self, message: str, *args: object, **_kwargs: object) -> None:
        self._log.critical(message % args)

    async def error(self, message: str, *args: object, **_kwargs: object) -> None:
        self._log.error(message % args)

    async def warning(self, message: str, *args: object, **_kwargs: object) -> None:
        self._log.warning(message % args)

    async def info(self, message: str, *args: object, **_kwargs: object) -> None:
        self._log.debug(message % args)

    debug = info

    async def exception(self, message: str, *args: object, **_kwargs: object) -> None:
        self._log.exception(message % args)


def _hypercorn_config() -> Config:
    config = Config()
    config.logger_class = _Logger  # type: ignore[assignment]  # same methods, no common base
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    # hypercorn's end of a stream puts one more item on the request's queue, from the task that should empty it: with a
    # small queue, an answer sent while a body is arriving can wait for itself. The application takes every piece
    # at once and bounds their sum, so the queue need not be a second bound.
    config.max_app_queue_size = sys.maxsize
    config.h2_max_concurrent_streams = _MAX_STREAMS
    return config
