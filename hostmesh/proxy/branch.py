"""A bound name as one dst path sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.naming.bound import BoundName
from hostmesh.protocol.h2.heads import line_pairs
from hostmesh.proxy.stats import Ledger, ScopeStats

if TYPE_CHECKING:
    from hostmesh.proxy.client_stack import ClientStack
    from hostmesh.proxy.exchange import Exchange


class Branch:
    """A bound name as seen from one dst path: the client stack, the header lines and the per-service counters."""

    __slots__ = ("certifies", "client", "ledger", "lines", "name", "pairs", "status_code")

    def __init__(self, name: BoundName, client: ClientStack | None, lines: bytes, stats: ScopeStats) -> None:
        self.name = name
        self.client = client
        self.lines = lines
        self.pairs = tuple(line_pairs(lines))
        """The lines as HTTP/2 has them."""
        self.ledger = None if client is None else Ledger(client.stats, stats)
        """Counts attempts, in the scope of the client and in that of the service below it."""
        self.status_code = name.status_code
        self.certifies = client is not None and client.settings.forward_client_cert
        """Endpoints are told who the caller has proved to be (``forwardClientCert``)."""


def client_cert_line(ex: Exchange) -> bytes:
    """The line that tells an endpoint who the caller has proved to be; empty if it is not to be told, or nobody has.

    What the request says of itself has been taken out of its head, whatever the configuration.
    """
    if ex.branch is None or not ex.branch.certifies:
        return b""
    identity = ex.caller.identity
    return b"" if identity is None else b"x-forwarded-client-cert: %b\r\n" % identity.client_cert_header()
