"""Which fields a proxy must look at, and the patterns that find them in a proved block of field lines."""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"


def either_case(name: bytes) -> bytes:
    """A pattern for ``name`` in any case and with ``_`` for ``-``: explicit sets are faster than
    IGNORECASE.
    """
    out = bytearray()
    for char in name.decode():
        if char == "-":
            out += b"[-_]"
        elif char.isalpha():
            out += f"[{char.upper()}{char}]".encode()
        else:
            out += char.encode()
    return bytes(out)


# Underscore twins (`Content_Length`) match as well: a CGI endpoint cannot tell them from the real field (T6),
# so they # must not hide in a block that is forwarded as it came.
SPECIAL_NAMES: Final = (
    "host",
    "content-length",
    "connection",
    "transfer-encoding",
    "te",
    "keep-alive",
    "upgrade",
    "expect",
    "via",
    "forwarded",
    "x-forwarded-client-cert",
    "dtab-local",
    "max-forwards",
)
_names = [either_case(name.encode()) for name in SPECIAL_NAMES]
_names += [either_case(prefix) + TOKEN + rb"*+" for prefix in (b"proxy-", b"l5d-")]
# The first set lets the search leave most lines after one comparison; the newline is the literal that it
# jumps by.
SPECIAL_PATTERN: Final = (
    rb"\n(?=[HhCcTtKkPpUuEeVvFfXxLlDdMm])(" + rb"|".join(_names) + rb"):[ \t]*+([^\r\n]*+)"
)
find_special: Final = re.compile(SPECIAL_PATTERN).findall
find_fields: Final = re.compile(rb"([^:\r\n]++):[ \t]*+([^\r\n]*+)").findall
_underscore_later: Final = re.compile(rb"\n[^:_\r\n]*+_").search
_underscore_first: Final = re.compile(rb"[^:_\r\n]*+_").match

# RFC 3986 reg-name or IP-literal and a port. No userinfo, no comma (two Host fields that somebody merged),
# not empty.
is_authority: Final = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+;=%]++|\[[0-9A-Fa-f:.]++\])(?::[0-9]{0,5})?"
).fullmatch
# 1*DIGIT, and nothing that does not fit 63 bits anywhere else on the way (F3).
is_length: Final = re.compile(rb"[0-9]{1,19}").fullmatch
# The usual one: positive, no leading zero, nothing around it.
is_plain_length: Final = re.compile(rb"[1-9][0-9]{0,17}").fullmatch
is_token: Final = re.compile(TOKEN + rb"++").fullmatch

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)


def has_underscore_name(block: bytes) -> bool:
    """Whether the name of any field line contains ``_`` (T6)."""
    if b"_" not in block:
        return False
    return _underscore_first(block) is not None or _underscore_later(block) is not None
