"""Replica sets whose endpoints are written with host names: resolved, followed and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from hostmesh.base.var import Closer, Var
from hostmesh.naming.addr import Addr, AddrBound, AddrFailed, AddrNeg, AddrPending, Endpoint
from hostmesh.naming.namer import Resolver
from hostmesh.registry.resolver import literal


class Named(NamedTuple):
    """An endpoint as a registry writes it: the host is a name or an address."""

    host: str
    port: int
    weight: float = 1.0


class Resolved(NamedTuple):
    """What is known of a set of :class:`Named`."""

    endpoints: tuple[Endpoint, ...]
    is_pending: bool
    """A name is still being looked up: nothing may be concluded from what is missing."""
    cause: str | None
    """Why a name could not be looked up."""


class HostNames:
    """Follows the host names of one replica set. ``changed()`` is called when one of them has other addresses."""

    def __init__(self, resolver: Resolver, changed: Callable[[], None]) -> None:
        self._resolver = resolver
        self._changed = changed
        self._vars: dict[tuple[str, int], Var[Addr]] = {}
        self._closers: dict[tuple[str, int], Closer] = {}

    def follow(self, wanted: Iterable[Named]) -> None:
        """Follow the names among ``wanted`` and no others; addresses need no following."""
        keys = {(each.host, each.port) for each in wanted if literal(each.host) is None}
        for key in keys - self._vars.keys():
            var = self._vars[key] = self._resolver.resolve(*key)
            self._closers[key] = var.observe(self._tell)
        for key in self._vars.keys() - keys:
            del self._vars[key]
            self._closers.pop(key)()

    def close(self) -> None:
        """Follow nothing."""
        self.follow(())

    def _tell(self, _addr: Addr) -> None:
        if self._vars:
            self._changed()

    def resolved(self, wanted: Iterable[Named]) -> Resolved:
        """The endpoints of ``wanted``, all of which are followed. A name that does not exist is none."""
        endpoints: list[Endpoint] = []
        is_pending = False
        cause: str | None = None
        for each in wanted:
            address = literal(each.host)
            if address is not None:
                endpoints.append(Endpoint(address, each.port, each.weight))
                continue
            match self._vars[each.host, each.port].value:
                case AddrBound(found):
                    endpoints.extend(endpoint._replace(weight=each.weight) for endpoint in found)
                case AddrPending():
                    is_pending = True
                case AddrFailed(why):
                    cause = cause or why
                case AddrNeg():
                    pass
        return Resolved(tuple(endpoints), is_pending, cause)
