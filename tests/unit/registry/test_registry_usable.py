"""Which addresses may become endpoints."""

from __future__ import annotations

import pytest

from hostmesh.naming.addr import Endpoint
from hostmesh.registry.usable import endpoint_of


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_usable_addresses_are_canonical(host: str, canonical: str) -> None:
    """Loopback is usable: a registry may be about this host."""
    assert endpoint_of(host, 80) == Endpoint(canonical, 80)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "web",
        "10.0.0",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "100.100.100.200",
        "fd00:ec2::254",
    ],
)
def test_x8_addresses_that_no_service_has(host: str) -> None:
    """Not numeric, of no single host, or of a cloud's metadata service."""
    assert endpoint_of(host, 80) is None


@pytest.mark.parametrize("port", [0, -1, 65536, 99999, "80", 80.0, None, True])
def test_x8_ports_that_are_none(port: object) -> None:
    """Only whole numbers from 1 to 65535."""
    assert endpoint_of("10.0.0.1", port) is None


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "1", None, True])
def test_x8_weights_that_are_none(weight: object) -> None:
    """Only finite numbers from 0 on."""
    assert endpoint_of("10.0.0.1", 80, weight) is None


def test_weights_are_bounded() -> None:
    """What is above the largest is the largest."""
    assert endpoint_of("10.0.0.1", 80, 1e300) == Endpoint("10.0.0.1", 80, 65535.0)
