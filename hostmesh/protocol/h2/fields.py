"""Proof of decoded header lists, and what each field means to a proxy.

An engine proves every list before its listener sees it (F15-F19 of the threat model): what is refused here is either
malformed as HTTP/2, which ends the stream (:class:`Malformed`), or well-formed and still not to be forwarded, which is
answered (plain :class:`BadMessage`).
"""

from __future__ import annotations

import re
from itertools import permutations
from typing import TYPE_CHECKING, Final

from hostmesh.base.errors import Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_fields import HOP_BY_HOP, SPECIAL_NAMES, is_authority, is_length
from hostmesh.protocol.h1_message import BadMessage, bad_request, excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hostmesh.protocol.h2.engine import Pairs

# Kinds of fields: what the writers of heads do with them. Everything is of a kind, most of KEEP.
KEEP: Final = 0
LOOK: Final = 1
"""Read by the proxy and forwarded: via, forwarded, max-forwards."""
LENGTH: Final = 2
HOST: Final = 3
EXPECT: Final = 4
TE: Final = 5
HOP: Final = 6
"""Ends at this hop."""
CONTEXT: Final = 7
"""``l5d-*`` that hostmesh reads and writes anew."""
L5D: Final = 8
"""Other ``l5d-*``, dtab-local: passes inside the mesh, goes at its edge."""
TWIN: Final = 9
"""A name with an underscore that is nothing special: goes at the edge (T6)."""
XFCC: Final = 10
"""x-forwarded-client-cert: never taken from a request."""
COOKIE: Final = 11
"""One crumb of a cookie (RFC 9113 8.2.3)."""

MAX_KNOWN_NAMES: Final = 4096
"""Names whose kind is remembered. Callers choose names, so the memory must end; real ones are a few hundred."""

MAX_KNOWN_NAME: Final = 64
"""Bytes of the longest name that is remembered as proved."""

_CONTEXT_NAMES: Final = frozenset({b"l5d-dtab", b"l5d-sample", b"l5d-reqid"})
_CONTEXT_PREFIXES: Final = (b"l5d-ctx-", b"l5d-dst-")
_LOOK: Final = frozenset({b"via", b"forwarded", b"max-forwards"})
_SPECIAL: Final = frozenset(name.encode() for name in SPECIAL_NAMES)
_kinds: Final[dict[bytes, int]] = {}


def kind_of(name: bytes) -> int:
    """The kind of a field with this lower-case name. An underscore twin is of the kind of the field itself, so that
    no endpoint behind CGI rules reads what was cut; ``host``, ``content-length`` and ``cookie`` twins are HOP.
    """
    kind = _kinds.get(name)
    if kind is None:
        kind = _classify(name)
        if len(_kinds) >= MAX_KNOWN_NAMES:
            # Somebody invents names; the real ones are back after one look each.
            _kinds.clear()
        _kinds[name] = kind
    return kind


def _classify(name: bytes) -> int:
    plain = name.replace(b"_", b"-")
    twin = plain is not name and plain != name
    if plain in (b"host", b"content-length"):
        if twin:
            return HOP
        return HOST if plain == b"host" else LENGTH
    if plain == b"te":
        return TE
    if plain in HOP_BY_HOP:
        return HOP
    if plain == b"expect":
        return EXPECT
    if plain == b"x-forwarded-client-cert":
        return XFCC
    if plain in _CONTEXT_NAMES or plain.startswith(_CONTEXT_PREFIXES):
        return CONTEXT
    if plain.startswith(b"l5d-") or plain == b"dtab-local":
        return L5D
    if twin:
        return TWIN
    if plain in _LOOK:
        return LOOK
    return COOKIE if plain == b"cookie" else KEEP


def is_special(name: bytes) -> bool:
    """Whether a head lists a field with this lower-case name in ``special``, as HTTP/1 heads do."""
    plain = name.replace(b"_", b"-")
    return plain in _SPECIAL or plain.startswith((b"l5d-", b"proxy-"))


class Malformed(BadMessage):
    """A message that RFC 9113 8.1.1 calls malformed: its stream is reset with PROTOCOL_ERROR."""


def malformed(message: str, reason: Reason = Reason.BAD_REQUEST) -> Malformed:
    return Malformed(reason, message, status=400, side=Side.CALLER)


def malformed_response(message: str, reason: Reason = Reason.BAD_RESPONSE) -> Malformed:
    return Malformed(reason, message, status=502, side=Side.CALLEE)


# The bytes of values are looked at all together: translate() gives back the same object where it changes nothing, and
# takes a third of the time of a search. Names are few, so proved ones are remembered, unless they mean something to
# the framing; authorities, too.
def _only(legal: Iterable[int]) -> bytes:
    """A table for bytes.translate that changes every other byte."""
    kept = frozenset(legal)
    return bytes([byte if byte in kept else byte ^ 1 for byte in range(256)])


_VALUE_BYTES: Final = _only((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
_PATH_BYTES: Final = _only((0x21, 0x22, *range(0x24, 0x7F)))
_BLANKS: Final = (b"\t"[0], b" "[0])
_SLASH: Final = b"/"[0]
_plain_names: Final[set[bytes]] = set()
_proved_authorities: Final[set[bytes]] = set()
_is_name: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++").fullmatch
_bad_one_value: Final = re.compile(rb"[^\t -~\x80-\xff]|\A[\t ]|[\t ]\Z").search
_is_method: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++").fullmatch
_is_status: Final = re.compile(rb"[1-9][0-9][0-9]").fullmatch
# Connection-specific fields (RFC 9113 8.2.2). `te: trailers` is the one exception, looked at on its own.
_FORBIDDEN: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_FOUR: Final = (b":method", b":scheme", b":authority", b":path")
# Where the four are, for each order in which clients send them.
_ORDERS: Final = {order: tuple(order.index(name) for name in _FOUR) for order in permutations(_FOUR)}
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol", b":status"})
_METHODS: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH"})
_SCHEMES: Final = frozenset({b"http", b"https"})
_ONCE: Final = frozenset({b"content-length", b"host", b"te", b"connection", *_FORBIDDEN})


def prove_fields(pairs: Pairs, start: int, request: bool) -> tuple[int, bytes | None]:
    """Prove the regular fields ``pairs[start:]`` of a head or of trailers.

    Returns (declared content length or -1, Host value or None). Raises Malformed, or BadMessage for two Host fields.
    """
    fields = pairs[start:] if start else pairs
    if not fields:
        return -1, None
    names = [pair[0] for pair in fields]
    plain = _plain_names.issuperset(names)
    if not (plain or _are_names(names)) or not _are_values([pair[1] for pair in fields]):
        raise _bad_field(fields, request)
    if plain or _ONCE.isdisjoint(names):
        return -1, None
    return _framing(fields, request)


def _are_values(values: Sequence[bytes]) -> bool:
    for value in values:
        if value and (value[0] in _BLANKS or value[-1] in _BLANKS):
            return False
    joined = b"".join(values)
    return joined.translate(_VALUE_BYTES) == joined


def _is_path(value: bytes) -> bool:
    return len(value) > 0 and value[0] == _SLASH and value.translate(_PATH_BYTES) == value


def _are_names(names: list[bytes]) -> bool:
    for name in names:
        if name in _plain_names or name in _ONCE:
            continue
        if not _is_name(name):
            return False
        if len(name) <= MAX_KNOWN_NAME:
            if len(_plain_names) >= MAX_KNOWN_NAMES:
                _plain_names.clear()
            _plain_names.add(name)
    return True


def _is_authority(value: bytes) -> bool:
    if not is_authority(value):
        return False
    if len(value) <= MAX_KNOWN_NAME:
        if len(_proved_authorities) >= MAX_KNOWN_NAMES:
            _proved_authorities.clear()
        _proved_authorities.add(value)
    return True


def _framing(fields: Pairs, request: bool) -> tuple[int, bytes | None]:
    length = host = None
    for name, value in fields:
        if name not in _ONCE:
            continue
        if name in _FORBIDDEN:
            raise _fault(f"the connection-specific field {name.decode()}", request)
        if name == b"te":
            if value.lower() != b"trailers":
                raise _fault(f"te {excerpt(value)}: only trailers is allowed", request)
        elif name == b"host":
            if host is not None and request:
                raise bad_request(f"two Host headers: {excerpt(host)} and {excerpt(value)}")
            host = value
        else:
            if not is_length(value):
                raise _fault(
                    f"content-length {excerpt(value)} is not a decimal number of at most 19 digits",
                    request,
                    Reason.BAD_FRAMING,
                )
            # Compared as text, as in HTTP/1: 05 and 5 are two values to others.
            if length is not None and value != length:
                raise _fault(
                    f"conflicting content-length fields: {excerpt(length)} and {excerpt(value)}",
                    request,
                    Reason.BAD_FRAMING,
                )
            length = value
    return (-1 if length is None else int(length)), host


def _fault(what: str, request: bool, reason: Reason | None = None) -> Malformed:
    if request:
        return malformed(f"{what} in an HTTP/2 request", reason or Reason.BAD_REQUEST)
    return malformed_response(f"{what} in an HTTP/2 response", reason or Reason.BAD_RESPONSE)


def _bad_field(fields: Pairs, request: bool) -> Malformed:
    for name, value in fields:
        if name[:1] == b":":
            return _fault(
                f"the pseudo field {excerpt(name)}, unknown, after a regular one or out of place", request
            )
        if not _is_name(name):
            return _fault(f"a field name that is not a lower-case token: {excerpt(name)}", request)
        if _bad_one_value(value) is not None:
            return _fault(f"illegal bytes in the value of {name.decode()}: {excerpt(value)}", request)
    return _fault("illegal fields", request)


def _is_usual_request(pairs: Pairs) -> bool:
    """Whether the rest of the proof would find nothing and say nothing: four pseudo fields, well-known or proved
    before, and regular fields without meaning to the framing, but for the ``te: trailers`` of gRPC.
    """
    names = [pair[0] for pair in pairs]
    values = [pair[1] for pair in pairs]
    places = _ORDERS.get((names[0], names[1], names[2], names[3]))
    if places is None:
        return False
    method, scheme, authority, path = places
    if not (
        values[method] in _METHODS
        and values[scheme] in _SCHEMES
        and values[authority] in _proved_authorities
        and _is_path(values[path])
    ):
        return False
    del names[:4]
    del values[:4]
    if not _plain_names.issuperset(names):
        if b"te" not in names:
            return False
        at = names.index(b"te")
        del names[at]
        if values[at] != b"trailers" or not _plain_names.issuperset(names):
            return False
    return _are_values(values)


def prove_request(pairs: Pairs, end: bool, connect_protocol: bool = False) -> int:
    """Prove a request head. Returns the bytes its body must have, -1 if it does not say.

    ``connect_protocol``: extended CONNECT was announced. Raises Malformed, or BadMessage (answered with 400) where
    Host and :authority leave a choice (F18).
    """
    if len(pairs) > len(_FOUR) and _is_usual_request(pairs):
        return 0 if end else -1
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for name, value in pairs:
        if name not in _PSEUDO:
            break
        pseudo[name] = value
        count += 1
    if len(pseudo) != count:
        raise malformed("a pseudo field twice in an HTTP/2 request")
    get = pseudo.get
    method = get(b":method")
    if method is None or (method not in _METHODS and not _is_method(method)):
        raise malformed(f"an HTTP/2 request with :method {excerpt(method or b'')}")
    authority = get(b":authority")
    if authority is not None and authority not in _proved_authorities and not _is_authority(authority):
        raise malformed(
            f":authority {excerpt(authority)} is not a host name or address with an optional port"
        )
    scheme = get(b":scheme")
    path = get(b":path")
    protocol = get(b":protocol")
    if b":status" in pseudo:
        raise malformed("the pseudo field :status in an HTTP/2 request")
    if method == b"CONNECT" and protocol is None:
        if scheme is not None or path is not None or authority is None:
            raise malformed("CONNECT with :scheme or :path, or without :authority")
    else:
        _prove_target(method, scheme, path)
        if protocol is not None and not (connect_protocol and method == b"CONNECT" and _is_method(protocol)):
            raise malformed("the pseudo field :protocol, and this listener has not announced it")
    length, host = prove_fields(pairs, count, True)
    if host is not None:
        if not is_authority(host):
            raise malformed(f"Host {excerpt(host)} is not a host name or address with an optional port")
        if authority is not None and host != authority:
            raise bad_request(f"Host {excerpt(host)} differs from :authority {excerpt(authority)}")
    elif authority is None:
        raise malformed("neither :authority nor Host in an HTTP/2 request")
    if end and length > 0:
        raise malformed(f"content-length {length} and no body", Reason.BAD_FRAMING)
    return 0 if end else length


def _prove_target(method: bytes, scheme: bytes | None, path: bytes | None) -> None:
    if scheme not in _SCHEMES and (scheme is None or scheme.lower() not in _SCHEMES):
        raise malformed(f":scheme {excerpt(scheme or b'')} in an HTTP/2 request, expected http or https")
    if path is None:
        raise malformed("no :path in an HTTP/2 request")
    if not _is_path(path) and not (path == b"*" and method == b"OPTIONS"):
        raise malformed(f":path {excerpt(path)} is not a path")


def prove_response(pairs: Pairs, end: bool, method: bytes) -> tuple[int, int]:
    """Prove a response head, the answer to a request with ``method``.

    Returns (status, bytes its body must have or -1). Raises Malformed.
    """
    if not pairs or pairs[0][0] != b":status":
        raise malformed_response("an HTTP/2 response that does not begin with :status")
    status_text = pairs[0][1]
    if not _is_status(status_text):
        raise malformed_response(f":status {excerpt(status_text)}")
    status = int(status_text)
    length, _host = prove_fields(pairs, 1, False)
    if status < 200:
        if end:
            raise malformed_response(f"an informational response {status} that ends the stream")
        if status == 101:
            raise malformed_response("101 Switching Protocols in HTTP/2")
        return status, -1
    if method == b"HEAD" or status in (204, 304):
        # Its content-length tells of a body that is not there (RFC 9110 8.6); one that comes anyway is too much.
        return status, 0
    if end and length > 0:
        raise malformed_response(f"content-length {length} and no body", Reason.BAD_FRAMING)
    return status, 0 if end else length


def prove_trailers(pairs: Pairs, request: bool) -> None:
    """Prove trailers. Raises Malformed."""
    prove_fields(pairs, 0, request)
