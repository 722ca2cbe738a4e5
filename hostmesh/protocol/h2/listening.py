"""The listeners that compiled engines call directly. Any other is a :class:`~hostmesh.protocol.h2.engine.Listener`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from hostmesh.base.native import trait

if TYPE_CHECKING:
    from hostmesh.base.errors import MeshError
    from hostmesh.protocol.h2.engine import Listener, Pairs

    AnyListener: TypeAlias = "SessionListener | Listener"


@trait
class SessionListener:
    """A :class:`~hostmesh.protocol.h2.engine.Listener` by inheritance: the sessions of the proxy."""

    __slots__ = ()

    def on_head(self, stream: int, pairs: Pairs, end: bool) -> None:
        raise NotImplementedError

    def on_informational(self, stream: int, pairs: Pairs) -> None:
        raise NotImplementedError

    def on_data(self, stream: int, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def on_trailers(self, stream: int, pairs: Pairs) -> None:
        raise NotImplementedError

    def on_reset(self, stream: int, code: int) -> None:
        raise NotImplementedError

    def on_stream_fault(self, stream: int, error: MeshError, code: int) -> None:
        raise NotImplementedError

    def on_window(self, stream: int) -> None:
        raise NotImplementedError

    def on_goaway(self, last: int, code: int, debug: bytes) -> None:
        raise NotImplementedError

    def on_settings(self) -> None:
        raise NotImplementedError

    def on_pong(self, payload: bytes) -> None:
        raise NotImplementedError
