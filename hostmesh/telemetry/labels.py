"""Linkerd's way to say a path of the tree in systems that know names and labels.

``rt/http/server/127.0.0.1/4140/requests`` becomes the name ``rt:server:requests`` with the labels
``rt="http"`` and ``server="127.0.0.1/4140"``. Dashboards are built on these names, so they are a contract.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]

_KINDS: Final = ("service", "client", "server")
_UNNAMEABLE: Final = re.compile(r"[^A-Za-z0-9:]")


def extract(path: tuple[str, ...]) -> tuple[tuple[str, ...], Labels]:
    """A path without the elements that name one of many things, and those as labels in the order they were
    met."""
    names, labels, _scoped = _extract(path)
    return names, labels


def extract_failures(path: tuple[str, ...]) -> tuple[tuple[str, ...], Labels]:
    """As :func:`extract`, and the reason of a failure is a label too.

    Directly below a service, client or server ``failures/a/b`` is ``failures`` with ``exception="a:b"``, and
    ``exn/a`` is ``exceptions``.
    """
    names, labels, scoped = _extract(path)
    tail = names[scoped:]
    if scoped and len(tail) > 1 and tail[0] in ("failures", "exn"):
        name = "failures" if tail[0] == "failures" else "exceptions"
        return (*names[:scoped], name), (*labels, ("exception", ":".join(tail[1:])))
    return names, labels


def _extract(path: tuple[str, ...]) -> tuple[tuple[str, ...], Labels, int]:
    """Also says how many of the names lead to the service, client or server; 0 if the path leads to none."""
    if len(path) == 4 and path[0] == "namer" and path[3].startswith("/"):
        return path[:3], (("name", path[3]),), 0
    if len(path) == 4 and path[0] == "tls" and path[2].startswith("/"):
        return ("tls", path[1], path[3]), (("file", path[2]),), 0
    if len(path) < 2 or path[0] != "rt":
        return path, (), 0
    labels: Labels = (("rt", path[1]),)
    if len(path) < 4 or path[2] not in _KINDS:
        return ("rt", *path[2:]), labels, 0
    kind = path[2]
    labels = (*labels, (kind, path[3]))
    if kind == "client" and len(path) >= 6 and path[4] == "service":
        return ("rt", kind, "service", *path[6:]), (*labels, ("service", path[5])), 3
    if kind == "service" and len(path) >= 7 and path[4] == "grpc":
        return ("rt", kind, "grpc", *path[6:]), (*labels, ("method", path[5])), 3
    if kind == "server" and len(path) == 7 and path[4:6] == ("tls", "callers"):
        return ("rt", kind, "tls", "callers"), (*labels, ("caller", path[6])), 2
    return ("rt", kind, *path[4:]), labels, 2


def join(names: tuple[str, ...]) -> str:
    """Names as one name: joined with ``:``, everything but letters, digits and colons replaced with ``_``."""
    return _UNNAMEABLE.sub("_", ":".join(names))
