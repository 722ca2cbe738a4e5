"""Contexts of hostmesh's own for tests, and two codecs that shake hands without a network."""

from __future__ import annotations

from typing import Any

from hostmesh.protocol.tls.codec import TlsCodec
from hostmesh.protocol.tls.contexts import ClientContext, ServerContexts
from hostmesh.protocol.tls.credentials import KeyPair, Pem, Trust
from tests.tls_files import Issued, TlsFiles


def key_pair(issued: Issued) -> KeyPair:
    """What :class:`KeyPair` reads of the files of one certificate."""
    intermediates = issued.intermediates
    return KeyPair.read(
        Pem(str(issued.cert), issued.cert.read_bytes()),
        Pem(str(issued.key), issued.key.read_bytes()),
        None if intermediates is None else Pem(str(intermediates), intermediates.read_bytes()),
    )


def trust(files: TlsFiles, *, crl: bool = False) -> Trust:
    """The CA of the mesh, and its revocation list."""
    crls = [Pem(str(files.crl), files.crl.read_bytes())] if crl else []
    return Trust.read([Pem(str(files.ca), files.ca.read_bytes())], crls)


def server(files: TlsFiles, *issued: Issued, callers: bool = False, **options: Any) -> ServerContexts:
    """A server with these certificates, ``web`` if none is given; with ``callers`` it demands theirs."""
    pairs = [key_pair(each) for each in issued or [files.web]]
    return ServerContexts(pairs, trust(files) if callers else None, require_client_auth=callers, **options)


def client(files: TlsFiles, issued: Issued | None = None, **options: Any) -> ClientContext:
    """A client that trusts the mesh and shows ``issued`` if there is one."""
    return ClientContext(trust(files), None if issued is None else key_pair(issued), **options)


def shake(server: TlsCodec, client: TlsCodec, step: int = 1 << 20) -> None:
    """Let both agree, with flights cut into pieces of ``step`` bytes. Raises what either of them raises."""
    to_server, to_client = client.handshake(b""), b""
    while to_server or to_client:
        answer = b""
        for at in range(0, len(to_server), step):
            answer += take(server, to_server[at : at + step])
        to_client += answer
        to_server = b""
        for at in range(0, len(to_client), step):
            to_server += take(client, to_client[at : at + step])
        to_client = b""
    assert server.established
    assert client.established
    # Tickets of TLS 1.3 go with the first data.
    assert client.decrypt(server.encrypt(b"hello")) == b"hello"


def take(codec: TlsCodec, data: bytes) -> bytes:
    """Give ``data`` to a codec in whatever state it is, and return what it answers; it must carry no plaintext."""
    if not codec.established:
        return codec.handshake(data)
    assert codec.decrypt(data) == b""
    reply, codec.reply = codec.reply, b""
    return reply
