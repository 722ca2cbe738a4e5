"""What an identifier is, and the check that every name made from a request passes.

What a request says becomes segments of a name, never more: every segment is checked, and ``dstPrefix`` stands before
them, so no request can name ``/$/``, ``/#/`` or ``/%/`` (hardening P4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from attrs import frozen

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.naming.path import Path

if TYPE_CHECKING:
    from hostmesh.base.env import Env

MAX_SEGMENTS = 64
"""Segments that a request may put into its name. Dtabs rewrite by segment, so this bounds their work."""

MAX_NAME_BYTES = 1024
"""Bytes that a request may put into its name: it becomes a metric scope and a cache key."""

_SEGMENT = re.compile(r"[0-9A-Za-z_:.#$%\[\]-]+")
"""Linkerd's segment characters, and the brackets of an IPv6 Host."""

_RESERVED = frozenset(("#", "$", "%"))
"""First segments with a meaning of their own."""


class HeadFacts(Protocol):
    """What identifiers read of a request head."""

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes:
        """Origin-form (or ``*``): an absolute-form target has been taken apart already."""
        ...

    @property
    def host(self) -> bytes:
        """The one value of Host that everything goes by; empty when there is none."""
        ...

    @property
    def version(self) -> int:
        """10 or 11."""
        ...

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field with this lower-case name."""
        ...


@frozen
class NotIdentified:
    """The request is not this identifier's; ``reason`` is for people and goes into the 400."""

    reason: str


@frozen(kw_only=True)
class IdentifierDeps:
    """What an identifier that asks a registry may build on."""

    env: Env
    report: Callable[[str, Mapping[str, Any]], None]
    """Tell people: one line in the log."""
    shared: Any
    """The daemon's :class:`hostmesh.registry.shared.Shared`. Any, because this layer is below that one."""


class Identifier(Protocol):
    """Finds the dst path of requests. Pure: the same head gives the same path, until what it has been told by a
    registry changes. Optional, found by ``getattr``: ``async run(self)`` is its task, alive as long as its router.
    """

    kind: str
    consumes: bool
    """Whether requests are forwarded with another target: then ``consume`` gives it."""

    def key(self, head: HeadFacts, /) -> Hashable | None:
        """What alone decides the answer for a head, a refusal included, so that the router may remember it; None if
        nothing smaller than the head does. In a list of identifiers one None makes the whole answer unmemorable.
        """
        ...

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        """The dst path. Raises MeshError (400, bad-name) when what the request names cannot be a name: then no
        other identifier is asked."""
        ...

    def consume(self, head: HeadFacts) -> bytes | None:
        """The target to forward for a head that was identified, or None to leave it."""
        ...


def refuse(found: str, expected: str) -> NoReturn:
    shown = found if len(found) <= 80 else found[:80] + "..."
    raise MeshError(
        Reason.BAD_NAME,
        f"the request names {shown!r}, expected {expected}",
        status=400,
        side=Side.CALLER,
    )


def checked(prefix: Path, segments: Sequence[str]) -> Path:
    """``prefix`` and ``segments``, or MeshError (400) if a request may not name that."""
    if len(segments) > MAX_SEGMENTS:
        refuse(f"{len(segments)} segments", f"at most {MAX_SEGMENTS}")
    if sum(map(len, segments)) > MAX_NAME_BYTES:
        refuse(segments[0], f"a name of at most {MAX_NAME_BYTES} bytes")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
            refuse(segment, "a path segment: letters, digits and _ : . # $ % - [ ], not . or ..")
    if not prefix and segments and segments[0] in _RESERVED:
        refuse(segments[0], "a name outside /#, /$ and /%, as dstPrefix is empty")
    return prefix + tuple(segments)
