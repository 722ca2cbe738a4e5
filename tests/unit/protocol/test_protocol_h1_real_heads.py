"""What real clients send goes through the lane: the judge costs ten times as much."""

from __future__ import annotations

from hostmesh.protocol.h1_head import is_in_lane, parse_request
from hostmesh.protocol.limits import Limits
from tests.unit.protocol.real_heads import REAL_HEADS


def test_the_lane_takes_at_least_95_percent_of_real_heads() -> None:
    """28 heads of nine clients, recorded as they were sent."""
    taken = sum(is_in_lane(head) for head in REAL_HEADS)

    assert taken / len(REAL_HEADS) >= 0.95


def test_real_heads_are_read_whole() -> None:
    """Every recorded head is a request with the host it was sent to."""
    limits = Limits()

    for raw in REAL_HEADS:
        head = parse_request(raw, limits)
        assert head is not None
        assert head.end == len(raw)
        assert head.host


def test_an_absolute_target_is_routed_by_its_authority_and_forwarded_in_origin_form() -> None:
    """The callers of http_proxy."""
    raw = b"GET http://svc.local:81/x?y HTTP/1.1\r\nHost: svc.local:81\r\n\r\n"

    head = parse_request(raw, Limits())

    assert is_in_lane(raw)
    assert head is not None
    assert (head.host, head.target, head.plain) == (b"svc.local:81", b"/x?y", True)
