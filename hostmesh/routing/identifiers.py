"""The identifiers by kind: from a request head to a dst path."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from operator import attrgetter

from attrs import frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.naming.path import Path
from hostmesh.routing.identify import (
    MAX_NAME_BYTES,
    MAX_SEGMENTS,
    HeadFacts,
    Identifier,
    IdentifierDeps,
    NotIdentified,
    checked,
    refuse,
)

__all__ = [
    "HeadFacts",
    "HeaderConfig",
    "HeaderTokenConfig",
    "Identifier",
    "IdentifierConfig",
    "MethodAndHostConfig",
    "NotIdentified",
    "PathConfig",
    "StaticConfig",
]


def _path_segments(target: bytes) -> list[str]:
    """Segments of a target's path, without the empty ones at its end."""
    segments = target.partition(b"?")[0].decode("latin-1").split("/")[1:]
    while segments and not segments[-1]:
        segments.pop()
    return segments


class IdentifierBase:
    """What identifiers have in common."""

    kind = ""
    consumes = False

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix

    def consume(self, head: HeadFacts) -> bytes | None:
        return None


class HeaderToken(IdentifierBase):
    """The whole value of a header is one segment: case and port are kept."""

    kind = "io.l5d.header.token"

    def __init__(self, prefix: Path, header: str) -> None:
        super().__init__(prefix)
        name = header.lower().encode("ascii")
        self._header = header
        self._is_host = name in (b"host", b":authority")
        self._name = name
        self.key: Callable[[HeadFacts], Hashable | None] = (
            attrgetter("host") if self._is_host else self._value
        )

    def _value(self, head: HeadFacts) -> bytes:
        return head.get(self._name) or b""

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        value = head.host if self._is_host else head.get(self._name)
        if not value:
            return NotIdentified(f"{self._header} header is absent")
        return checked(self._prefix, [value.decode("latin-1")])


class Header(IdentifierBase):
    """The value of a header is read as a path."""

    kind = "io.l5d.header"

    def __init__(self, prefix: Path, header: str) -> None:
        super().__init__(prefix)
        self._header = header
        self._name = header.lower().encode("ascii")

    def key(self, head: HeadFacts) -> Hashable | None:
        return head.get(self._name) or b""

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        value = head.get(self._name)
        if not value:
            return NotIdentified(f"{self._header} header is absent")
        # Before it is read: each segment takes two bytes at least.
        if len(value) > MAX_NAME_BYTES + MAX_SEGMENTS:
            refuse(value[:100].decode("latin-1"), f"a name of at most {MAX_NAME_BYTES} bytes")
        try:
            path = Path.read(value.decode("latin-1"))
        except ValueError as error:
            return NotIdentified(f"{self._header} header is not a path: {error}")
        return checked(self._prefix, path)


class MethodAndHost(IdentifierBase):
    """Version, method and host, in lower case; then the target's path if ``uri`` says so."""

    kind = "io.l5d.methodAndHost"

    def __init__(self, prefix: Path, uri: bool) -> None:
        super().__init__(prefix)
        self._uri = uri

    def key(self, head: HeadFacts) -> Hashable | None:
        # With the path in it there are as many keys as requests.
        return None if self._uri else (head.version, head.method, head.host)

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        method = head.method.decode("latin-1")
        if head.version == 10:
            segments = ["1.0", method]
        elif head.host:
            segments = ["1.1", method, head.host.decode("latin-1").lower()]
        else:
            return NotIdentified("HTTP/1.1 request missing hostname")
        if self._uri:
            segments += _path_segments(head.target)
        return checked(self._prefix, segments)


class PathSegments(IdentifierBase):
    """The first segments of the target's path, optionally taken off before it is forwarded."""

    kind = "io.l5d.path"

    def __init__(self, prefix: Path, segments: int, consume: bool) -> None:
        super().__init__(prefix)
        self._segments = segments
        self.consumes = consume

    def key(self, head: HeadFacts) -> Hashable | None:
        n = self._segments
        parts = head.target.partition(b"?")[0].rstrip(b"/").split(b"/", n + 1)
        return b"/".join(parts[1 : n + 1]) if len(parts) > n else ()

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        segments = _path_segments(head.target)
        if len(segments) < self._segments:
            return NotIdentified("not enough segments in path")
        return checked(self._prefix, segments[: self._segments])

    def consume(self, head: HeadFacts) -> bytes | None:
        if not self.consumes:
            return None
        path, mark, query = head.target.partition(b"?")
        parts = path.split(b"/", self._segments + 1)
        rest = b"/" + parts[self._segments + 1] if len(parts) > self._segments + 1 else b"/"
        return rest + mark + query


class HeaderPath(IdentifierBase):
    """The first segments of the path in a header: of a gRPC call two are service and method, one is the service."""

    kind = "io.l5d.header.path"

    def __init__(self, prefix: Path, header: str, segments: int | None) -> None:
        super().__init__(prefix)
        self._header = header
        self._name = header.lower().encode("ascii")
        self._is_target = self._name == b":path"
        self._segments = segments

    def _value(self, head: HeadFacts) -> bytes:
        return head.target if self._is_target else head.get(self._name) or b""

    def key(self, head: HeadFacts) -> Hashable | None:
        path = self._value(head).partition(b"?")[0].rstrip(b"/")
        n = self._segments
        if n is None:
            return path
        parts = path.split(b"/", n + 1)
        return b"/".join(parts[: n + 1]) if len(parts) > n else ()

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        value = self._value(head)
        if not value:
            return NotIdentified(f"{self._header} header is absent")
        if not value.startswith(b"/"):
            return NotIdentified(f"{self._header} header is not a path")
        segments = _path_segments(value)
        wanted = len(segments) if self._segments is None else self._segments
        if not segments or len(segments) < wanted:
            return NotIdentified(f"not enough segments in {self._header}")
        return checked(self._prefix, segments[:wanted])


class Static(IdentifierBase):
    """Always the same path."""

    kind = "io.l5d.static"

    def __init__(self, prefix: Path, path: Path) -> None:
        super().__init__(prefix)
        self._path = prefix + path

    def key(self, head: HeadFacts) -> Hashable | None:
        return self.kind

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        return self._path


@frozen(kw_only=True)
class IdentifierConfig(PluginConfig):
    """What ``identifier`` blocks have in common."""

    def mk(self, prefix: Path) -> Identifier:
        """The identifier; ``prefix`` is the router's ``dstPrefix``."""
        raise NotImplementedError(f"{self.kind}: {self.unavailable or 'has no mk()'}")

    def mk_with(self, prefix: Path, deps: IdentifierDeps) -> Identifier:
        """The same, for those that need more than that: no I/O and no task, which belong to its ``run``."""
        return self.mk(prefix)


_TOKEN = re.compile(r":?[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _check_header(header: str) -> list[str]:
    return [] if _TOKEN.fullmatch(header) else [f"header: found {header!r}, expected the name of a header"]


@frozen(kw_only=True)
class HeaderTokenConfig(IdentifierConfig):
    """The value of a header, whole, as one segment."""

    header: str = "Host"
    """Name of the header. Default ``Host``: the name that the caller dialled."""

    def check(self) -> list[str]:
        return _check_header(self.header)

    def mk(self, prefix: Path) -> Identifier:
        return HeaderToken(prefix, self.header)


@frozen(kw_only=True)
class HeaderConfig(IdentifierConfig):
    """The value of a header, read as a path."""

    header: str = "l5d-name"
    """Name of the header. Default ``l5d-name``."""

    def check(self) -> list[str]:
        return _check_header(self.header)

    def mk(self, prefix: Path) -> Identifier:
        return Header(prefix, self.header)


@frozen(kw_only=True)
class MethodAndHostConfig(IdentifierConfig):
    """HTTP version, method and host in lower case, as in ``/svc/1.1/GET/web``."""

    http_uri_in_dst: bool = False
    """Whether the segments of the target's path follow. Default false: they make a name for every resource."""

    def mk(self, prefix: Path) -> Identifier:
        return MethodAndHost(prefix, self.http_uri_in_dst)


@frozen(kw_only=True)
class PathConfig(IdentifierConfig):
    """The first segments of the target's path."""

    segments: int = 1
    """How many, 1 to 64. Default 1. A request with fewer is not identified."""

    consume: bool = False
    """Whether they are taken off the target that the endpoint sees. Default false."""

    def check(self) -> list[str]:
        if not 1 <= self.segments <= MAX_SEGMENTS:
            return [f"segments: found {self.segments}, expected 1 to {MAX_SEGMENTS}"]
        return []

    def mk(self, prefix: Path) -> Identifier:
        return PathSegments(prefix, self.segments, self.consume)


@frozen(kw_only=True)
class HeaderPathConfig(IdentifierConfig):
    """h2: the first segments of a header's path; for gRPC 2 is service and method, 1 the service."""

    header: str = ":path"
    """Name of the header. Default ``:path``."""

    segments: int | None = None
    """How many, 1 to 64; a request with fewer is not identified. Default: all."""

    def check(self) -> list[str]:
        mistakes = _check_header(self.header)
        if self.segments is not None and not 1 <= self.segments <= MAX_SEGMENTS:
            mistakes.append(f"segments: found {self.segments}, expected 1 to {MAX_SEGMENTS}")
        return mistakes

    def mk(self, prefix: Path) -> Identifier:
        return HeaderPath(prefix, self.header, self.segments)


@frozen(kw_only=True)
class StaticConfig(IdentifierConfig):
    """The same path for every request."""

    path: Path
    """The path that follows ``dstPrefix``. Required."""

    def mk(self, prefix: Path) -> Identifier:
        return Static(prefix, self.path)
