"""Which engine serves a connection (``h2Engine``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from hostmesh.protocol.h2.engine import Engine, Listener
    from hostmesh.protocol.h2.lane import LaneEngine
    from hostmesh.protocol.h2.settings import H2Settings

    AnyEngine: TypeAlias = LaneEngine | Engine
    """An engine. Compiled code calls the lane directly, and whatever else is one through the interpreter."""

ENGINES: Final = ("lane", "library")
"""The values of ``h2Engine``."""
DEFAULT_ENGINE: Final = "lane"


def make_engine(kind: str, settings: H2Settings, listener: Listener) -> AnyEngine:
    """The engine called ``kind`` for one connection; ``settings`` says which side of it. Raises ValueError."""
    # Imported when it is wanted: the h2 package costs memory that the lane does not need.
    if kind == "lane":
        from hostmesh.protocol.h2.lane import LaneEngine

        return LaneEngine(settings, listener)
    if kind == "library":
        from hostmesh.protocol.h2.library import LibraryEngine

        return LibraryEngine(settings, listener)
    raise ValueError(f"no HTTP/2 engine is called {kind!r}, only {' and '.join(ENGINES)}")
