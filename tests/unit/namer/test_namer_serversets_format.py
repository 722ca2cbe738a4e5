"""The format of serversets: members, vectors, leaders, and what hostile ones do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hostmesh.registry.hostnames import Named
from namer.serversets_format import (
    MAX_NODE_BYTES,
    Member,
    Selector,
    parse_leader,
    parse_member,
    parse_vector,
    show_member,
    weigh,
)

ALIVE: dict[str, Any] = {
    "serviceEndpoint": {"host": "10.0.0.1", "port": 8080},
    "additionalEndpoints": {"http": {"host": "10.0.0.2", "port": 80}},
    "status": "ALIVE",
    "shard": 3,
}


def node(**changes: Any) -> bytes:
    return json.dumps({**ALIVE, **changes}).encode()


def test_the_service_endpoint_is_the_members_address() -> None:
    """Without an endpoint name the service endpoint counts."""
    assert parse_member(node(), None) == Member("10.0.0.1", 8080, 3)


def test_a_name_chooses_an_additional_endpoint() -> None:
    """``:http`` is the member's additional endpoint of that name."""
    assert parse_member(node(), "http") == Member("10.0.0.2", 80, 3)


@pytest.mark.parametrize("endpoint", ["thrift", "HTTP"])
def test_a_member_without_that_endpoint_is_none(endpoint: str) -> None:
    """A member that lacks the endpoint is not part of the set, and nothing is wrong with it."""
    assert parse_member(node(), endpoint) is None


@pytest.mark.parametrize(
    "status", ["DEAD", "STARTING", "STOPPING", "STOPPED", "WARNING", "UNKNOWN", "alive", None, 1, ["ALIVE"]]
)
def test_only_the_living_count(status: object) -> None:
    """Any status but ALIVE leaves the member out."""
    assert parse_member(node(status=status), None) is None


def test_missing_parts_are_no_member() -> None:
    """Without a status or without additional endpoints there is nobody, and nothing is malformed."""
    assert parse_member(b"{}", None) is None
    assert parse_member(b'{"status": "ALIVE"}', None) is None
    assert parse_member(b'{"status": "ALIVE", "additionalEndpoints": null}', "http") is None


HOSTILE = {
    "not JSON": b"not json",
    "not UTF-8": b'{"status": "\xff"}',
    "UTF-16": json.dumps(ALIVE).encode("utf-16")[:51],
    "empty": b"",
    "a list": b"[]",
    "a number": b"1" * 5000,
    "too large": b'{"status": "ALIVE", "x": "' + b"x" * MAX_NODE_BYTES + b'"}',
    "nested": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "endpoint is text": node(serviceEndpoint="10.0.0.1:80"),
    "no port": node(serviceEndpoint={"host": "10.0.0.1"}),
    "port 0": node(serviceEndpoint={"host": "10.0.0.1", "port": 0}),
    "port 99999": node(serviceEndpoint={"host": "10.0.0.1", "port": 99999}),
    "port is text": node(serviceEndpoint={"host": "10.0.0.1", "port": "80"}),
    "port is true": node(serviceEndpoint={"host": "10.0.0.1", "port": True}),
    "port is a fraction": node(serviceEndpoint={"host": "10.0.0.1", "port": 80.5}),
    "no host": node(serviceEndpoint={"port": 80}),
    "host is empty": node(serviceEndpoint={"host": "", "port": 80}),
    "host is a number": node(serviceEndpoint={"host": 1, "port": 80}),
    "host with a line end": node(serviceEndpoint={"host": "a\r\nb", "port": 80}),
    "host with a path": node(serviceEndpoint={"host": "a/b", "port": 80}),
    "host in another script": node(serviceEndpoint={"host": "héllo", "port": 80}),
    "host too long": node(serviceEndpoint={"host": "a" * 300, "port": 80}),
    "octal host": node(serviceEndpoint={"host": "010.0.0.1", "port": 80}, additionalEndpoints=[]),
    "metadata service": node(serviceEndpoint={"host": "169.254.169.254", "port": 80}),
    "metadata service, short": node(serviceEndpoint={"host": "169.254.43518", "port": 80}),
    "link-local IPv6": node(serviceEndpoint={"host": "fe80::1", "port": 80}),
    "wildcard": node(serviceEndpoint={"host": "0.0.0.0", "port": 80}),
    "wildcard IPv6": node(serviceEndpoint={"host": "::", "port": 80}),
    "multicast": node(serviceEndpoint={"host": "224.0.0.1", "port": 80}),
    "broadcast": node(serviceEndpoint={"host": "255.255.255.255", "port": 80}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_members_are_malformed(content: bytes) -> None:
    """Whatever a member contains, it is a member, nobody, or a ValueError of bounded length."""
    if content == HOSTILE["octal host"]:
        # A name of digits: left to the resolver, which knows no such name.
        assert parse_member(content, None) == Member("010.0.0.1", 80, 3)
        return
    with pytest.raises(ValueError) as caught:
        parse_member(content, None)
    assert len(str(caught.value)) < 5000


def test_addresses_become_canonical() -> None:
    """Short and long forms of one address are one endpoint."""
    short = node(serviceEndpoint={"host": "127.1", "port": 80})
    long = node(serviceEndpoint={"host": "[0:0::1]", "port": 80})

    assert parse_member(short, None) == Member("127.0.0.1", 80, 3)
    assert parse_member(long, None) == Member("::1", 80, 3)


def test_what_announcers_write_is_a_member() -> None:
    """An announced server is read back as it is."""
    assert parse_member(show_member("10.1.2.3", 4140), None) == Member("10.1.2.3", 4140, 0)


def test_vectors_weigh_members() -> None:
    """The weights of all matching selectors are multiplied; without one the weight is 1."""
    members = {
        "member_0": Member("10.0.0.1", 80, 0),
        "member_1": Member("10.0.0.2", 80, 1),
        "member_2": Member("10.0.0.3", 80, None),
    }
    vector = (
        Selector("inet", "10.0.0.1:80", 0.5),
        Selector("shard", "0", 0.5),
        Selector("member", "member_1", 3.0),
    )

    weighed = weigh(members, [vector, (Selector("inet", "10.0.0.1:80", 2.0),)])

    assert weighed == [
        Named("10.0.0.1", 80, 0.5),
        Named("10.0.0.2", 80, 3.0),
        Named("10.0.0.3", 80, 1.0),
    ]


def test_a_vector_is_read() -> None:
    """Selector, weight (default 1) and an ignored priority."""
    content = b'{"vector": [{"select": "inet=h:1", "weight": 2, "priority": 1}, {"select": "shard=4"}]}'

    assert parse_vector(content) == (Selector("inet", "h:1", 2.0), Selector("shard", "4", 1.0))


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"vector": [1]}',
        b'{"vector": [{"select": "zone=a"}]}',
        b'{"vector": [{"select": "shard=1", "weight": -1}]}',
        b'{"vector": [{"select": "shard=1", "weight": NaN}]}',
        b'{"vector": [{"select": "shard=1", "weight": Infinity}]}',
        b'{"vector": [{"select": "shard=1", "weight": "1"}]}',
    ],
)
def test_hostile_vectors_are_malformed(content: bytes) -> None:
    """A vector that is not one is a ValueError."""
    with pytest.raises(ValueError):
        parse_vector(content)


def test_weights_stay_finite() -> None:
    """Many large weights do not become infinite."""
    vectors = [(Selector("shard", "0", 9e8),) for _ in range(100)]

    assert weigh({"member_0": Member("10.0.0.1", 80, 0)}, vectors) == [Named("10.0.0.1", 80, 1e9)]


def test_a_leader_lists_its_addresses() -> None:
    """``host:port``, several with commas."""
    assert parse_leader(b" 10.0.0.1:80,db.example:81, [::1]:82\n") == [
        Named("10.0.0.1", 80),
        Named("db.example", 81),
        Named("::1", 82),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"host", b"host:", b"host:0", b"host:99999", b"a:1,", b"\xff:1", b":1"]
)
def test_hostile_leaders_are_malformed(content: bytes) -> None:
    """A leader that gives no address is a ValueError."""
    with pytest.raises(ValueError):
        parse_leader(content)
