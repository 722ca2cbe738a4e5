"""``socketOptions``, the same for servers, clients and the admin interface (linkerd1.md 1.4)."""

from __future__ import annotations

from attrs import frozen

from hostmesh.config.types import Positive, Timeout


@frozen(kw_only=True)
class SocketOptions:
    """Options of TCP sockets."""

    no_delay: bool = True
    """TCP_NODELAY: a small write does not wait for more."""
    reuse_addr: bool = True
    """SO_REUSEADDR: a restart need not wait for old connections to time out."""
    reuse_port: bool = False
    """SO_REUSEPORT: several processes may listen on the port."""
    read_timeout_ms: Timeout | None = None
    """On servers: milliseconds after which a head that is not complete, or a body of which nothing comes, is answered
    408. Default, and most: 10 s for a head, 60 s for a body."""
    write_timeout_ms: Timeout | None = None
    """On servers: milliseconds without a byte taken by the caller after which its connection is cut. Default, and
    most: 60 s."""
    keep_alive: bool | None = None
    """SO_KEEPALIVE. Default: what the system does."""
    backlog: Positive | None = None
    """Connections that may wait to be accepted. Default: what the system does."""
