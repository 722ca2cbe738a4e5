"""The identifiers of ``protocol: tcp``: from a connection to a dst path."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, ClassVar, Protocol, cast

from attrs import frozen

from hostmesh.naming.path import Path
from hostmesh.routing.identifiers import IdentifierBase, IdentifierConfig
from hostmesh.routing.identify import HeadFacts, Identifier, NotIdentified, checked


class ConnectionFacts(Protocol):
    """What identifiers read of a connection."""

    @property
    def local_port(self) -> int:
        """Where the caller connected to."""
        ...

    @property
    def server_name(self) -> str | None:
        """The TLS server name, in lower case."""
        ...

    @property
    def is_tls(self) -> bool:
        """Whether the connection began with a TLS ClientHello; False when nobody has looked."""
        ...


def facts(head: HeadFacts) -> ConnectionFacts:
    """The head that the router of such an identifier gives it."""
    return cast(ConnectionFacts, head)


class TcpStatic(IdentifierBase):
    """Always the same path."""

    kind = "io.l5d.tcp.static"

    def __init__(self, prefix: Path, path: Path) -> None:
        super().__init__(prefix)
        self._path = checked(prefix, path)

    def key(self, head: HeadFacts) -> Hashable | None:
        return ()

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        return self._path


class TcpPort(IdentifierBase):
    """The listener's port is the name."""

    kind = "io.l5d.tcp.port"

    def key(self, head: HeadFacts) -> Hashable | None:
        return facts(head).local_port

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        return self._prefix + Path.of(str(facts(head).local_port))


class TcpSni(IdentifierBase):
    """The server name of the TLS ClientHello is the name."""

    kind = "io.l5d.tcp.sni"

    def key(self, head: HeadFacts) -> Hashable | None:
        found = facts(head)
        return (found.is_tls, found.server_name)

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        found = facts(head)
        if found.server_name is not None:
            return checked(self._prefix, [found.server_name])
        return NotIdentified(
            "the ClientHello has no server name" if found.is_tls else "the connection does not begin with TLS"
        )


@frozen(kw_only=True)
class TcpIdentifierConfig(IdentifierConfig):
    """An identifier of connections."""

    protocols: ClassVar[frozenset[str]] = frozenset({"tcp"})
    """Where the kind belongs."""

    reads_hello: ClassVar[bool] = False
    """Whether it needs what the caller sends first."""


@frozen(kw_only=True)
class TcpStaticConfig(TcpIdentifierConfig):
    """*hostmesh* The same path for every connection."""

    path: Path
    """The path that follows ``dstPrefix``. Required."""

    def mk(self, prefix: Path) -> Identifier:
        return TcpStatic(prefix, self.path)


@frozen(kw_only=True)
class TcpPortConfig(TcpIdentifierConfig):
    """*hostmesh* The port that the caller connected to, as one segment."""

    def mk(self, prefix: Path) -> Identifier:
        return TcpPort(prefix)


@frozen(kw_only=True)
class TcpSniConfig(TcpIdentifierConfig):
    """*hostmesh* The server name of the caller's TLS ClientHello (SNI), in lower case, as one segment. TLS itself stays
    between caller and endpoint. A connection without TLS or without a server name is the next identifier's; one whose
    ClientHello is malformed is refused."""

    reads_hello: ClassVar[bool] = True

    def mk(self, prefix: Path) -> Identifier:
        return TcpSni(prefix)


def reads_hello(config: Any) -> bool:
    """Whether connections have to be read before they can be identified."""
    return bool(getattr(config, "reads_hello", False))
