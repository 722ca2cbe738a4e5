"""Ingress rules, and the identifier that goes by them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.naming.path import Path
from hostmesh.plugin import IdentifierDeps, NotIdentified
from namer.k8s_ingress import IngressConfig, IngressIdentifier
from namer.k8s_ingress_rules import Ingress, Table, Target, ingress_of
from tests.fs_world import RealEnv


def backend(service: str, port: object = 80) -> dict[str, Any]:
    key = "number" if isinstance(port, int) else "name"
    return {"service": {"name": service, "port": {key: port}}}


def ingress(
    *rules: tuple[str, str, str, str],
    default: str | None = None,
    wanted: str | None = None,
    namespace: str = "ns",
) -> Ingress:
    """Rules as (host, path type, path, service)."""
    spec: dict[str, Any] = {
        "rules": [
            {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": backend(service)}]}}
            for host, kind, path, service in rules
        ]
    }
    if default is not None:
        spec["defaultBackend"] = backend(default, "http")
    if wanted is not None:
        spec["ingressClassName"] = wanted
    return ingress_of({"metadata": {"name": "i", "namespace": namespace}, "spec": spec})


def found(table: Table, host: str, path: str) -> str | None:
    target = table.find(host, path)
    return None if target is None else target.service


def table(*ingresses: Ingress, with_defaults: bool = True) -> Table:
    return Table(ingresses, "linkerd", with_defaults=with_defaults)


@pytest.mark.parametrize(
    ("kind", "rule", "path", "expected"),
    [
        ("Exact", "/foo", "/foo", True),
        ("Exact", "/foo", "/foo/", False),
        ("Prefix", "/", "/any/thing", True),
        ("Prefix", "/foo", "/foo", True),
        ("Prefix", "/foo", "/foo/", True),
        ("Prefix", "/foo/", "/foo", True),
        ("Prefix", "/foo", "/foo/bar", True),
        ("Prefix", "/foo", "/foobar", False),
        ("ImplementationSpecific", "/foo", "/foo", True),
        ("ImplementationSpecific", "/foo", "/foo/bar", False),
        ("ImplementationSpecific", "/foo.*", "/foobar", True),
        ("ImplementationSpecific", "/a.*/b.*c", "/a1/b2c", True),
        ("ImplementationSpecific", "/a.*/b.*c", "/a/b", False),
        ("ImplementationSpecific", "/a.*a", "/a", False),
        ("ImplementationSpecific", "/v1\\.0", "/v1.0", True),
    ],
)
def test_paths_match_by_their_type(kind: str, rule: str, path: str, expected: bool) -> None:
    """Prefixes by whole segments; the regular expressions of Linkerd against the whole path."""
    assert (found(table(ingress(("h", kind, rule, "s"))), "h", path) == "s") is expected


@pytest.mark.parametrize(
    "path", ["/a(b|c)", "/a+", "/[a-z]*", "/a?", "/\\d", "^/a", "/a$", "/a*", "/(a+)+", "/a\\"]
)
def test_other_regular_expressions_are_counted_and_left_out(path: str) -> None:
    """What may need time without end is not tried."""
    one = ingress(("h", "ImplementationSpecific", path, "s"))

    assert (one.rules, one.skipped) == ((), 1)


def test_many_gaps_take_no_time() -> None:
    """A path that almost matches a rule of many gaps is refused in one pass."""
    rules = table(ingress(("", "ImplementationSpecific", "/" + "a.*" * 300 + "b", "s")))
    began = time.perf_counter()

    assert found(rules, "h", "/" + "a" * 8000) is None
    assert time.perf_counter() - began < 0.5


def test_the_most_specific_rule_counts() -> None:
    """Host before wildcard before any; Exact before the longest Prefix before expressions; then defaults."""
    rules = table(
        ingress(
            ("", "Prefix", "/", "any"),
            ("*.example.com", "Prefix", "/", "wild"),
            ("web.example.com", "ImplementationSpecific", "/.*", "rest"),
            ("web.example.com", "Prefix", "/a", "short"),
            ("web.example.com", "Prefix", "/a/b", "long"),
            ("web.example.com", "Exact", "/a/b", "exact"),
        )
    )

    asked = [
        ("web.example.com", "/a/b"),
        ("WEB.example.com:8080", "/a/b/c"),
        ("web.example.com.", "/a"),
        ("web.example.com", "/z"),
        ("other.example.com", "/z"),
        ("a.b.example.com", "/z"),
        ("[fd00::1]:80", "/z"),
    ]
    assert [found(rules, *each) for each in asked] == ["exact", "long", "short", "rest", "wild", "any", "any"]


def test_default_backends_come_last_unless_ignored() -> None:
    """A request that no rule matches goes to the first default."""
    both = ingress(("h", "Exact", "/x", "s"), default="d"), ingress(default="e")

    assert table(*both).find("h", "/y") == Target("ns", "http", "d")
    assert table(*both, with_defaults=False).find("h", "/y") is None


def test_other_classes_do_not_count() -> None:
    """Those of the class, by field or annotation, and those of none."""
    annotated = ingress_of(
        {"metadata": {"namespace": "n", "annotations": {"kubernetes.io/ingress.class": "nginx"}}, "spec": {}}
    )

    assert annotated.ingress_class == "nginx"
    rules = table(
        ingress(("h", "Exact", "/", "a"), wanted="nginx"), ingress(("h", "Exact", "/", "b"), wanted="linkerd")
    )
    assert found(rules, "h", "/") == "b"


@pytest.mark.parametrize(
    "odd", [None, 1, "x", [], {}, [None], [{"http": 5}], {"a": []}, [{"http": {"paths": [3, {}]}}]]
)
@pytest.mark.parametrize("key", ["rules", "defaultBackend", "ingressClassName"])
def test_odd_objects_have_no_rules(key: str, odd: object) -> None:
    """Nothing raises."""
    one = ingress_of({"metadata": {"namespace": "n"}, "spec": {key: odd}})

    assert (one.rules, one.default) == ((), None)


@pytest.mark.parametrize("service", ["../x", "a b", "", "x" * 300, "/$/inet"])
def test_backends_must_be_names(service: str) -> None:
    """What no Service is called becomes no path."""
    assert ingress(("h", "Exact", "/", service)).rules == ()


class Head:
    method, version = b"GET", 11

    def __init__(self, host: bytes, target: bytes) -> None:
        self.host, self.target = host, target

    def get(self, name: bytes) -> bytes | None:
        return None


def identifier() -> IngressIdentifier:
    deps = IdentifierDeps(env=RealEnv(), report=lambda _event, _facts: None, shared=None)
    made = IngressConfig(kind="io.l5d.ingress").mk_with(Path.read("/svc"), deps)
    assert isinstance(made, IngressIdentifier)
    return made


def test_a_request_gets_the_name_of_its_service() -> None:
    """Namespace, port and service follow the prefix; the query does not count."""
    one = identifier()
    one.known((ingress(("h", "Prefix", "/a", "web")),), "1")

    assert one.identify(Head(b"h:80", b"/a?b=/c")) == Path.read("/svc/ns/80/web")
    assert one.identify(Head(b"h", b"/b")) == NotIdentified("no ingress rule matches")


def test_before_the_rules_are_known_requests_are_refused() -> None:
    """503 with the cause: not to know is not the same as no rule. Later trouble changes nothing."""
    one = identifier()
    one.failed("403 forbidden", 403)
    with pytest.raises(MeshError, match="not known yet: 403 forbidden") as refused:
        one.identify(Head(b"h", b"/a"))
    one.known((ingress(("h", "Prefix", "/a", "web")),), "1")
    one.failed("gone", None)

    assert (refused.value.reason, refused.value.status) == (Reason.REGISTRY_UNREACHABLE, 503)
    assert one.identify(Head(b"h", b"/a")) == Path.read("/svc/ns/80/web")
