"""A caller of TLS 1.3 whose records a test makes itself: what OpenSSL never sends, sealed with the right keys."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from hostmesh.protocol.tls.codec import TlsCodec
from tests.tls_files import TlsFiles

HANDSHAKE, DATA = 22, 23
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
KEY_UPDATE_WITH_ANSWER = b"\x18\x00\x00\x01\x01"


class RecordMaker:
    """Seals records as a caller that has just finished its handshake (RFC 8446 section 5.2)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._take()

    def _take(self) -> None:
        self._aead = AESGCM(self._expand("key", 16))
        self._nonce = int.from_bytes(self._expand("iv", 12), "big")
        self._number = 0

    def _expand(self, label: str, length: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
        return HKDFExpand(SHA256(), length, info).derive(self._secret)

    def record(self, kind: int, content: bytes) -> bytes:
        """One record; empty ``content`` is allowed."""
        inner = content + bytes([kind])
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = (self._nonce ^ self._number).to_bytes(12, "big")
        self._number += 1
        return head + self._aead.encrypt(nonce, inner, head)

    def key_update(self, message: bytes = KEY_UPDATE) -> bytes:
        """The record that announces new keys; what follows is sealed with those."""
        sealed = self.record(HANDSHAKE, message)
        self._secret = self._expand("traffic upd", 32)
        self._take()
        return sealed


def maker_for(files: TlsFiles, server: TlsCodec, folder: Path) -> tuple[RecordMaker, bytes]:
    """Let a caller agree with ``server``, up to its last flight, which comes with the maker of what may follow it."""
    log = folder / "keys.log"
    context = files.client_context()
    context.keylog_filename = str(log)
    to_caller, from_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = context.wrap_bio(to_caller, from_caller, server_hostname="web.mesh")
    flight = b""
    while True:
        try:
            caller.do_handshake()
            break
        except ssl.SSLWantReadError:
            to_caller.write(server.handshake(from_caller.read()))
    flight = from_caller.read()
    cipher = caller.cipher()
    assert cipher is not None
    assert cipher[0] == "TLS_AES_128_GCM_SHA256"
    (secret,) = [
        line.split()[2] for line in log.read_text().splitlines() if "CLIENT_TRAFFIC_SECRET_0" in line
    ]
    return RecordMaker(bytes.fromhex(secret)), flight
