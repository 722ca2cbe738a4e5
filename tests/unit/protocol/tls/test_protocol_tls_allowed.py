"""Who may come in, by the names of a certificate that has been verified."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from attrs import evolve

from hostmesh.base.reasons import Reason
from hostmesh.protocol.tls.contexts import ServerContexts
from hostmesh.protocol.tls.failures import TlsFailure
from hostmesh.protocol.tls.identity import PeerIdentity, is_allowed
from tests import tls_pairs
from tests.tls_files import TlsFiles
from tests.tls_pairs import key_pair, shake, trust


def peer(*names: str) -> PeerIdentity:
    """Somebody with these DNS names and URIs."""
    return PeerIdentity(
        dns_names=tuple(name for name in names if "://" not in name),
        uris=tuple(name for name in names if "://" in name),
        fingerprint="00",
        serial=1,
        not_after=datetime(2030, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("names", "allowed", "expected"),
    [
        (["web.mesh"], ["web.mesh"], True),
        (["WEB.mesh"], ["web.MESH"], True),
        (["web.mesh"], ["shop.mesh", "web.mesh"], True),
        (["web.mesh"], ["shop.mesh"], False),
        (["web.mesh"], ["*.mesh"], True),
        (["a.web.mesh"], ["*.mesh"], False),
        (["mesh"], ["*.mesh"], False),
        (["*.mesh"], ["*.mesh"], False),
        (["*.mesh"], ["web.mesh"], False),
        (["webxmesh"], ["web.mesh"], False),
        (["spiffe://mesh/ns/a/sa/web"], ["spiffe://mesh/ns/a/sa/web"], True),
        (["spiffe://mesh/ns/a/sa/web"], ["spiffe://mesh/ns/a/*"], True),
        (["spiffe://mesh/ns/a/sa/web"], ["spiffe://mesh/*"], True),
        (["spiffe://mesh/ns/ab/sa/web"], ["spiffe://mesh/ns/a/*"], False),
        (["spiffe://mesh.evil/ns/a"], ["spiffe://mesh/*"], False),
        (["spiffe://mesh/ns/a"], ["spiffe://mesh/ns/a/*"], False),
        (["spiffe://mesh/ns/a", "spiffe://mesh/ns/b"], ["spiffe://mesh/ns/a"], False),
        ([], ["*.mesh", "spiffe://mesh/*"], False),
    ],
)
def test_a_name_is_allowed_by_itself_or_by_its_parent(
    names: list[str], allowed: list[str], expected: bool
) -> None:
    """A star is one label, or all segments below a path; nothing is matched by characters."""
    assert is_allowed(peer(*names), allowed) is expected


def test_names_of_one_kind_do_not_count_as_the_other() -> None:
    """A URI that reads like a DNS name is none, and a DNS name that reads like a SPIFFE id is none."""
    odd = peer()
    assert not is_allowed(evolve(odd, uris=("web.mesh",)), ["web.mesh", "*.mesh"])
    assert not is_allowed(
        evolve(odd, dns_names=("spiffe://mesh/ns/a",)), ["spiffe://mesh/ns/a", "spiffe://mesh/*"]
    )


def test_a_caller_who_is_not_named_is_refused(tls_files: TlsFiles) -> None:
    """With an alert and a reason of its own, although its certificate is valid; others come in."""
    contexts = ServerContexts(
        [key_pair(tls_files.web)],
        trust(tls_files),
        require_client_auth=True,
        allowed=["spiffe://mesh.test/ns/default/sa/caller"],
    )
    shake(contexts.connection(), tls_pairs.client(tls_files, tls_files.client).connection("web.mesh"))
    client = tls_pairs.client(tls_files, tls_files.shop).connection("web.mesh")
    with pytest.raises(TlsFailure, match=r"the caller is spiffe://mesh\.test/ns/default/sa/shop") as caught:
        shake(contexts.connection(), client)

    assert caught.value.reason is Reason.TLS_NOT_ALLOWED
    with pytest.raises(TlsFailure, match="sent the alert"):
        client.decrypt(caught.value.farewell)
