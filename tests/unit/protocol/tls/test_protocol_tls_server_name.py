"""What is asked of endpoints that speak TLS."""

from __future__ import annotations

import pytest

from hostmesh.protocol.tls.server_name import server_name_of


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (None, None),
        ("web.mesh", "web.mesh"),
        ("Web_1.mesh", "Web_1.mesh"),
        ("web.mesh.", "web.mesh"),
        ("192.0.2.7", None),
        ("192.0.2.7.", None),
        ("2001:db8::1", None),
        ("spiffe://mesh/web", None),
        ("", None),
        (".mesh", None),
        ("*.mesh", None),
        ("a b.mesh", None),
        ("web\0.mesh", None),
        ("m\u00e4sh", None),
        ("a" * 249 + ".mes", "a" * 249 + ".mes"),
        ("a" * 250 + ".mes", None),
    ],
)
def test_only_host_names_are_asked_for(name: str | None, asked: str | None) -> None:
    """Without the final dot, which RFC 6066 forbids; whatever a prefix captures, it is no error to look at it."""
    assert server_name_of(name) == asked
