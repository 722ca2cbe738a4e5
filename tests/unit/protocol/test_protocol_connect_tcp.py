"""Where CONNECT may lead."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.protocol.connect import AllowList, Destination, pattern_problem, read_destination
from hostmesh.protocol.h1_head import parse_request
from hostmesh.protocol.h1_message import TUNNEL, BadMessage
from hostmesh.protocol.limits import Limits


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (b"db.example.org:5432", Destination("db.example.org", 5432)),
        (b"DB.Example.ORG:1", Destination("db.example.org", 1)),
        (b"10.0.0.1:65535", Destination("10.0.0.1", 65535)),
        (b"[2001:DB8::1]:443", Destination("2001:db8::1", 443)),
    ],
)
def test_authority_form(target: bytes, wanted: Destination) -> None:
    """A host and a port."""
    assert read_destination(target) == wanted


@pytest.mark.parametrize(
    "target",
    [
        b"db",
        b"db:",
        b"db:0",
        b"db:65536",
        b"db:99999999",
        b":443",
        b"db:4a",
        b"a@db:443",
        b"/",
        b"2001:db8::1:443",
        b"db:+5",
    ],
)
def test_what_is_no_destination(target: bytes) -> None:
    """400, whatever the list says."""
    with pytest.raises(BadMessage) as caught:
        read_destination(target)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        (
            "db.example.org:5432",
            ["db.example.org:5432", "DB.EXAMPLE.ORG:5432", "db.example.org.:5432"],
            ["db.example.org:5433", "x.db.example.org:5432", "dbxexample.org:5432"],
        ),
        (
            "*.example.org:443",
            ["a.example.org:443", "a.b.example.org:443"],
            ["example.org:443", "aexample.org:443", "a.example.org:80", "a.example.org.evil:443"],
        ),
        ("*:443", ["anything:443", "10.0.0.1:443", "[::1]:443"], ["anything:80"]),
        ("10.0.0.1:*", ["10.0.0.1:1", "10.0.0.1:65535"], ["10.0.0.11:1", "010.0.0.1:1"]),
        ("[2001:db8::1]:443", ["[2001:db8:0::1]:443"], ["[2001:db8::2]:443"]),
    ],
)
def test_patterns(pattern: str, allowed: list[str], refused: list[str]) -> None:
    """Exact, by suffix, or any; never by a part of a label."""
    allow = AllowList((pattern,))

    assert pattern_problem(pattern) is None
    assert [each for each in allowed if not allow.allows(read_destination(each.encode()))] == []
    assert [each for each in refused if allow.allows(read_destination(each.encode()))] == []


def test_an_empty_list_allows_nothing() -> None:
    """The default."""
    assert not AllowList(()).allows(Destination("db", 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "db",
        "db:",
        "db:0",
        "db:70000",
        "a*.example:1",
        "*.*:1",
        "db:1:2",
        "[zz]:1",
        "[::1]",
        "http://db:1",
        "*.:443x",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    """A slip is a mistake of the configuration, not an opening."""
    assert pattern_problem(text) is not None


HEAD = b"CONNECT db:5432 HTTP/1.1\r\nHost: other\r\nUser-Agent: x\r\n\r\n"


def test_f20_a_connect_head_is_read_only_where_it_is_enabled() -> None:
    """F20: 405 without; with it the authority of the target is the host, and what follows is no message."""
    with pytest.raises(BadMessage) as caught:
        parse_request(HEAD, Limits())
    assert (caught.value.reason, caught.value.status) == (Reason.UNSUPPORTED, 405)

    head = parse_request(HEAD + b"rest", Limits(connect=True))

    assert head is not None
    assert (head.method, head.target, head.host, head.content_length) == (
        b"CONNECT",
        b"db:5432",
        b"db:5432",
        TUNNEL,
    )
    assert head.end == len(HEAD)


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT db:5432 HTTP/1.1\r\nHost: db\r\nContent-Length: 5\r\n\r\nhello",
        b"CONNECT db:5432 HTTP/1.1\r\nHost: db\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT http://db/ HTTP/1.1\r\nHost: db\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: db\r\n\r\n",
        b"CONNECT a@db:1 HTTP/1.1\r\nHost: db\r\n\r\n",
        b"CONNECT db:1 HTTP/1.1\r\n\r\n ",
    ],
)
def test_malformed_connects(data: bytes) -> None:
    """A body, a target that is no authority, or no Host (RFC 9112 3.2)."""

    def read() -> None:
        head = parse_request(data, Limits(connect=True))
        assert head is not None
        read_destination(head.target)

    with pytest.raises(MeshError) as caught:
        read()
    assert caught.value.status == 400
