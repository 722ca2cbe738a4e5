"""What a proved HTTP/1 head means: framing, routing host, connection options.

The lane (:mod:`h1_head`) and the judge (:mod:`h1_judge`) prove that a head is well formed, each in its own
way; both then call :func:`build_request` or :func:`build_response`, so they cannot differ in what they make
of it.
"""

from __future__ import annotations

from typing import Final

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_fields import HOP_BY_HOP, has_underscore_name, is_authority, is_length, is_token
from hostmesh.protocol.h1_message import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    Special,
    bad_request,
    bad_response,
    excerpt,
)

# What a Connection field can never make us drop (T5): framing, routing, credentials and what a proxy vouches
# for.
_NEVER_NOMINATED: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"expect",
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"via",
        b"forwarded",
        b"max-forwards",
        b"dtab-local",
        b"cache-control",
        b"date",
        b"b3",
        b"traceparent",
        b"tracestate",
        b"x-real-ip",
    }
)
_NEVER_NOMINATED_PREFIXES: Final = (b"l5d-", b"x-forwarded-", b"x-b3-", b"proxy-")
# To a CGI endpoint these are the field itself (T6), so they go, and the field is written anew.
_FRAME_TWINS: Final = frozenset({b"content_length"})
_FRAME: Final = frozenset({b"host", b"content-length"})
# Special fields that may stay where they are in a forwarded block; any other one makes the head not plain.
_STAYS: Final = frozenset({b"via", b"forwarded", b"max-forwards"})


class Options:
    """What the Connection fields of one head say. Never changed: :meth:`plus` makes another."""

    __slots__ = ("close", "keep_alive", "nominated", "upgrade")

    def __init__(self, names: frozenset[bytes]) -> None:
        self.close = b"close" in names
        self.keep_alive = b"keep-alive" in names
        self.upgrade = b"upgrade" in names
        self.nominated = frozenset(filter(_may_be_nominated, names))

    def plus(self, other: Options) -> Options:
        both = Options(self.nominated | other.nominated)
        both.close = self.close or other.close
        both.keep_alive = self.keep_alive or other.keep_alive
        both.upgrade = self.upgrade or other.upgrade
        return both


def _may_be_nominated(name: bytes) -> bool:
    return (
        name != b"close"
        and name not in HOP_BY_HOP
        and name not in _NEVER_NOMINATED
        and not name.startswith(_NEVER_NOMINATED_PREFIXES)
        and is_token(name) is not None
    )


def _read_options(value: bytes) -> Options:
    names = value.lower().split(b",")
    return Options(frozenset([name.strip(b" \t") for name in names]))


NO_OPTIONS: Final = Options(frozenset())
# The values that nearly every Connection field has; one with another value is read each time. Upgrade is not
# among them: it asks for more than keeping or closing.
COMMON_OPTIONS: Final = {
    value: _read_options(value) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close")
}


def _connection(value: bytes, before: Options | None) -> Options:
    options = COMMON_OPTIONS.get(value) or _read_options(value)
    return options if before is None else before.plus(options)


def _length_problem(value: bytes, previous: bytes | None) -> str | None:
    """What is wrong with a Content-Length that follows another one, or None."""
    if not is_length(value):
        return f"Content-Length {excerpt(value)} is not a decimal number of at most 19 digits"
    # Compared as text: 05 and 5 are one number to us and two values to others (h11 among them).
    if previous is not None and previous != value:
        return f"conflicting Content-Length headers: {excerpt(previous)} and {excerpt(value)}"
    return None


def build_request(
    method: bytes,
    target: bytes,
    version: int,
    block: bytes,
    found: Special,
    end: int,
    authority: bytes | None = None,
) -> RequestHead:
    """Give a proved request head its meaning.

    ``found`` are the special fields as :func:`find_special` returns them; ``authority`` is that of an
    absolute-form target, which then wins over Host (F18). Raises BadMessage for framing, host or expectation
    that we refuse.
    """
    host = declared = coding = upgrade = None
    options: Options | None = None
    length = 0
    expect_continue = False
    plain = canonical = True
    special = []
    for raw, value in found:
        name = raw.lower()
        if value[-1:] in b" \t":
            stripped = value.rstrip(b" \t")
            canonical = canonical and stripped == value
            value = stripped
        special.append((name, value))
        if name == b"host":
            if host is not None:
                raise bad_request(f"two Host headers: {excerpt(host)} and {excerpt(value)}")
            if not is_authority(value):
                raise bad_request(
                    f"Host {excerpt(value)} is not a host name or address with an optional port"
                )
            host = value
        elif name == b"content-length":
            problem = _length_problem(value, declared)
            if problem is not None:
                raise bad_request(problem, Reason.BAD_FRAMING)
            if declared is not None or (value[0] == 0x30 and value != b"0"):
                canonical = False
            declared = value
        elif name in _STAYS:
            pass
        else:
            plain = False
            if name == b"connection":
                options = _connection(value, options)
            elif name == b"transfer-encoding":
                if coding is not None:
                    raise bad_request("two Transfer-Encoding headers", Reason.BAD_FRAMING)
                coding = value.lower()
            elif name in _FRAME_TWINS:
                canonical = False
            elif name == b"upgrade":
                upgrade = value if upgrade is None else upgrade + b", " + value
            elif name == b"expect":
                if value.lower() == b"100-continue":
                    expect_continue = version == 11
                elif version == 11:
                    raise bad_request(f"Expect {excerpt(value)} is not 100-continue", Reason.UNSUPPORTED, 417)
    if coding is not None:
        if declared is not None:
            raise bad_request("both Content-Length and Transfer-Encoding", Reason.BAD_FRAMING)
        if version == 10:
            raise bad_request("Transfer-Encoding in an HTTP/1.0 request", Reason.BAD_FRAMING)
        if coding != b"chunked":
            raise bad_request(
                f"Transfer-Encoding {excerpt(coding)}: only chunked is supported", Reason.UNSUPPORTED, 501
            )
        length = CHUNKED
    elif declared is not None:
        length = int(declared)
    if authority is not None:
        if host != authority:
            canonical = False
        host = authority
    elif host is None:
        if version == 11:
            raise bad_request("no Host header in an HTTP/1.1 request")
        host = b""
        canonical = False
    if options is None:
        keep_alive = version == 11
        nominated: frozenset[bytes] = frozenset()
        upgrade = None
    else:
        keep_alive = not options.close and (version == 11 or options.keep_alive)
        nominated = options.nominated
        if not options.upgrade or version == 10:
            upgrade = None
    return RequestHead(
        method,
        target,
        host,
        version,
        block,
        special,
        end,
        length,
        keep_alive,
        plain and canonical,
        canonical,
        expect_continue,
        upgrade,
        nominated,
    )


def without_context(head: RequestHead) -> RequestHead:
    """The head as a server with ``clearContext`` sees it: no ``l5d-*``, no ``dtab-local``, no name with
    ``_``.

    To be called before anything reads the head (T1, T6); the head itself when there is nothing to hide.
    """
    if head.plain and not has_underscore_name(head.block):
        return head
    special = [(name, value) for name, value in head.special if not is_context_name(name)]
    lines = head.block.split(b"\r\n")
    kept = [line for line in lines if not is_context_name(line.partition(b":")[0].lower())]
    if len(kept) == len(lines):
        return head
    return RequestHead(
        head.method,
        head.target,
        head.host,
        head.version,
        b"\r\n".join(kept),
        special,
        head.end,
        head.content_length,
        head.keep_alive,
        head.canonical and all(name in _STAYS or name in _FRAME for name, _value in special),
        head.canonical,
        head.expect_continue,
        head.upgrade,
        head.nominated,
    )


def is_context_name(name: bytes) -> bool:
    """Whether a lower-case field name is one that an untrusted caller may not use."""
    return name.startswith(b"l5d-") or name == b"dtab-local" or b"_" in name


def build_response(
    status: int,
    reason: bytes,
    version: int,
    block: bytes,
    found: Special,
    end: int,
    method: bytes,
    upgrade: bool = False,
) -> ResponseHead:
    """Give a proved response head its meaning; ``method`` is that of the request it answers."""
    declared = coding = None
    options: Options | None = None
    length = 0
    plain = canonical = True
    special = []
    for raw, value in found:
        name = raw.lower()
        if value[-1:] in b" \t":
            stripped = value.rstrip(b" \t")
            canonical = canonical and stripped == value
            value = stripped
        special.append((name, value))
        if name == b"content-length":
            problem = _length_problem(value, declared)
            if problem is not None:
                raise bad_response(problem, Reason.BAD_FRAMING)
            if declared is not None or (value[0] == 0x30 and value != b"0"):
                canonical = False
            declared = value
        elif name in _STAYS:
            pass
        else:
            plain = False
            if name == b"connection":
                options = _connection(value, options)
            elif name == b"transfer-encoding":
                if coding is not None:
                    raise bad_response("two Transfer-Encoding headers in the response", Reason.BAD_FRAMING)
                coding = value.lower()
            elif name in _FRAME_TWINS:
                canonical = False
    if coding is not None:
        if declared is not None:
            raise bad_response(
                "both Content-Length and Transfer-Encoding in the response", Reason.BAD_FRAMING
            )
        if version == 10:
            raise bad_response("Transfer-Encoding in an HTTP/1.0 response", Reason.BAD_FRAMING)
        if coding != b"chunked":
            raise bad_response(
                f"Transfer-Encoding {excerpt(coding)} in the response: only chunked is supported",
                Reason.BAD_FRAMING,
            )
        length = CHUNKED
    elif declared is not None:
        length = int(declared)
    if status < 200 or status == 204:
        if status == 101 and not upgrade:
            raise bad_response("101 Switching Protocols, and nobody asked for an upgrade")
        # RFC 9110 8.6: neither may declare a length. We drop the field rather than the response.
        if declared is not None:
            canonical = False
        length = 0
        has_body = False
    else:
        has_body = method != b"HEAD" and status != 304
        if has_body and declared is None and coding is None:
            length = UNTIL_CLOSE
        elif length == 0:
            has_body = False
    if options is None:
        keep_alive = version == 11
        nominated: frozenset[bytes] = frozenset()
    else:
        keep_alive = not options.close and (version == 11 or options.keep_alive)
        nominated = options.nominated
    if has_body and length == UNTIL_CLOSE:
        # Nothing in the block tells a caller who stays where this body ends.
        keep_alive = plain = False
    return ResponseHead(
        status,
        reason,
        version,
        block,
        special,
        end,
        length,
        has_body,
        keep_alive,
        plain and canonical,
        canonical,
        nominated,
    )
