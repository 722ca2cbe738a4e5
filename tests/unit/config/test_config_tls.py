"""``tls`` objects: what is read from them besides the mistakes that tests/config/reports has."""

from __future__ import annotations

import pytest

from hostmesh.config.tls import CertificateFiles, ClientAuthConfig, ClientTlsConfig, ServerTlsConfig


def test_a_server_has_its_first_certificate_and_then_the_others() -> None:
    """``certPath`` is the default one, ``certificates`` are for other names."""
    other = CertificateFiles(cert_path="/d", key_path="/l")
    tls = ServerTlsConfig(cert_path="/c", key_path="/k", intermediate_certs_path="/i", certificates=(other,))

    assert tls.check() == []
    assert tls.own == (CertificateFiles(cert_path="/c", key_path="/k", intermediate_certs_path="/i"), other)


def test_the_cas_of_endpoints_come_from_either_key() -> None:
    """One bundle, or Linkerd 1's older list; the system's if neither is given."""
    assert ClientTlsConfig(common_name="a", trust_certs_bundle="/b").authorities == ("/b",)
    assert ClientTlsConfig(common_name="a", trust_certs=("/b", "/c")).authorities == ("/b", "/c")
    assert ClientTlsConfig(common_name="a").authorities == ()


def allowing(name: str) -> ServerTlsConfig:
    """A server that lets this caller in."""
    return ServerTlsConfig(
        cert_path="/c", key_path="/k", ca_cert_path="/ca", require_client_auth=True, allowed_callers=(name,)
    )


@pytest.mark.parametrize(
    "name", ["web.mesh", "*.mesh", "spiffe://mesh/web", "spiffe://mesh/*", "spiffe://mesh/ns/a/*"]
)
def test_callers_are_named_by_dns_or_spiffe(name: str) -> None:
    """With a star where a whole label or all later segments may be anything."""
    assert allowing(name).check() == []


@pytest.mark.parametrize(
    "tls",
    [
        ClientTlsConfig(),
        ClientTlsConfig(common_name=""),
        ClientTlsConfig(trust_certs_bundle="/ca"),
        ClientTlsConfig(common_name_from_subject=True),
        ClientTlsConfig(disable_validation=True, client_auth=ClientAuthConfig(cert_path="/c", key_path="/k")),
        ClientTlsConfig(disable_validation=True, crl_path="/crl"),
        ClientTlsConfig(common_name="a", crl_path="/crl"),
        ClientTlsConfig(common_name="spiffe://mesh/a", common_name_from_subject=True),
        ServerTlsConfig(cert_path="/c", key_path="/k", require_client_auth=True),
        ServerTlsConfig(cert_path="/c", key_path="/k", crl_path="/crl"),
        ServerTlsConfig(cert_path="/c", key_path="/k", ca_cert_path="/ca", allowed_callers=("web.mesh",)),
        allowing("*"),
        allowing("a.*.mesh"),
        allowing("spiffe://mesh"),
        allowing("spiffe://mesh/*/web"),
        allowing("https://mesh/web"),
    ],
)
def test_x1_half_a_verification_is_a_mistake(tls: ClientTlsConfig | ServerTlsConfig) -> None:
    """Whatever would verify less than its keys seem to say does not start."""
    assert tls.check() != []


def test_x1_no_validation_must_be_said() -> None:
    """``disableValidation: true`` is the only way, and ``enabled: false`` is plain text."""
    assert ClientTlsConfig(disable_validation=True).check() == []
    assert ClientTlsConfig(disable_validation=True, common_name="sni.mesh").check() == []
    assert ClientTlsConfig(enabled=False).check() == []
