"""Extended CONNECT (RFC 8441) and the Upgrade of HTTP/1.1, each said in the words of the other.

Within hostmesh there is one form: a request with the method GET whose ``upgrade`` names the protocol, whatever it came
as, so that identifiers, policies and endpoints see the same request from both kinds of callers.

``Sec-WebSocket-Key`` and ``-Accept`` prove the HTTP/1.1 handshake, and in HTTP/2 nobody looks at them (RFC 8441 section
5), so they are made here for a peer that needs them and has none. Where somebody did send a key it passes, and is
answered: Envoy, for one, makes an Upgrade of an extended CONNECT and the other way round without touching either field.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING

from hostmesh.protocol.h1_message import UNTIL_CLOSE, ResponseHead, bad_response
from hostmesh.protocol.h1_write import response_head
from hostmesh.protocol.h2.heads import request_pairs, response_pairs
from hostmesh.protocol.h2.message import VERSION, H2RequestHead
from hostmesh.protocol.upgrade import WEBSOCKET, protocols, upgrade_lines

if TYPE_CHECKING:
    from random import Random

    from hostmesh.protocol.h1_message import RequestHead
    from hostmesh.protocol.h2.engine import Pair

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ACCEPT = b"sec-websocket-accept"
_KEY = b"sec-websocket-key"
_SWITCHED = (b":status", b"200")
_OF_BODIES = frozenset({b"content-length", b"expect"})
"""A tunnel is no body: to an HTTP/1.1 endpoint a length would make one of its first bytes (F15), and in HTTP/2 even
``Content-Length: 0`` would forbid the rest (F16)."""


def new_key(rng: Random) -> bytes:
    """A ``Sec-WebSocket-Key``: 16 bytes that nobody else sends at the moment (RFC 6455 4.1)."""
    return b64encode(rng.randbytes(16))


def accept_of(key: bytes) -> bytes:
    """The ``Sec-WebSocket-Accept`` that answers a key (RFC 6455 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


# -- requests ---------------------------------------------------------------------------------------------------------


def as_upgrade(head: H2RequestHead) -> H2RequestHead:
    """An extended CONNECT as the request for an upgrade that it is: GET, without a body."""
    pseudo = [(b":method", b"GET"), (b":path", head.target), (b":scheme", head.scheme)]
    if head.host:
        pseudo.append((b":authority", head.host))
    regular = [pair for pair in head.pairs if pair[0] not in _OF_BODIES]
    asked = H2RequestHead([*pseudo, *regular], True)
    asked.upgrade = head.protocol
    return asked


def as_connect(head: H2RequestHead) -> H2RequestHead:
    """A plain CONNECT (RFC 9113 section 8.5) as in HTTP/1.1: its target is where it leads, and it has no body."""
    pseudo = [(b":method", b"CONNECT"), (b":path", head.host), (b":authority", head.host)]
    return H2RequestHead([*pseudo, *(pair for pair in head.pairs if pair[0] not in _OF_BODIES)], True)


def connect_pairs(
    head: RequestHead,
    upgrade: bytes,
    extra: bytes,
    *,
    target: bytes | None,
    host: bytes | None,
    clear: bool,
    drop: frozenset[bytes],
) -> list[Pair]:
    """The header list that asks an HTTP/2 endpoint for the first protocol in ``upgrade``; the rest as for
    :func:`heads.request_pairs`."""
    pairs = request_pairs(head, extra, target=target, host=host, clear=clear, drop=drop | _OF_BODIES)
    # :method comes first; pseudo fields before all others.
    return [(b":method", b"CONNECT"), (b":protocol", protocols(upgrade)[0]), *pairs[1:]]


def key_lines(head: RequestHead, upgrade: bytes, rng: Random) -> tuple[bytes, bytes]:
    """For an HTTP/1.1 endpoint, what a caller in HTTP/2 does not send: (key, the lines that are missing).

    Both are empty if the head came as HTTP/1.1 or with a key, or no WebSocket is asked for.
    """
    if head.version != VERSION or WEBSOCKET not in [each.lower() for each in protocols(upgrade)]:
        return b"", b""
    if head.get(_KEY) is not None:
        return b"", b""
    key = new_key(rng)
    lines = b"Sec-WebSocket-Key: %b\r\n" % key
    if head.get(b"sec-websocket-version") is None:
        lines += b"Sec-WebSocket-Version: 13\r\n"
    return key, lines


# -- answers ----------------------------------------------------------------------------------------------------------


def check_accept(head: ResponseHead, key: bytes) -> None:
    """Whether a 101 answers the key that we made. Raises BadMessage (502)."""
    if head.get_all(_ACCEPT) != [accept_of(key)]:
        raise bad_response("101 Switching Protocols with a Sec-WebSocket-Accept that does not answer the key")


def switch_lines(
    asked: RequestHead, head: ResponseHead, protocol: bytes, extra: bytes, *, clear: bool
) -> bytes:
    """The 101 for a caller in HTTP/1.1 that asked with ``asked``; ``head`` is what the endpoint said, of either
    version, and ``extra`` our own lines."""
    extra = upgrade_lines(protocol) + extra
    if head.version != VERSION:
        return response_head(head, extra, clear=clear)
    key = _key_of(asked, protocol)
    if key is not None:
        extra = b"Sec-WebSocket-Accept: %b\r\n" % accept_of(key) + extra
    lines = response_head(head, b"", framing=UNTIL_CLOSE, clear=clear).split(b"\r\n")[1:-2]
    kept = [b"%b\r\n" % line for line in lines if line.partition(b":")[0].lower() != _ACCEPT]
    return b"HTTP/1.1 101 Switching Protocols\r\n%b%b\r\n" % (b"".join(kept), extra)


def switch_pairs(asked: RequestHead, head: ResponseHead, protocol: bytes, *, clear: bool) -> list[Pair]:
    """The 200 for a caller in HTTP/2 that asked with ``asked``; ``head`` is what the endpoint said, in either."""
    pairs = response_pairs(head, framing=UNTIL_CLOSE, clear=clear)
    switched = [_SWITCHED, *(pair for pair in pairs[1:] if pair[0] != _ACCEPT)]
    key = _key_of(asked, protocol)
    if key is not None:
        said = head.get(_ACCEPT) if head.version != VERSION else None
        switched.append((_ACCEPT, accept_of(key) if said is None else said))
    return switched


def _key_of(asked: RequestHead, protocol: bytes) -> bytes | None:
    return asked.get(_KEY) if protocol.lower() == WEBSOCKET else None
