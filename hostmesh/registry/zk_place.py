"""Where a ZooKeeper ensemble is, and what it answers. Needs no kazoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from attrs import field, frozen

if TYPE_CHECKING:
    from hostmesh.registry.tls_context import TlsSettings

DEFAULT_PORT = 2181


class NoNodeError(LookupError):
    """There is no such path."""


class UnreadableError(Exception):
    """The ensemble does not say; the text is for people."""


class LostError(UnreadableError):
    """The connection has gone while an answer was awaited. It comes back: this says nothing of the path."""


class Listing(NamedTuple):
    """The children of a path."""

    names: list[str]
    version: str
    """The transaction that last changed the list."""
    incarnation: tuple[int, int]
    """The transaction and the time that made the node: another one is another node of the same name."""
    changes: int
    """How many children have come and gone in this incarnation."""


@frozen
class Place:
    """Which ensemble, as whom."""

    hosts: tuple[tuple[str, int], ...]
    auth: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Pairs of scheme and credential: ``("digest", "user:password")``."""
    session_timeout_s: float = 10.0
    named_by_path: bool = False
    """A name, not the configuration, says where it is: servers at addresses that no service has are not asked (T2)."""

    tls: TlsSettings | None = None
    """How the servers are spoken to, at their ``secureClientPort``; None for plain text."""
    server_name: str | None = None
    """The name that their certificates must carry, with ``{host}`` for a server's own."""

    def show(self) -> str:
        """``host:port,host:port``, as ZooKeeper's tools write it."""
        return ",".join(self.servers)

    @property
    def servers(self) -> list[str]:
        """Each ``host:port``."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts]
