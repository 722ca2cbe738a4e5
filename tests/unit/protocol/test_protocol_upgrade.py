"""Which upgrades may pass, and what a 101 must say."""

from __future__ import annotations

import pytest

from hostmesh.protocol.h1_head import parse_request, parse_response
from hostmesh.protocol.h1_message import BadMessage, RequestHead, ResponseHead
from hostmesh.protocol.limits import DEFAULT_LIMITS
from hostmesh.protocol.upgrade import (
    protocols,
    switched_to,
    token_problem,
    upgrade_lines,
    upgrade_to_forward,
)

ALLOWED = frozenset({b"websocket", b"spdy/3.1"})


def request(*lines: bytes, first: bytes = b"GET / HTTP/1.1") -> RequestHead:
    data = b"\r\n".join([first, b"Host: web", *lines, b"", b""])
    head = parse_request(data, DEFAULT_LIMITS)
    assert head is not None
    return head


def response(*lines: bytes, first: bytes = b"HTTP/1.1 101 Switching Protocols") -> ResponseHead:
    head = parse_response(b"\r\n".join([first, *lines, b"", b""]), DEFAULT_LIMITS, b"GET", upgrade=True)
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"websocket"),
        ((b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket"), b"WebSocket"),
        ((b"Connection: upgrade", b"Upgrade: h2c, websocket ,SPDY/3.1"), b"websocket, SPDY/3.1"),
        ((b"Connection: upgrade", b"Upgrade: h2c", b"Upgrade: websocket"), b"websocket"),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 0"), b"websocket"),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 1"), None),
        ((b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"), None),
        ((b"Connection: upgrade", b"Upgrade: websocket/13"), None),
        ((b"Connection: upgrade", b"Upgrade: spdy"), None),
        ((b"Connection: upgrade", b"Upgrade: web socket"), None),
        ((b"Connection: upgrade", b"Upgrade: ,,"), None),
        ((b"Connection: close", b"Upgrade: websocket"), None),
        ((b"Upgrade: websocket",), None),
        ((b"Connection: upgrade",), None),
    ],
)
def test_what_goes_on(lines: tuple[bytes, ...], expected: bytes | None) -> None:
    """Allowed tokens of a bodiless request that names Upgrade in Connection, as they were spelled."""
    assert expected == upgrade_to_forward(request(*lines), ALLOWED)


@pytest.mark.parametrize(
    ("first", "upgrade", "expected"),
    [
        (b"POST / HTTP/1.1", b"websocket", None),
        (b"POST / HTTP/1.1", b"spdy/3.1", b"spdy/3.1"),
        (b"POST / HTTP/1.1", b"websocket, spdy/3.1", b"spdy/3.1"),
        (b"GET / HTTP/1.0", b"websocket", None),
    ],
)
def test_who_may_ask(first: bytes, upgrade: bytes, expected: bytes | None) -> None:
    """WebSocket with GET only (RFC 6455 4.1), and nobody with HTTP/1.0 (RFC 9110 7.8)."""
    head = request(b"Connection: upgrade", b"Upgrade: " + upgrade, first=first)

    assert expected == upgrade_to_forward(head, ALLOWED)


@pytest.mark.parametrize(
    ("lines", "asked", "expected"),
    [
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"websocket", b"websocket"),
        ((b"connection: keep-alive, upgrade", b"upgrade: WEBSOCKET"), b"websocket", b"WEBSOCKET"),
        ((b"Connection: Upgrade", b"Upgrade: spdy/3.1"), b"websocket, SPDY/3.1", b"spdy/3.1"),
    ],
)
def test_what_a_switch_leads_to(lines: tuple[bytes, ...], asked: bytes, expected: bytes) -> None:
    """One of the protocols that were asked for."""
    assert expected == switched_to(response(*lines), asked)


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ((b"Connection: Upgrade",), b"HTTP/1.1 101 X"),
        ((b"Upgrade: websocket",), b"HTTP/1.1 101 X"),
        ((b"Connection: close", b"Upgrade: websocket"), b"HTTP/1.1 101 X"),
        ((b"Connection: Upgrade", b"Upgrade: h2c"), b"HTTP/1.1 101 X"),
        ((b"Connection: Upgrade", b"Upgrade: websocket, h2c"), b"HTTP/1.1 101 X"),
        ((b"Connection: Upgrade", b"Upgrade: \xff"), b"HTTP/1.1 101 X"),
        ((b"Connection: Upgrade", b"Upgrade: websocket"), b"HTTP/1.0 101 X"),
    ],
)
def test_f20_a_switch_that_nobody_asked_for_is_refused(lines: tuple[bytes, ...], first: bytes) -> None:
    """F20: 502, with what was found in the message."""
    with pytest.raises(BadMessage) as raised:
        switched_to(response(*lines, first=first), b"websocket")

    assert (raised.value.status, raised.value.reason.value) == (502, "bad-response")


@pytest.mark.parametrize(
    ("token", "fine"),
    [
        ("websocket", True),
        ("SPDY/3.1", True),
        ("tcp", True),
        ("h2c", False),
        ("H2C", False),
        ("HTTP/2.0", False),
        ("TLS/1.2", False),
        ("", False),
        ("web socket", False),
        ("a/b/c", False),
        ("é", False),
    ],
)
def test_f20_what_an_allow_list_may_hold(token: str, fine: bool) -> None:
    """F20: names of protocols, but none that carries requests past the router."""
    assert fine == (token_problem(token) is None)


def test_lists_of_protocols() -> None:
    """Split at commas, without what is no protocol."""
    assert protocols(b" a, b/1 ,,c d, \x01") == [b"a", b"b/1"]


def test_the_lines_of_a_hop() -> None:
    """Both fields, and nothing else."""
    assert upgrade_lines(b"websocket") == b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
