"""The ``Forwarded`` request header (RFC 7239): who called, and where (linkerd1.md 7).

A labeler is a plain function from the facts of one request to a value; :class:`Forwarded` joins two of them. Random
labels come from generators that the caller brings; nothing here opens or reads anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import frozen

from hostmesh.config.servers import LabelerConfig

if TYPE_CHECKING:
    from random import Random

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

RANDOM_LENGTH: Final = 6
"""Characters of a random label after its ``_``, as Linkerd 1 has them: 5.7e10 values, enough to tell callers apart in
one log and too few to be a secret."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@frozen
class Party:
    """One end of a caller's connection, as its labeler sees it."""

    ip: str
    """Numeric."""
    port: int
    router: str
    """Label of the router."""
    connection_label: str
    """:func:`random_label`, drawn once for the connection."""


Labeler: TypeAlias = Callable[[Party, "Random"], str]
"""A label as it stands in the header, quoted if it has to be."""


def random_label(rng: Random) -> str:
    """An obfuscated identifier (RFC 7239, 6.3): ``_`` and six alphanumerics."""
    return "_" + "".join(rng.choices(ALPHABET, k=RANDOM_LENGTH))


def quoted(text: str) -> str:
    """A header value: a token as it is, anything else as a quoted string without what could end it early."""
    if _TOKEN.fullmatch(text):
        return text
    # Control characters and bytes beyond ASCII have no place in a quoted-string; a label is for people, so drop them.
    safe = "".join(char for char in text if " " <= char <= "~")
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def node(ip: str, port: int | None = None) -> str:
    """A node name (RFC 7239, 6), in quotes where it must be; an IPv6 address in brackets, a wildcard as ``unknown``."""
    address = ip_address(ip.split("%")[0])
    if address.is_unspecified:
        return "unknown"
    host = f"[{address}]" if address.version == 6 else str(address)
    return quoted(host if port is None else f"{host}:{port}")


@frozen(kw_only=True)
class IpLabelerConfig(LabelerConfig):
    """The address."""

    def mk(self) -> Labeler:
        return lambda party, _rng: node(party.ip)


@frozen(kw_only=True)
class IpPortLabelerConfig(LabelerConfig):
    """The address and the port."""

    def mk(self) -> Labeler:
        return lambda party, _rng: node(party.ip, party.port)


@frozen(kw_only=True)
class ConnectionRandomLabelerConfig(LabelerConfig):
    """Six random characters, the same for all requests of a connection."""

    def mk(self) -> Labeler:
        return lambda party, _rng: party.connection_label


@frozen(kw_only=True)
class RequestRandomLabelerConfig(LabelerConfig):
    """Six random characters for each request. The default."""

    def mk(self) -> Labeler:
        return lambda _party, rng: random_label(rng)


@frozen(kw_only=True)
class RouterLabelerConfig(LabelerConfig):
    """The label of the router."""

    def mk(self) -> Labeler:
        return lambda party, _rng: quoted(party.router)


@frozen(kw_only=True)
class StaticLabelerConfig(LabelerConfig):
    """A fixed text."""

    label: str
    """The text."""

    def check(self) -> list[str]:
        return [] if self.label.strip() else ["label: found nothing, expected some text"]

    def mk(self) -> Labeler:
        label = quoted(self.label)
        return lambda _party, _rng: label


@frozen
class Forwarded:
    """What a server with ``addForwardedHeader`` adds to each request."""

    by: Labeler
    for_: Labeler

    def line(
        self, server: Party, caller: Party, host: bytes, proto: str, rng: Random, *, key: str = "host"
    ) -> bytes:
        """The header line, CRLF included, for a request that arrived on ``server`` from ``caller``.

        ``key`` is what ``host`` is called: ``authority`` for a request that came by HTTP/2, as Linkerd 1 has it.
        """
        return render(self.by(server, rng), self.for_(caller, rng), host, proto, key)


def render(by: str, for_: str, host: bytes, proto: str, key: str = "host") -> bytes:
    """The header line, CRLF included. ``by`` and ``for_`` are labels as labelers make them; no host, no ``host=``."""
    pairs = [f"by={by}", f"for={for_}"]
    if host:
        pairs.append(f"{key}={quoted(host.decode('latin-1'))}")
    pairs.append(f"proto={proto}")
    return f"Forwarded: {';'.join(pairs)}\r\n".encode("ascii")
