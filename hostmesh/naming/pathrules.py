"""The built-in namers that only rewrite paths: ``/$/io.buoyant.*``, except those that bind.

Each takes what follows its name and returns the new path, or None when its arguments do not fit: the name is
then Neg.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from hostmesh.naming.path import Path

PathRule = Callable[[Path], Path | None]

_HOST: Final = re.compile(r"[A-Za-z0-9.:_-]+")
_METHOD: Final = re.compile(r"[A-Z]+")
_PORT_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_PORT_NAME_LENGTH: Final = 63
"""A label of DNS: ports may be names, as in Kubernetes."""


def _host_and_port(segment: str) -> tuple[str, str] | None:
    host, colon, port = segment.partition(":")
    if not host or not colon or len(port) > _PORT_NAME_LENGTH or not _PORT_NAME.fullmatch(port):
        return None
    return (host, port) if _HOST.fullmatch(host) else None


def host_port_pfx(path: Path) -> Path | None:
    """``/<pfx>/<host:port>/rest`` is ``/<pfx>/<host>/<port>/rest``."""
    pair = _host_and_port(path[1]) if len(path) > 1 else None
    return None if pair is None else Path((path[0], *pair, *path[2:]))


def port_host_pfx(path: Path) -> Path | None:
    """``/<pfx>/<host:port>/rest`` is ``/<pfx>/<port>/<host>/rest``."""
    pair = _host_and_port(path[1]) if len(path) > 1 else None
    return None if pair is None else Path((path[0], pair[1], pair[0], *path[2:]))


def any_method(path: Path) -> Path | None:
    """``/<METHOD>/rest`` is ``/rest``."""
    return path.drop(1) if path and _METHOD.fullmatch(path[0]) else None


def any_host(path: Path) -> Path | None:
    """``/<host>/rest`` is ``/rest``."""
    return path.drop(1) if path and _HOST.fullmatch(path[0]) else None


def subdomain_of(path: Path) -> Path | None:
    """``/<domain>/<sub.domain[:port]>/rest`` is ``/<sub>/rest``."""
    if len(path) < 2 or not _HOST.fullmatch(path[1]):
        return None
    ending = "." + path[0]
    host = path[1].partition(":")[0]
    if not host.endswith(ending) or host == ending:
        return None
    return Path((host[: -len(ending)], *path[2:]))


def subdomain_of_pfx(path: Path) -> Path | None:
    """``/<domain>/<pfx>/<sub.domain[:port]>/rest`` is ``/<pfx>/<sub>/rest``."""
    if len(path) < 3:
        return None
    below = subdomain_of(Path((path[0], *path[2:])))
    return None if below is None else Path((path[1], *below))


def domain_to_path(path: Path) -> Path | None:
    """``/<a.b.c>/rest`` is ``/c/b/a/rest``. A dot at the end, as in DNS, counts for nothing."""
    if not path or not _HOST.fullmatch(path[0]):
        return None
    labels = path[0].removesuffix(".").split(".")
    return Path((*reversed(labels), *path[1:])) if all(labels) else None


def _after_pfx(rule: PathRule) -> PathRule:
    """The variant of a rule that keeps a first segment: ``/<pfx>/…`` is ``/<pfx>`` + rule(``/…``)."""

    def keeping_first(path: Path) -> Path | None:
        rest = rule(path.drop(1)) if path else None
        return None if rest is None else path.take(1) + rest

    return keeping_first


PATH_RULES: Final[Mapping[str, PathRule]] = {
    "io.buoyant.hostportPfx": host_port_pfx,
    "io.buoyant.porthostPfx": port_host_pfx,
    "io.buoyant.http.anyMethod": any_method,
    "io.buoyant.http.anyMethodPfx": _after_pfx(any_method),
    "io.buoyant.http.anyHost": any_host,
    "io.buoyant.http.anyHostPfx": _after_pfx(any_host),
    "io.buoyant.http.subdomainOf": subdomain_of,
    "io.buoyant.http.subdomainOfPfx": subdomain_of_pfx,
    "io.buoyant.http.domainToPath": domain_to_path,
    "io.buoyant.http.domainToPathPfx": _after_pfx(domain_to_path),
}
