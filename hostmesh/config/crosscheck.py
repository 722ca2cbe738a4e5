"""Mistakes that no single object can see (linkerd1.md 1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from attrs import frozen

from hostmesh.config.convert import Made
from hostmesh.config.model import AdminConfig
from hostmesh.config.report import KeyPath, Report, show_path
from hostmesh.config.routers import HttpRouterConfig, RouterConfig
from hostmesh.config.servers import ListenerConfig
from hostmesh.config.tree import Items, Node, Table, is_null, line_at
from hostmesh.naming.namer import NamerConfig
from hostmesh.naming.path import Path

ONLY_HTTP: Final = frozenset({"io.l5d.header", "io.l5d.methodAndHost", "io.l5d.path", "io.l5d.static"})
"""Identifiers that an h2 router does not know."""
ONLY_H2: Final = frozenset({"io.l5d.header.path"})
"""Identifiers that an http router does not know."""
TCP_KINDS: Final = "io.l5d.tcp."
"""What the identifiers of tcp routers, and no others, begin with."""


def crosscheck(report: Report, root: Node, made: list[Made]) -> None:
    """Check the objects against each other. ``made`` may miss those with mistakes of their own."""
    _routers(report, root, made)
    _ports(report, root, made)
    _streaming(report, root, made)
    _kinds(report, root, made)
    _namers(report, root, made)
    _announce(report, root, made)


def _of(made: list[Made], cls: type) -> list[Made]:
    return [each for each in made if isinstance(each.value, cls)]


def _routers(report: Report, root: Node, made: list[Made]) -> None:
    listed = root.get("routers") if isinstance(root, Table) else None
    if listed is None or _is_empty(listed):
        line = line_at(root, ("routers",))
        report.mistake(line, ("routers",), "found no routers, expected at least one (NoRoutersSpecified)")
    labels: dict[str, KeyPath] = {}
    for router in _of(made, RouterConfig):
        label = router.value.name
        key = "label" if router.value.label is not None else "protocol"
        here = (*router.path, key)
        if label in labels:
            first = labels[label]
            report.mistake(
                line_at(root, here),
                here,
                f"found the label {label!r} a second time (first: {show_path(first)}, line {line_at(root, first)}), "
                "expected a label of its own for each router (ConflictingLabels); an unlabelled router is labelled "
                "by its protocol",
            )
        else:
            labels[label] = here
        servers = _find(root, (*router.path, "servers"))
        if servers is None or _is_empty(servers):
            report.mistake(
                line_at(root, (*router.path, "servers")),
                (*router.path, "servers"),
                "found no servers, expected at least one, such as `- port: 4140`",
            )


def _step(node: Node | None, part: str | int) -> Node | None:
    if isinstance(node, Table) and isinstance(part, str):
        return node.get(part)
    if isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
        return node.items[part]
    return None


def _is_empty(node: Node) -> bool:
    """Null or an empty list; anything else of the wrong shape has been reported as such."""
    return is_null(node) or (isinstance(node, Items) and not node.items)


@frozen
class _Listener:
    ip: str
    port: int
    path: KeyPath

    @property
    def shown(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


def _listeners(made: list[Made]) -> Iterator[_Listener]:
    admins = _of(made, AdminConfig)
    admin = admins[0] if admins else Made(("admin",), 0, AdminConfig())
    yield _Listener(admin.value.ip, admin.value.port, (*admin.path, "port"))
    if admin.value.http_identifier_port is not None:
        path = (*admin.path, "httpIdentifierPort")
        yield _Listener(admin.value.ip, admin.value.http_identifier_port, path)
    for server in _of(made, ListenerConfig):
        yield _Listener(server.value.ip, server.value.port, (*server.path, "port"))


def _clash(one: str, other: str) -> bool:
    """Whether one port cannot be listened on at both addresses. The two families do not disturb each other."""
    if one == other:
        return True
    first, second = ip_address(one), ip_address(other)
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


def _ports(report: Report, root: Node, made: list[Made]) -> None:
    seen: dict[int, list[_Listener]] = {}
    wrong = {mistake.path for mistake in report.mistakes}
    for listener in _listeners(made):
        if listener.port == 0 or wrong & {show_path(listener.path), show_path((*listener.path[:-1], "ip"))}:
            continue  # the system chooses, or what stands here is only the default in the place of a mistake
        for earlier in seen.get(listener.port, []):
            if _clash(earlier.ip, listener.ip):
                place = show_path(earlier.path[:-1])
                if _find(root, earlier.path[:-1]) is not None:
                    place += f" (line {line_at(root, earlier.path)})"
                report.mistake(
                    line_at(root, listener.path),
                    listener.path,
                    f"found {listener.shown}, where {place} listens at {earlier.shown}, "
                    f"expected a free port: Server conflict on port {listener.port} (ConflictingPorts)",
                )
                break
        seen.setdefault(listener.port, []).append(listener)


def _streaming(report: Report, root: Node, made: list[Made]) -> None:
    key = "streamAfterContentLengthKB"
    for router in _of(made, HttpRouterConfig):
        node = _find(root, (*router.path, key))
        if not router.value.streaming_enabled and node is not None:
            here = (*router.path, key)
            report.mistake(
                line_at(root, here),
                here,
                "found together with streamingEnabled: false, expected only one of them (ConflictingStreamingOptions)",
            )


def _find(root: Node, path: KeyPath) -> Node | None:
    node: Node | None = root
    for part in path:
        node = _step(node, part)
    return node


def _kinds(report: Report, root: Node, made: list[Made]) -> None:
    """Kinds of the other protocol: registered for the same slot here, two separate sets in Linkerd 1."""
    routers = {router.path: router.value.protocol for router in _of(made, RouterConfig)}
    for each in made:
        protocol = routers.get(each.path[:2])
        kind = getattr(each.value, "kind", "")
        if protocol not in ("http", "h2", "tcp") or not isinstance(kind, str):
            continue
        if "identifier" in each.path and (protocol == "tcp") != kind.startswith(TCP_KINDS):
            here = (*each.path, "kind")
            report.mistake(
                line_at(root, here),
                here,
                f"found the kind {kind!r}, expected one for the protocol {protocol}",
            )
            continue
        other = "h2" if protocol == "http" else "http"
        wrong = kind.startswith(f"io.l5d.{other}.")
        if "identifier" in each.path:
            wrong = kind in (ONLY_H2 if protocol == "http" else ONLY_HTTP)
        if wrong:
            here = (*each.path, "kind")
            report.mistake(
                line_at(root, here),
                here,
                f"found the kind {kind!r}, expected one for the protocol {protocol}",
            )


def _namers(report: Report, root: Node, made: list[Made]) -> None:
    """Overlaps are legal, and mostly a slip: the later namer is asked first and shadows what it knows."""
    seen: list[tuple[Path, KeyPath]] = []
    for namer in _of(made, NamerConfig):
        prefix = namer.value.prefix_in_force
        for other, path in seen:
            if prefix.startswith(other) or other.startswith(prefix):
                here = (*namer.path, "prefix")
                report.warn(
                    line_at(root, here),
                    here,
                    f"found {prefix.show()}, which overlaps with {other.show()} of {show_path(path)} "
                    f"(line {line_at(root, path)}), expected prefixes apart; the later namer is asked first",
                )
                break
        seen.append((prefix, namer.path))


def _announce(report: Report, root: Node, made: list[Made]) -> None:
    """A name that no announcer takes is only a warning, as in Linkerd 1."""
    for router in _of(made, RouterConfig):
        prefixes = [announcer.prefix_in_force for announcer in router.value.announcers]
        for index, server in enumerate(router.value.servers):
            for place, name in enumerate(server.announce):
                if not any(name.startswith(Path.of("#") + prefix) for prefix in prefixes):
                    here = (*router.path, "servers", index, "announce", place)
                    report.warn(
                        line_at(root, here),
                        here,
                        f"found {name.show()}, expected /#/<prefix of an announcer>/...; it is not announced",
                    )
