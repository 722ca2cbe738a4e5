"""Where a ZooKeeper ensemble is, in configuration files."""

from __future__ import annotations

from attrs import field, frozen

from hostmesh.plugin import ClientTlsConfig, Millis, NamerConfig, Port
from hostmesh.registry.zk_place import DEFAULT_PORT, Place

MIN_SESSION_MS = 1000
"""Servers refuse less than two ticks, and a daemon that is busy for a moment should keep its session."""


@frozen(kw_only=True)
class ZkAddr:
    """A ZooKeeper server."""

    host: str
    """Name or address."""
    port: Port = DEFAULT_PORT
    """Client port."""


@frozen(kw_only=True)
class ZkAuth:
    """Who we are, for nodes with access control lists."""

    scheme: str = "digest"
    """``digest``, or another scheme that the servers know."""
    # In the repr, by which a reload tells whether anything has changed.
    auth: str = field(metadata={"secret": True})
    """The credential: ``user:password`` for ``digest``."""


def place_of(
    addrs: tuple[ZkAddr, ...],
    auth: ZkAuth | None,
    session_timeout_ms: int,
    tls: ClientTlsConfig | None = None,
) -> Place:
    """The ensemble that a configuration names. The order of servers is kept but has no meaning: one is chosen at
    random."""
    return Place(
        tuple((addr.host, addr.port) for addr in addrs),
        () if auth is None else ((auth.scheme, auth.auth),),
        session_timeout_ms / 1000,
        tls=tls if tls is not None and tls.enabled else None,
        server_name=None if tls is None else tls.common_name,
    )


def check_place(addrs: tuple[ZkAddr, ...], session_timeout_ms: int) -> list[str]:
    """What is wrong with it, one sentence each."""
    problems = []
    if not addrs:
        problems.append("zkAddrs: found an empty list, expected at least one {host, port}")
    for index, addr in enumerate(addrs):
        if (
            not addr.host
            or not addr.host.isascii()
            or any(c in addr.host for c in ",/ \t")
            or "[" in addr.host
        ):
            problems.append(f"zkAddrs[{index}].host: expected a host name or an address, found {addr.host!r}")
    if session_timeout_ms < MIN_SESSION_MS:
        problems.append(f"sessionTimeoutMs: expected at least {MIN_SESSION_MS}, found {session_timeout_ms}")
    return problems


@frozen(kw_only=True)
class ZkNamerConfig(NamerConfig):
    """What namers on ZooKeeper have in common."""

    zk_addrs: tuple[ZkAddr, ...]
    """The ensemble. Namers and announcers with the same ensemble share one session."""

    hold_ms: Millis = 2000
    """*hostmesh* Milliseconds for which a removed member goes on being believed: members that come back within it,
    after a deployment or a lost session, cause no gap. 0 believes at once, as Linkerd does."""

    session_timeout_ms: Millis = 10_000
    """*hostmesh* Milliseconds after which the servers give the session up."""

    auth_info: ZkAuth | None = None
    """*hostmesh* Credentials for nodes with access control lists. Default: none."""

    tls: ClientTlsConfig | None = None
    """*hostmesh* TLS to the servers' ``secureClientPort``. ``commonName: "{host}"`` stands for each server's own
    name in ``zkAddrs``."""

    def check(self) -> list[str]:
        return [*super().check(), *check_place(self.zk_addrs, self.session_timeout_ms)]

    @property
    def place(self) -> Place:
        return place_of(self.zk_addrs, self.auth_info, self.session_timeout_ms, self.tls)
