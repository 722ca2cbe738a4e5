"""Endpoints that are called by a name of their own."""

from __future__ import annotations

import pytest

from hostmesh.proxy.named_session import authority_of, called_back

NAME = b"web.service.dc1.consul"


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ((), None),
        ((("rack", "r1"),), None),
        ((("authority", "web.service.dc1.consul"), ("rack", "r1")), NAME),
        ((("authority", "web:80\r\nX: y"),), None),
        ((("authority", "a b"),), None),
        ((("authority", ""),), None),
        ((("authority", "é"),), None),
        ((("authority", "x" * 254),), None),
    ],
)
def test_names_of_endpoints(meta: tuple[tuple[str, str], ...], expected: bytes | None) -> None:
    """Only what can be a host; a registry cannot write a header."""
    assert expected == authority_of(meta)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Location: http://%b/a" % NAME, b"Location: http://web.example/a"),
        (b"location:https://%b:8080/a?b" % NAME, b"location:https://web.example/a?b"),
        (b"Location: //%b" % NAME.upper(), b"Location: //web.example"),
        (b"Refresh: 5; url=http://%b/a" % NAME, b"Refresh: 5; url=http://web.example/a"),
        (b"Location: /a", b"Location: /a"),
        (b"Location: http://other/?to=%b" % NAME, b"Location: http://other/?to=%b" % NAME),
        (b"Location: http://%b.evil/" % NAME, b"Location: http://%b.evil/" % NAME),
        (b"X-Location: http://%b/" % NAME, b"X-Location: http://%b/" % NAME),
    ],
)
def test_where_an_endpoint_speaks_of_itself(line: bytes, expected: bytes) -> None:
    """Its name in the URLs of Location and Refresh becomes the caller's host, in the head and nowhere else."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    head = b"HTTP/1.1 302 Found\r\nA: b\r\n%b\r\nContent-Length: 5\r\n\r\n"
    body = b"\nLocation: http://%b/" % NAME

    assert head % expected + body == called_back(head % line + body, NAME, b"web.example")
    assert interim + head % expected == called_back(interim + head % line, NAME, b"web.example")
    unfinished = (head % line)[:-2]
    assert unfinished == called_back(unfinished, NAME, b"web.example")
