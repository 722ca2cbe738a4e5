"""A router of connections: the names, bindings and stacks of every router, without anything of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.proxy.router import Router

if TYPE_CHECKING:
    from hostmesh.proxy.exchange import Exchange


class TcpRouter(Router):
    """See the module's text."""

    protocol = "tcp"
    reads_hello = False
    """An identifier needs what callers send first. Set once, by who makes the router."""

    def route(self, ex: Exchange, now: float) -> None:
        """Identify and dispatch; what goes wrong resets the caller."""
        try:
            key = self._key(ex.head)
            route = self._routes.get(key)
            path = route[0] if route is not None and not route[0].closed else self._resolve(ex, key)
        except MeshError as error:
            ex.fail(error)
            return
        path.last_used = now
        path.dispatch(ex, now)

    def answer(self, ex: Exchange, status: int) -> None:
        """``/$/io.buoyant.http.status/<code>``: a connection has no status to be answered with."""
        ex.fail(
            MeshError(
                Reason.NAME_NEGATIVE, f"{status} is an answer to requests, not to connections", status=502
            )
        )
