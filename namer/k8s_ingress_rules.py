"""Ingress objects (networking.k8s.io/v1) to rules, and requests to rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hostmesh.registry.k8s_objects import items, mapping, text

MAX_RULES = 1000
"""Rules taken of one Ingress: an object of 1.5 MB holds more than anybody reads."""

MAX_PATH = 1024

CLASS = "kubernetes.io/ingress.class"

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?")

_SPECIAL = frozenset("[](){}|+?*^$")
"""What means something in a regular expression. ``.*`` is understood, and a ``.`` by itself is one."""

IMPLEMENTATION_SPECIFIC = "ImplementationSpecific"


class Target(NamedTuple):
    """Where an Ingress sends requests: a service and its port, by name or number."""

    namespace: str
    port: str
    service: str


class Rule(NamedTuple):
    """One path of one host."""

    host: str
    """In lower case; empty for any; ``*.example.com`` for one label more than ``example.com``."""
    kind: str
    path: str
    gaps: tuple[str, ...]
    """Of ImplementationSpecific: what stands between the ``.*``, the first at the beginning, the last at the end."""
    target: Target


class Ingress(NamedTuple):
    """What is wanted of one object."""

    ingress_class: str | None
    rules: tuple[Rule, ...]
    default: Target | None
    skipped: int
    """Rules that cannot be understood."""


def ingress_of(found: Mapping[str, Any]) -> Ingress:
    """What an Ingress says; whatever is odd in it is left out and counted."""
    metadata, spec = mapping(found.get("metadata")), mapping(found.get("spec"))
    namespace = text(metadata.get("namespace"))
    rules: list[Rule] = []
    skipped = 0
    for entry in items(spec.get("rules")):
        host = text(entry.get("host")).lower()
        for path in items(mapping(entry.get("http")).get("paths")):
            rule = _rule(host, path, namespace) if len(rules) < MAX_RULES else None
            if rule is None:
                skipped += 1
            else:
                rules.append(rule)
    default = _target(spec.get("defaultBackend"), namespace)
    skipped += default is None and bool(spec.get("defaultBackend"))
    wanted = text(spec.get("ingressClassName")) or text(mapping(metadata.get("annotations")).get(CLASS))
    return Ingress(wanted or None, tuple(rules), default, skipped)


def _rule(host: str, found: Mapping[str, Any], namespace: str) -> Rule | None:
    target = _target(found.get("backend"), namespace)
    path = text(found.get("path")) or "/"
    kind = text(found.get("pathType")) or IMPLEMENTATION_SPECIFIC
    if target is None or len(path) > MAX_PATH or kind not in ("Exact", "Prefix", IMPLEMENTATION_SPECIFIC):
        return None
    if kind != IMPLEMENTATION_SPECIFIC:
        return Rule(host, kind, path, (), target)
    gaps = _gaps(path) if found.get("path") else ("", "")
    return None if gaps is None else Rule(host, kind, path, gaps, target)


def _target(value: object, namespace: str) -> Target | None:
    service = mapping(mapping(value).get("service"))
    port = mapping(service.get("port"))
    number = port.get("number")
    name = text(service.get("name"))
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535:
        shown = str(number)
    else:
        shown = text(port.get("name"))
    if all(_NAME.fullmatch(each) for each in (namespace, name, shown)):
        return Target(namespace, shown, name)
    return None


def _gaps(path: str) -> tuple[str, ...] | None:
    """The text between the ``.*`` of a regular expression that has nothing else; None if it has.

    Linkerd takes any regular expression. Of those, some need time without end for some requests, and all requests would
    wait for them; text with gaps is matched in one pass.
    """
    parts = [""]
    index = 0
    while index < len(path):
        if path.startswith(".*", index):
            parts.append("")
            index += 2
            continue
        char = path[index]
        if char == "\\" and index + 1 < len(path) and not path[index + 1].isalnum():
            index += 1
            char = path[index]
        elif char in _SPECIAL or char == "\\":
            return None
        parts[-1] += char
        index += 1
    return tuple(parts)


def matches(rule: Rule, path: str) -> bool:
    """Whether a request's path (without the query) is one of the rule's."""
    if rule.kind == "Exact":
        return path == rule.path
    if rule.kind == "Prefix":
        # By whole segments: /foo has /foo, /foo/ and /foo/bar, and not /foobar.
        wanted = rule.path.rstrip("/")
        return path == wanted or path.startswith(f"{wanted}/")
    first, *rest = rule.gaps
    if not rest:
        return path == first
    *middle, last = rest
    if len(path) < len(first) + len(last) or not path.startswith(first) or not path.endswith(last):
        return False
    at, end = len(first), len(path) - len(last)
    for part in middle:
        found = path.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Table:
    """The rules of all Ingresses of a class, in the order in which they are asked.

    A rule of the very host comes before one with a wildcard, and that before one for any host. Among them Exact paths
    come first, then Prefixes, the longest first, then regular expressions as they are written; Ingresses by name.
    """

    def __init__(self, ingresses: Iterable[Ingress], wanted_class: str, *, with_defaults: bool) -> None:
        self._rules: dict[str, list[Rule]] = {}
        self.default: Target | None = None
        self.size = self.skipped = 0
        for ingress in ingresses:
            if ingress.ingress_class not in (None, wanted_class):
                continue
            self.skipped += ingress.skipped
            self.size += len(ingress.rules)
            for rule in ingress.rules:
                self._rules.setdefault(rule.host, []).append(rule)
            if with_defaults and self.default is None:
                self.default = ingress.default
        for rules in self._rules.values():
            rules.sort(key=_precedence)

    def find(self, host: str, path: str) -> Target | None:
        """Where a request goes. ``host`` may have a port, which does not count."""
        name = _without_port(host).lower().rstrip(".")
        wildcard = f"*.{name.partition('.')[2]}"
        for key in (name, wildcard, ""):
            for rule in self._rules.get(key, ()):
                if matches(rule, path):
                    return rule.target
        return self.default


def _precedence(rule: Rule) -> tuple[int, int]:
    if rule.kind == "Exact":
        return 0, 0
    return (1, -len(rule.path)) if rule.kind == "Prefix" else (2, 0)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0]
