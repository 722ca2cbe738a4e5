"""Whether a server's first flight resumes a session: pyOpenSSL does not say."""

from __future__ import annotations

from typing import Final

_HANDSHAKE: Final = 22
_SERVER_HELLO: Final = 2
_CERTIFICATE: Final = 11
_PRE_SHARED_KEY: Final = 41
_SUPPORTED_VERSIONS: Final = 43


def resumes(flight: bytes) -> bool:
    """Whether ``flight``, which a server sends in answer to a ClientHello, goes on with an earlier session.

    In TLS 1.3 the ServerHello says so with pre_shared_key (RFC 8446 section 4.2.11). In TLS 1.2 no Certificate follows
    it (RFC 5246 section 7.3). Bytes that are neither are no resumption.
    """
    messages = _plain_messages(flight)
    if len(messages) < 5 or messages[0] != _SERVER_HELLO:
        return False
    end = 4 + int.from_bytes(messages[1:4], "big")
    extensions = _extensions(messages[4:end])
    if _SUPPORTED_VERSIONS in extensions:
        return _PRE_SHARED_KEY in extensions
    following = messages[end : end + 1]
    return following != bytes((_CERTIFICATE,))


def _plain_messages(flight: bytes) -> bytes:
    """The handshake messages in front of the first record that is none, or is encrypted."""
    at, found = 0, b""
    while at + 5 <= len(flight) and flight[at] == _HANDSHAKE:
        size = flight[at + 3] << 8 | flight[at + 4]
        found += flight[at + 5 : at + 5 + size]
        at += 5 + size
    return found


def _extensions(hello: bytes) -> set[int]:
    # legacy_version, random, legacy_session_id, cipher_suite, legacy_compression_method, extensions
    at = 34 + 1 + hello[34] + 3 if len(hello) > 34 else len(hello)
    at += 2
    found = set()
    while at + 4 <= len(hello):
        found.add(hello[at] << 8 | hello[at + 1])
        at += 4 + (hello[at + 2] << 8 | hello[at + 3])
    return found
