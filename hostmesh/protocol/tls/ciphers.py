"""Names of cipher suites: OpenSSL's own, and those of the standards, which Java and so Linkerd 1 use."""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL

UNSAFE: Final = ("NULL", "ADH-", "AECDH-", "PSK", "SRP")
"""Parts of the names of suites that do not encrypt, do not authenticate, or not by certificates. Nobody gets these
by a group like ALL, which has them."""


def openssl_ciphers(name: str) -> tuple[str, ...]:
    """OpenSSL's names of what ``name`` stands for, the preferred first; empty if OpenSSL has nothing for it.

    ``ECDHE-RSA-AES128-GCM-SHA256``, the same as ``TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256``, a suite of TLS 1.3, or a
    group in OpenSSL's language (``HIGH:!SHA1``). What is broken (RC4, 3DES, export) OpenSSL no longer has.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    try:
        if name.startswith("TLS_") and "_WITH_" not in name:
            context.set_tls13_ciphersuites(name.encode())
            return (name,)
        context.set_cipher_list(name.encode())
    except SSL.Error:
        return ()
    found = SSL.Connection(context).get_cipher_list()
    return tuple(each for each in found if not each.startswith("TLS_") and not any(u in each for u in UNSAFE))
