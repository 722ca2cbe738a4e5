"""kazoo, with its callbacks on trio's thread. Import this module only when a configuration names ZooKeeper: kazoo
and what it needs take 10 MB and a tenth of a second.

One thread per client, which only waits for the socket: kazoo's own handler has two more, for callbacks, and every
hand-over between them costs a change of threads beside a busy data path.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from typing import Any

import trio
from kazoo.client import KazooClient
from kazoo.exceptions import (
    EXCEPTIONS,
    ConnectionClosedError,
    ConnectionLoss,
    SessionExpiredError,
    ZookeeperError,
)
from kazoo.exceptions import NoNodeError as KazooNoNodeError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.retry import KazooRetry
from kazoo.security import make_acl

from hostmesh.protocol.tls.server_name import server_name_of
from hostmesh.registry.tls_context import ClientContexts, Report, TlsSettings
from hostmesh.registry.tls_trouble import told
from hostmesh.registry.usable import endpoint_of

__all__ = ["LOST", "Client", "Contexts", "KazooNoNodeError", "make_acl"]

LOST = (ConnectionLoss, ConnectionClosedError, SessionExpiredError)
"""What a request gets when its connection or session ends."""

CONNECT_S = 2.0
"""For a TCP connection to one server. kazoo would wait for the session timeout, and after a healed partition the
kernel repeats a lost SYN only after 1, 3 and 7 s: it is better to begin anew."""

DELAY_S = 0.1
MAX_DELAY_S = 0.7
JITTER = 0.4
"""Between rounds over the servers: 0.7 s and 40 % of it is just below a second."""


HOST = "{host}"
"""In a name to verify: the server's name in the configuration."""


class _NoWatcherError(ZookeeperError):  # type: ignore[misc]
    """There is no such watch, because it has just fired. kazoo ends its thread at a code it does not know."""

    code = -121


EXCEPTIONS[_NoWatcherError.code] = _NoWatcherError


class Contexts:
    """TLS of an ensemble: one context for each name that its servers have. Used in kazoo's thread."""

    def __init__(self, tls: TlsSettings, name: str, report: Report) -> None:
        self._tls = tls
        self._name = name
        self._report = report
        self._made: dict[str, ClientContexts] = {}

    def secured(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        """TLS on a connection to ``host``, verified; kazoo by itself would take a certificate for any name."""
        name = self._name.replace(HOST, host)
        contexts = self._made.get(name)
        if contexts is None:
            contexts = self._made[name] = ClientContexts(self._tls, name, self._report, alpn=())
        try:
            sock.settimeout(CONNECT_S)
            return contexts.current().wrap_socket(sock, server_hostname=server_name_of(name))
        except OSError as error:
            sock.close()
            said = told(error, host) if isinstance(error, ssl.SSLError) else str(error)
            # kazoo repeats the second argument, in its log.
            raise ConnectionError(errno.EPROTO, f"no TLS with {host}: {said}") from error


class _TrioQueue:
    """What kazoo puts here runs on trio's thread, in order."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token

    def put(self, fn: Callable[[], object]) -> None:
        # The loop has ended: nobody waits for this any more.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(fn)


class TrioHandler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's interface to its surroundings."""

    name = "trio_handler"

    def __init__(
        self, token: trio.lowlevel.TrioToken, *, wary: bool = False, tls: Contexts | None = None
    ) -> None:
        super().__init__()
        self._tls = tls
        self._wary = wary
        """Addresses that no service has are not dialled, whatever name they were found under."""
        self.callback_queue = self.completion_queue = _TrioQueue(token)
        self._socket: socket.socket | None = None
        self.accepted = 0
        """Connections that servers have taken since the last session."""
        self.on_accept: Callable[[], None] | None = None

    @property
    def running(self) -> bool:
        """Always: kazoo calls back in its own thread otherwise, also while it stops."""
        return True

    def start(self) -> None:
        """No threads for callbacks."""

    def stop(self) -> None:
        """No threads for callbacks."""

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        # kazoo has looked names up by now, and this is the address that it dials.
        host, port = args[0] if args else kwargs["address"]
        if self._wary and endpoint_of(host, port) is None:
            raise PermissionError(errno.EACCES, f"{host}:{port} is no address of a service")
        kwargs["timeout"] = min(kwargs.get("timeout") or CONNECT_S, CONNECT_S)
        self._socket = super().create_connection(*args, **kwargs)
        if self._tls is not None:
            self._socket = self._tls.secured(self._socket, kwargs["hostname"])
        self.accepted += 1
        if self.on_accept is not None:
            self.on_accept()
        return self._socket

    def select(self, *args: Any, **kwargs: Any) -> Any:
        # What TLS has decrypted and kazoo not read is nothing that the kernel knows of.
        waiting = [each for each in args[0] if isinstance(each, ssl.SSLSocket) and each.pending()]
        if not waiting:
            return super().select(*args, **kwargs)
        readable, writable, broken = super().select(*args[:3], 0)
        return [*readable, *(each for each in waiting if each not in readable)], writable, broken

    def drop(self) -> None:
        """End the connection under kazoo, which reconnects and keeps its session.

        kazoo notices a dead connection by its own pings only, and sends none while it has requests to send.
        """
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which would leave kazoo reading without TLS.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _RemoveWatches:
    """ZooKeeper 3.5 and later. Older servers refuse it, and keep the watch until it fires."""

    type = 18
    ANY = 3

    def __init__(self, path: str) -> None:
        self.path = path

    def serialize(self) -> bytes:
        path = self.path.encode()
        return struct.pack("!i", len(path)) + path + struct.pack("!i", self.ANY)

    @classmethod
    def deserialize(cls, _data: bytes, _offset: int) -> bool:
        return True


class _LastWarning(logging.Handler):
    """kazoo tells why it cannot connect in its log, and nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


class Client(KazooClient):  # type: ignore[misc]
    """One session with an ensemble. Made and used on trio's thread."""

    def __init__(
        self,
        hosts: list[str],
        session_timeout_s: float,
        auth: Iterable[tuple[str, str]],
        *,
        wary: bool = False,
        tls: Contexts | None = None,
    ) -> None:
        self._warnings = _LastWarning()
        logger = logging.Logger("hostmesh.zookeeper", logging.WARNING)
        logger.addHandler(self._warnings)
        handler = TrioHandler(trio.lowlevel.current_trio_token(), wary=wary, tls=tls)
        super().__init__(
            # Each twice: kazoo asks one after the other before it pauses, and the second time may be different.
            hosts=",".join([*hosts, *hosts]),
            timeout=session_timeout_s,
            handler=handler,
            auth_data=list(auth),
            connection_retry=KazooRetry(
                max_tries=-1,
                delay=DELAY_S,
                backoff=2,
                max_delay=MAX_DELAY_S,
                max_jitter=JITTER,
                sleep_func=handler.sleep_func,
            ),
            logger=logger,
        )
        self._servers = len(hosts)
        handler.on_accept = self._accepted

    def _accepted(self) -> None:
        """A server has taken a connection (in kazoo's thread, before it sends anything).

        A server refuses clients that have seen more than it knows, which keeps them from going back in time with a
        server that lags. After a loss of all data every server would refuse for ever: so when all have, ask like one
        who has seen nothing. The session stays the same if it still exists.
        """
        if self.handler.accepted > self._servers:
            self.last_zxid = 0

    @property
    def cause(self) -> str:
        """What kazoo last said of trouble."""
        return self._warnings.text

    @property
    def is_refused(self) -> bool:
        """Whether its credentials were refused; it will not try again."""
        return str(self.client_state) == "AUTH_FAILED"

    @property
    def is_stopped(self) -> bool:
        """Whether its thread has ended, by refused credentials or an error of its own. True also before it runs."""
        return bool(self._connection.connection_stopped.is_set())

    def drop(self) -> None:
        """End the connection, not the session."""
        self.handler.drop()

    def connected(self) -> None:
        """To be called in kazoo's thread when there is a session."""
        self.handler.accepted = 0

    def forget(self, path: str) -> None:
        """Remove the watches of a path, here and at the server."""
        self._child_watchers.pop(path, None)
        self._data_watchers.pop(path, None)
        self._call(_RemoveWatches(path), self.handler.async_result())

    def end(self) -> None:
        """Close the session. Blocks; for a thread."""
        self.stop()
        self.close()
