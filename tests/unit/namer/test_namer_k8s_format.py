"""Kubernetes objects to endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.naming.addr import Endpoint
from hostmesh.naming.path import Path
from namer.k8s import K8sConfig, Wanted
from namer.k8s_format import (
    MAX_ADDRESSES,
    ServicePort,
    endpoints_groups,
    endpoints_of,
    port_name,
    service_facts,
    slice_groups,
    usable_ip,
)


def a_slice(*endpoints: dict[str, Any], ports: Any = None, family: str = "IPv4") -> dict[str, Any]:
    return {
        "addressType": family,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}] if ports is None else ports,
        "endpoints": list(endpoints),
    }


def at(ip: object, **conditions: object) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions}


def keys(found: dict[str, Any], port: str = "http") -> list[str]:
    return [f"{e.host}:{e.port}" for e in endpoints_of(slice_groups(found), port)]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, True),
        ({"ready": None}, True),
        ({"ready": True}, True),
        ({"ready": False}, False),
        ({"ready": True, "serving": True, "terminating": False}, True),
        ({"ready": False, "serving": False, "terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": False}, False),
    ],
)
def test_ready_endpoints_count(conditions: dict[str, Any], expected: bool) -> None:
    """No word about readiness means ready, as the API says."""
    assert (keys(a_slice(at("10.0.0.1", **conditions))) != []) is expected


def test_draining_endpoints_count_when_nobody_is_ready() -> None:
    """Terminating and still serving is better than nothing, and worse than ready."""
    draining = at("10.0.0.2", ready=False, serving=True, terminating=True)

    assert keys(a_slice(at("10.0.0.1"), draining)) == ["10.0.0.1:8080"]
    assert keys(a_slice(draining)) == ["10.0.0.2:8080"]


def test_slices_are_merged_without_duplicates() -> None:
    """While a slice is split an endpoint is in two; the node is kept from the one that knows it."""
    one = slice_groups(a_slice(at("10.0.0.1")))
    two = slice_groups(a_slice({**at("10.0.0.1"), "nodeName": "n1"}, at("10.0.0.2")))

    assert endpoints_of(one + two, "http") == (
        Endpoint("10.0.0.1", 8080, 1.0, (("nodeName", "n1"),)),
        Endpoint("10.0.0.2", 8080),
    )


def test_ipv4_comes_before_the_same_pods_in_ipv6() -> None:
    """A dual-stack service is one set of pods; IPv6 counts where it is all there is."""
    four, six = slice_groups(a_slice(at("10.0.0.1"))), slice_groups(a_slice(at("fd00::1"), family="IPv6"))

    assert [e.host for e in endpoints_of(four + six, "http")] == ["10.0.0.1"]
    assert [e.host for e in endpoints_of(six, "http")] == ["fd00::1"]


def test_ports_are_found_by_name_whatever_the_case() -> None:
    """Only TCP ports are; a port that is not there has no endpoints."""
    ports = [
        {"name": "HTTP", "port": 1, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "", "port": 2},
    ]
    found = a_slice(at("10.0.0.1"), ports=ports)

    assert [keys(found, port) for port in ("http", "dns", "", "other")] == [
        ["10.0.0.1:1"],
        [],
        ["10.0.0.1:2"],
        [],
    ]


@pytest.mark.parametrize(
    "ip",
    [
        *("", "web", "10.0.0.256", "127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "fe80::1", "224.0.0.1"),
        *("::ffff:169.254.169.254", "fe80::1%eth0", "10.0.0.1\n", "x" * 10_000_000, 7, None),
    ],
)
def test_addresses_that_are_none_or_lead_into_the_node_are_left_out(ip: object) -> None:
    """Non-addresses, loopback, link-local with the metadata service, multicast: skipped and counted."""
    groups = slice_groups(a_slice(at(ip), at("10.0.0.1")))

    assert (usable_ip(ip), [e.host for e in endpoints_of(groups, "http")]) == (None, ["10.0.0.1"])
    assert groups[0].skipped == 1


@pytest.mark.parametrize("port", [0, 65536, 99999, -1, "8080", 80.5, True, None, [], {}])
def test_ports_that_are_none_are_left_out(port: object) -> None:
    """A port is a whole number from 1 to 65535."""
    assert keys(a_slice(at("10.0.0.1"), ports=[{"name": "http", "port": port}])) == []


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, [1], [None], [[]], {"a": 1}])
@pytest.mark.parametrize(
    "key", ["addressType", "ports", "endpoints", "subsets", "spec", "status", "metadata"]
)
def test_odd_shapes_are_empty(key: str, odd: object) -> None:
    """Whatever stands where something else is expected, nothing raises."""
    found = {**a_slice(at("10.0.0.1")), key: odd}

    slice_groups(found)
    assert endpoints_groups({key: odd}) in ((), endpoints_groups({}))
    assert service_facts({key: odd}).ports == ()


def test_an_object_holds_a_bounded_number_of_addresses() -> None:
    """What is above the bound is skipped and counted."""
    many = [at(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(MAX_ADDRESSES + 5)]

    (group,) = slice_groups(a_slice(*many))

    assert (len(group.ready), group.skipped) == (MAX_ADDRESSES, 5)


def test_endpoints_objects_give_their_ready_addresses() -> None:
    """Each subset has its own ports; those not ready are not there."""
    found = {
        "subsets": [
            {
                "addresses": [{"ip": "10.0.0.1", "nodeName": "n1"}],
                "notReadyAddresses": [{"ip": "10.0.0.9"}],
                "ports": [{"name": "http", "port": 80}],
            },
            {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "http", "port": 81}]},
        ]
    }

    assert endpoints_of(endpoints_groups(found), "http") == (
        Endpoint("10.0.0.1", 80, 1.0, (("nodeName", "n1"),)),
        Endpoint("10.0.0.2", 81),
    )


def test_a_services_port_number_gives_its_name() -> None:
    """The name leads to the endpoints' port, named or numbered; the only port may have none."""
    facts = service_facts(
        {"spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}, {"port": 9}]}}
    )

    assert facts.ports == (ServicePort("http", 80), ServicePort("", 9))
    assert [port_name([facts], number) for number in (80, 9, 1)] == ["http", "", None]


def test_load_balancers_have_a_host_name_or_an_address() -> None:
    """The host name counts if there is one."""
    ingress = [{"ip": "203.0.113.1"}, {"hostname": "lb.example", "ip": "203.0.113.2"}, {}]

    facts = service_facts({"status": {"loadBalancer": {"ingress": ingress}}})

    assert facts.ingress == ("203.0.113.1", "lb.example")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/Prod/HTTP/Web", Wanted("prod", "http", "web", None)),
        ("/prod/8080/web", Wanted("prod", "8080", "web", None)),
        ("/prod/0/web", None),
        ("/prod/65536/web", None),
        ("/prod/99999999999999999999/web", None),
        ("/prod/http/web,x=y", None),
        ("/-/http/web", None),
        ("/prod/http/..", None),
        ("/prod/http/web_1", None),
    ],
)
def test_paths_that_cannot_be_services_ask_nobody(path: str, expected: Wanted | None) -> None:
    """Nothing of a path can become another path or selector at the API server."""
    segments = Path.of(*path.split("/")[1:])

    assert K8sConfig(kind="io.l5d.k8s").wanted(segments) == expected


def test_a_label_value_becomes_a_selector() -> None:
    """The last segment is the value; what cannot be one names nothing."""
    config = K8sConfig(kind="io.l5d.k8s", label_selector="example.com/version")

    assert config.depth == 4
    assert config.wanted(Path.of("prod", "http", "web", "V1")) == Wanted(
        "prod", "http", "web", "example.com/version=v1"
    )
    assert config.wanted(Path.of("prod", "http", "web", "a,b")) is None
