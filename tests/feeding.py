"""Feeds a codec the same bytes in three ways: whole, byte by byte, and with data of the next message behind
them.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from hostmesh.protocol.h1_body import request_body, response_body
from hostmesh.protocol.h1_head import BadMessage, RequestHead, ResponseHead, parse_request, parse_response
from hostmesh.protocol.limits import DEFAULT_LIMITS, Limits

NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"


@frozen
class Message:
    """One message as a codec read it."""

    head: RequestHead | ResponseHead
    body: bytes
    trailers: bytes
    rest: bytes
    """What came after the message."""
    complete: bool


def read(
    pieces: Iterable[bytes],
    method: bytes | None = None,
    limits: Limits = DEFAULT_LIMITS,
    eof: bool = False,
    upgrade: bool = False,
) -> Message | None:
    """One message from ``pieces``: a request, or the response to a request with ``method``; None if its head
    is not complete. Raises BadMessage.
    """
    buf = b""
    searched = 0
    head: RequestHead | ResponseHead | None = None
    payload = b""
    body = None
    for piece in pieces:
        buf += piece
        if head is None:
            if method is None:
                head = parse_request(buf, limits, 0, searched)
            else:
                head = parse_response(buf, limits, method, 0, searched, upgrade)
            if head is None:
                searched = len(buf)
                continue
            body = request_body(head, limits) if method is None else response_body(head, limits)  # type: ignore[arg-type]
            buf = buf[head.end :]
        assert body is not None
        if not body.done and buf:
            data, used = body.feed(buf)
            payload += data
            buf = buf[used:]
    if head is None or body is None:
        return None
    if eof and not body.done:
        body.eof()
    return Message(head, payload, body.trailers, buf, body.done)


def facts(message: Message | None) -> object:
    """What must not depend on how the bytes arrived."""
    if message is None:
        return None
    head = message.head
    own: tuple[object, ...]
    if isinstance(head, RequestHead):
        own = (head.method, head.target, head.host, head.expect_continue, head.upgrade)
    else:
        own = (head.status, head.reason, head.has_body)
    return (
        *own,
        head.version,
        head.content_length,
        head.keep_alive,
        head.plain,
        head.canonical,
        head.nominated,
        head.end,
        head.fields,
        tuple(head.special),
        message.body,
        message.trailers,
        message.complete,
    )


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[i : i + 1] for i in range(len(raw))]


def read_three_ways(
    raw: bytes, method: bytes | None = None, limits: Limits = DEFAULT_LIMITS, upgrade: bool = False
) -> Message:
    """A complete message, the same however it arrives; what follows is left alone."""
    whole = read([raw], method, limits, upgrade=upgrade)
    single = read(bytewise(raw), method, limits, upgrade=upgrade)
    assert whole is not None
    assert facts(whole) == facts(single)
    assert whole.rest == b""
    if whole.complete:
        followed = read([raw + NEXT], method, limits, upgrade=upgrade)
        assert followed is not None
        assert facts(whole) == facts(followed)
        assert followed.rest == NEXT
    return whole


def refuse_three_ways(
    raw: bytes, method: bytes | None = None, limits: Limits = DEFAULT_LIMITS, upgrade: bool = False
) -> BadMessage:
    """The refusal of a message that is refused however it arrives."""
    errors = []
    for pieces in ([raw], bytewise(raw), [raw + NEXT]):
        try:
            message = read(pieces, method, limits, upgrade=upgrade)
        except BadMessage as error:
            errors.append(error)
        else:
            raise AssertionError(f"accepted {message!r}")
    assert len({error.status for error in errors}) == 1, errors
    return errors[0]
