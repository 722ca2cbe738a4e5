"""The Forwarded header: labels, quoting, the line."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.config.load import load
from hostmesh.proxy.forwarded import (
    ConnectionRandomLabelerConfig,
    Forwarded,
    IpLabelerConfig,
    IpPortLabelerConfig,
    LabelerConfig,
    Party,
    RequestRandomLabelerConfig,
    RouterLabelerConfig,
    StaticLabelerConfig,
    node,
    quoted,
    random_label,
    render,
)

CALLER = Party(ip="192.0.2.7", port=50123, router="out", connection_label="_abc123")


@pytest.mark.parametrize(
    ("labeler", "expected"),
    [
        (IpLabelerConfig(), "192.0.2.7"),
        (IpPortLabelerConfig(), '"192.0.2.7:50123"'),
        (ConnectionRandomLabelerConfig(), "_abc123"),
        (RouterLabelerConfig(), "out"),
        (StaticLabelerConfig(label="edge 1"), '"edge 1"'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labeler(labeler: LabelerConfig, expected: str) -> None:
    """Each labeler names a party in its way."""
    assert expected == labeler.mk()(CALLER, Random(1))


def test_request_labels_differ_and_repeat_with_the_seed() -> None:
    """A random label is new for each request, six alphanumerics, and a function of the generator."""
    labeler = RequestRandomLabelerConfig().mk()
    rng, same = Random(7), Random(7)

    first, second = labeler(CALLER, rng), labeler(CALLER, rng)

    assert first != second
    assert (first, second) == (random_label(same), random_label(same))
    assert (first[0], len(first), first[1:].isalnum()) == ("_", 7, True)


@pytest.mark.parametrize(
    ("ip", "port", "expected"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", 80, '"192.0.2.1:80"'),
        ("2001:db8::1", None, '"[2001:db8::1]"'),
        ("2001:DB8:0::1", 80, '"[2001:db8::1]:80"'),
        ("fe80::1%eth0", 80, '"[fe80::1]:80"'),
        ("0.0.0.0", None, "unknown"),
        ("0.0.0.0", 80, "unknown"),
        ("::", 80, "unknown"),
    ],
)
def test_node_name(ip: str, port: int | None, expected: str) -> None:
    """Addresses are written as RFC 7239, section 6, has them; a wildcard address is unknown."""
    assert expected == node(ip, port)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("web:4140", '"web:4140"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a\r\nX: y", '"aX: y"'),
        ("é", '""'),
        ("", '""'),
    ],
)
def test_quoting(text: str, expected: str) -> None:
    """Tokens stay as they are; anything else is quoted, and what could end the line is dropped."""
    assert expected == quoted(text)


@given(st.text(), st.binary(max_size=40))
def test_no_label_or_host_can_end_the_line(label: str, host: bytes) -> None:
    """T10: whatever the label and the host are, the header is one line of ASCII."""
    line = render(quoted(label), quoted(label), host, "http")

    assert (line[-2:], b"\r" in line[:-2], b"\n" in line[:-2], line.isascii()) == (
        b"\r\n",
        False,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"web", b"Forwarded: by=_a;for=_b;host=web;proto=http\r\n"),
        (b"web:80", b'Forwarded: by=_a;for=_b;host="web:80";proto=http\r\n'),
        (b"", b"Forwarded: by=_a;for=_b;proto=http\r\n"),
    ],
)
def test_line(host: bytes, expected: bytes) -> None:
    """The pairs come in Linkerd's order; a request without Host has no host pair."""
    assert expected == render("_a", "_b", host, "http")


def test_line_of_a_configured_server() -> None:
    """The labelers of a file make the line of a request."""
    config, _report = load(
        "routers: [{protocol: http, servers: [{addForwardedHeader: {by: {kind: 'ip:port'}, for: {kind: ip}}}]}]",
        "f",
    )
    assert config is not None
    header = config.routers[0].servers[0].add_forwarded_header
    assert header is not None
    server = Party(ip="::1", port=4140, router="out", connection_label="_")

    line = Forwarded(header.by.mk(), header.for_.mk()).line(server, CALLER, b"web", "https", Random(1))

    assert line == b'Forwarded: by="[::1]:4140";for=192.0.2.7;host=web;proto=https\r\n'


def test_empty_static_label_is_refused() -> None:
    """A static label says something."""
    assert StaticLabelerConfig(label=" ").check() == ["label: found nothing, expected some text"]
