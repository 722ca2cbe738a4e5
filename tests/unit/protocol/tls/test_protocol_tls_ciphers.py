"""Names of ciphers: two languages, one meaning, and nothing unsafe by either."""

from __future__ import annotations

import pytest

from hostmesh.protocol.tls.ciphers import UNSAFE, openssl_ciphers


@pytest.mark.parametrize(
    ("java", "openssl"),
    [
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", "ECDHE-RSA-AES256-SHA384"),
        ("TLS_DHE_RSA_WITH_AES_256_CBC_SHA", "DHE-RSA-AES256-SHA"),
        ("TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ],
)
def test_both_names_of_a_cipher_mean_it(java: str, openssl: str) -> None:
    """Linkerd 1's files name suites as Java does."""
    assert openssl_ciphers(java) == openssl_ciphers(openssl) == (openssl,)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "xyz",
        "TLS_XYZ",
        "TLS_RSA_WITH_RC4_128_SHA",
        "DES-CBC3-SHA",
        "eNULL",
        "aNULL",
        "ADH-AES128-SHA256",
        "!RC4",
    ],
)
def test_x2_what_is_unknown_broken_or_open_is_nothing(name: str) -> None:
    """Neither typing errors, nor ciphers that OpenSSL has dropped, nor those without encryption or certificates."""
    assert openssl_ciphers(name) == ()


@pytest.mark.parametrize("name", ["ALL", "ALL:@SECLEVEL=0", "HIGH:!SHA1", "DEFAULT"])
def test_x2_a_group_brings_nothing_unsafe(name: str) -> None:
    """OpenSSL's ALL has suites that do not authenticate anybody."""
    found = openssl_ciphers(name)

    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in found
    assert not any(part in each for each in found for part in UNSAFE)
