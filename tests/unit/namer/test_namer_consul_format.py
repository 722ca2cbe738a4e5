"""What a Consul agent says of a service, as endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.naming.addr import Endpoint
from namer.consul_format import (
    MAX_META,
    MAX_META_TEXT,
    HostInstance,
    Reading,
    instance_of,
    next_index,
    status_of,
)


def of_catalog(**changes: Any) -> dict[str, Any]:
    """An entry of ``/v1/catalog/service``."""
    return {
        "Node": "n1",
        "Address": "10.0.0.1",
        "NodeMeta": {"rack": "r1", "both": "node"},
        "ServiceAddress": "10.0.0.2",
        "ServicePort": 80,
        "ServiceTags": ["a", "b"],
        "ServiceMeta": {"version": "7", "both": "service"},
    } | changes


def of_health(*statuses: str, **changes: Any) -> dict[str, Any]:
    """An entry of ``/v1/health/service``."""
    return {
        "Node": {"Address": "10.0.0.1", "Meta": {"rack": "r1"}},
        "Service": {"Address": "10.0.0.2", "Port": 80, "Tags": ["a"], "Meta": {"version": "7"}} | changes,
        "Checks": [{"CheckID": f"c{n}", "Status": status} for n, status in enumerate(statuses)],
    }


HEALTH = Reading(use_health=True)


@pytest.mark.parametrize(
    ("entry", "reading", "expected"),
    [
        (of_catalog(), Reading(), Endpoint("10.0.0.2", 80)),
        (of_catalog(ServiceAddress=""), Reading(), Endpoint("10.0.0.1", 80)),
        (of_catalog(ServiceAddress=None), Reading(), Endpoint("10.0.0.1", 80)),
        (of_catalog(), Reading(prefer_service_address=False), Endpoint("10.0.0.1", 80)),
        (of_catalog(ServiceAddress="::ffff:10.0.0.9"), Reading(), Endpoint("10.0.0.9", 80)),
        (of_catalog(ServiceAddress="2001:DB8::1"), Reading(), Endpoint("2001:db8::1", 80)),
        (of_catalog(ServiceAddress="Web.Example"), Reading(), HostInstance("web.example", 80, 1.0, ())),
        (of_catalog(), Reading(weights={"a": 0.5, "b": 2.0, "c": 9.0}), Endpoint("10.0.0.2", 80, 2.0)),
        (of_catalog(), Reading(weights={"c": 9.0}), Endpoint("10.0.0.2", 80, 1.0)),
        (of_catalog(ServiceTags=None), Reading(weights={"a": 9.0}), Endpoint("10.0.0.2", 80, 1.0)),
        (of_catalog(ServiceTags=[[], 1, "a"]), Reading(weights={"a": 9.0}), Endpoint("10.0.0.2", 80, 9.0)),
        (
            of_catalog(),
            Reading(with_metadata=True),
            Endpoint("10.0.0.2", 80, 1.0, (("both", "service"), ("rack", "r1"), ("version", "7"))),
        ),
        (of_health(), HEALTH, Endpoint("10.0.0.2", 80)),
        (of_health("passing"), HEALTH, Endpoint("10.0.0.2", 80)),
        (of_health("passing", "warning"), HEALTH, None),
        (
            of_health("passing", "warning"),
            Reading(use_health=True, statuses=frozenset(["warning"])),
            Endpoint("10.0.0.2", 80),
        ),
        (of_health("passing"), Reading(use_health=True, statuses=frozenset(["warning"])), None),
        (of_health(Address=""), HEALTH, Endpoint("10.0.0.1", 80)),
        (
            of_health(),
            Reading(use_health=True, with_metadata=True),
            Endpoint("10.0.0.2", 80, 1.0, (("rack", "r1"), ("version", "7"))),
        ),
    ],
)
def test_instances_that_are_taken(entry: Any, reading: Reading, expected: object) -> None:
    """Addresses, tags, weights, metadata and health, from both endpoints of the API."""
    assert expected == instance_of(entry, reading)


def test_authority_is_metadata() -> None:
    """``setHost`` travels with the endpoint, whatever the registry's own metadata say."""
    entry = of_catalog(ServiceMeta={"authority": "evil"})

    instance = instance_of(entry, Reading(with_metadata=True), "web.service.dc1.consul")

    assert instance is not None
    assert dict(instance.meta)["authority"] == "web.service.dc1.consul"
    other = instance_of(entry, Reading(with_metadata=True))
    assert other is not None
    assert "authority" not in dict(other.meta)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "web",
        {},
        of_catalog(ServicePort=0),
        of_catalog(ServicePort=65536),
        of_catalog(ServicePort=99999),
        of_catalog(ServicePort="80"),
        of_catalog(ServicePort=80.0),
        of_catalog(ServicePort=True),
        of_catalog(ServicePort=None),
        of_catalog(ServiceAddress="", Address=""),
        of_catalog(ServiceAddress="", Address=None),
        of_catalog(ServiceAddress=7),
        of_catalog(ServiceAddress="10.0.0.2:80"),
        of_catalog(ServiceAddress="http://10.0.0.2"),
        of_catalog(ServiceAddress="a b"),
        of_catalog(ServiceAddress="a\x00b"),
        of_catalog(ServiceAddress="-" * 300),
        of_catalog(ServiceAddress="{{ .Env }}"),
        of_catalog(ServiceAddress="0.0.0.0"),
        of_catalog(ServiceAddress="::"),
        of_catalog(ServiceAddress="224.0.0.1"),
        of_catalog(ServiceAddress="255.255.255.255"),
        of_catalog(ServiceAddress="169.254.169.254"),
        of_catalog(ServiceAddress="::ffff:169.254.169.254"),
        of_catalog(ServiceAddress="fe80::1"),
    ],
)
def test_x8_catalog_entries_that_are_refused(entry: Any) -> None:
    """What is no object, has no possible address or port, or names an address that no service has."""
    with pytest.raises(ValueError, match="expected"):
        instance_of(entry, Reading())


@pytest.mark.parametrize(
    "entry",
    [
        {"Node": None, "Service": {}},
        {"Node": {}, "Service": []},
        of_health() | {"Checks": "passing"},
        of_health() | {"Checks": ["passing"]},
        of_health(Port=0),
    ],
)
def test_x8_health_entries_that_are_refused(entry: Any) -> None:
    """The same for the health API, checks included."""
    with pytest.raises(ValueError, match="expected"):
        instance_of(entry, HEALTH)


def test_x8_metadata_is_bounded() -> None:
    """Neither many pairs nor long ones are kept, and none that is not text."""
    meta: dict[str, Any] = {"long": "x" * (MAX_META_TEXT + 1), "x" * (MAX_META_TEXT + 1): "long", "number": 1}
    meta |= {f"k{n}": "v" for n in range(10_000)}

    instance = instance_of(of_catalog(ServiceMeta=meta), Reading(with_metadata=True))

    assert instance is not None
    assert len(instance.meta) == MAX_META
    assert {"long", "number"}.isdisjoint(dict(instance.meta))


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        (None, "passing"),
        ([], "passing"),
        ([{"Status": "passing"}, {"Status": "warning"}], "warning"),
        ([{"Status": "critical"}, {"Status": "warning"}], "critical"),
        ([{"Status": "brilliant"}], "critical"),
        ([{"Status": ["passing"]}], "critical"),
        ([{}], "critical"),
        ([{"CheckID": "_node_maintenance", "Status": "critical"}], "maintenance"),
        (
            [{"CheckID": "_service_maintenance:web", "Status": "critical"}, {"Status": "passing"}],
            "maintenance",
        ),
    ],
)
def test_status_is_the_worst_of_the_checks(checks: Any, expected: str) -> None:
    """No check is passing, an unknown word is critical."""
    assert expected == status_of(checks)


@pytest.mark.parametrize(
    ("last", "said", "expected"),
    [
        (0, "7", (7, False)),
        (7, "7", (7, False)),
        (7, "9", (9, False)),
        (44, "13", (13, True)),
        (7, "0", (1, False)),
        (7, "", (1, False)),
        (7, "-5", (1, False)),
        (7, "garbage", (1, False)),
        (7, "٣", (1, False)),
        (7, "9" * 400, (1, False)),
    ],
)
def test_x11_index_rules(last: int, said: str, expected: tuple[int, bool]) -> None:
    """Backwards is another state; missing, zero and nonsense count as 1."""
    assert expected == next_index(last, said)
