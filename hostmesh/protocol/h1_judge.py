"""The judge: heads that the lane does not recognise. Slow, exact, and it says what it found.

Our own check of the raw bytes comes first, because h11 is lenient (bare LF, folding, control bytes, CL+TE);
then h11 must read the head, and read the same as we do. An h11 connection lives for one head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import h11

from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_fields import TOKEN, find_special, is_authority
from hostmesh.protocol.h1_meaning import build_request, build_response
from hostmesh.protocol.h1_message import (
    TUNNEL,
    BadMessage,
    RequestHead,
    ResponseHead,
    bad_request,
    bad_response,
    excerpt,
)
from hostmesh.protocol.limits import Limits

Buffer = bytes | bytearray

_CRLF = b"\r\n"
_BLANK_LINE = b"\r\n\r\n"
_TLS_ALERT = b"\x15\x03"
"""How a record with an alert begins, of any version (RFC 8446 section 5.1)."""
_bad_byte = re.compile(rb"[^\t\r\n -~\x80-\xff]").search
_bare_line_end = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)").search
_fold = re.compile(rb"\n[ \t]").search
_request_line = re.compile(rb"(" + TOKEN + rb"++) ([!-~]++) HTTP/([0-9]\.[0-9])").fullmatch
_status_line = re.compile(rb"HTTP/([0-9]\.[0-9]) ([0-9]{3})(?: ([\t -~\x80-\xff]*+))?").fullmatch
_field_line = re.compile(TOKEN + rb"++:[\t -~\x80-\xff]*+").fullmatch
_name = re.compile(TOKEN + rb"++").match
_absolute = re.compile(rb"(?i:https?)://([^/?]*+)(/?[!-~]*+)").fullmatch


class _Side:
    """What differs between refusing a request and refusing a response."""

    __slots__ = ("bad", "kind", "line", "line_status", "size_status")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.line = "request line" if kind == "request" else "status line"
        self.line_status = 414 if kind == "request" else 502
        self.size_status = 431 if kind == "request" else 502

    def refuse(self, message: str, reason: Reason | None = None, status: int = 400) -> BadMessage:
        if self.kind == "request":
            return bad_request(message, reason or Reason.BAD_REQUEST, status)
        return bad_response(message, reason or Reason.BAD_RESPONSE)

    def line_too_long(self, limits: Limits) -> BadMessage:
        return self.refuse(
            f"{self.line} longer than {limits.max_initial_line} bytes (maxInitialLineKB)",
            Reason.LIMIT_INITIAL_LINE,
            414,
        )

    def head_too_long(self, limits: Limits) -> BadMessage:
        return self.refuse(
            f"{self.kind} headers longer than {limits.max_head_bytes} bytes (maxHeadersKB)",
            Reason.LIMIT_HEADER_BYTES,
            431,
        )

    def check_size(self, line: int, block: Buffer, limits: Limits) -> None:
        if line > limits.max_initial_line:
            raise self.line_too_long(limits)
        if len(block) > limits.max_head_bytes:
            raise self.head_too_long(limits)
        count = block.count(b"\n")
        if count > limits.max_fields:
            raise self.refuse(
                f"{count} {self.kind} headers, more than the {limits.max_fields} allowed",
                Reason.LIMIT_HEADER_COUNT,
                431,
            )

    def check_bytes(self, data: Buffer, start: int, stop: int) -> None:
        """Refuse control bytes, line ends that are not CRLF, and folding in ``data[start:stop]``."""
        found = _bad_byte(data, start, stop)
        if found is not None:
            if found.start() == start and data[start : start + 2] == _TLS_ALERT and self.kind == "response":
                raise self.refuse(
                    "the endpoint answers with a TLS alert: it speaks TLS, and its client has no tls",
                    Reason.TLS_UNEXPECTED,
                )
            raise self.refuse(f"control byte 0x{data[found.start()]:02x} in the {self.kind} head")
        found = _bare_line_end(data, start, stop)
        if found is not None:
            what = (
                "line feed without carriage return"
                if found[0] == b"\n"
                else "carriage return without line feed"
            )
            raise self.refuse(f"{what} in the {self.kind} head")
        found = _fold(data, start, stop)
        if found is not None:
            raise self.refuse(f"folded or space-led line in the {self.kind} head")

    def incomplete(self, buf: Buffer, limits: Limits, start: int, searched: int) -> int:
        """Refuse a head that cannot become a good one. Returns the end of its first line if that is new, or
        -1.
        """
        line_end = buf.find(_CRLF, start, start + limits.max_initial_line + 2)
        if line_end < 0:
            # The last byte may be the CR of a line that is just short enough.
            if len(buf) - start > limits.max_initial_line + 1:
                raise self.line_too_long(limits)
        elif len(buf) - line_end - 2 > limits.max_head_bytes + 1:
            raise self.head_too_long(limits)
        self.check_bytes(buf, max(start, searched - 1), len(buf))
        return line_end if line_end + 2 > searched else -1

    def check_lines(self, lines: list[bytes]) -> None:
        for line in lines:
            if _field_line(line):
                continue
            name = _name(line)
            rest = line[name.end() :] if name else line
            if not name and rest[:1] == b":":
                problem = "without a name"
            elif b":" not in line:
                problem = "without a colon"
            elif rest.lstrip(b" \t")[:1] == b":":
                problem = "with a space before the colon"
            else:
                problem = "whose name is not a token"
            raise self.refuse(f"header line {problem}: {excerpt(line)}")


_REQUEST = _Side("request")
_RESPONSE = _Side("response")
check_request_size = _REQUEST.check_size
check_response_size = _RESPONSE.check_size


def incomplete_request(buf: Buffer, limits: Limits, pos: int, searched: int) -> None:
    """Nothing, or BadMessage if the beginning of a head in ``buf[pos:]`` can never become a good one."""
    start = _start(buf, pos)
    if start is None:
        return
    line_end = _REQUEST.incomplete(buf, limits, start, searched)
    if line_end >= 0:
        _split_request_line(bytes(buf[start:line_end]))


def incomplete_response(buf: Buffer, limits: Limits, pos: int, searched: int) -> None:
    """As :func:`incomplete_request`."""
    line_end = _RESPONSE.incomplete(buf, limits, pos, searched)
    if line_end >= 0:
        _split_status_line(bytes(buf[pos:line_end]))


def _start(buf: Buffer, pos: int) -> int | None:
    """Where the request line starts: one empty line before it is tolerated (RFC 9112 2.2)."""
    lead = buf[pos : pos + 2]
    if lead == _CRLF:
        return pos + 2
    return None if lead == b"\r" else pos


def _split_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    match = _request_line(line)
    if match is None:
        words = line.split(b" ")
        if len(words) == 2 and words[0].isalpha():
            raise bad_request(f"request line without a version, HTTP/0.9: {excerpt(line)}")
        raise bad_request(f"malformed request line: {excerpt(line)}")
    method, target, version = match.groups()
    if version not in (b"1.1", b"1.0"):
        raise bad_request(f"HTTP/{version.decode()} in a request line", Reason.UNSUPPORTED, 505)
    return method, target, 11 if version == b"1.1" else 10


def _split_status_line(line: bytes) -> tuple[int, int, bytes]:
    match = _status_line(line)
    if match is None:
        raise bad_response(f"malformed status line: {excerpt(line)}")
    version, status, reason = match.groups()
    if version not in (b"1.1", b"1.0"):
        raise bad_response(f"HTTP/{version.decode()} in a status line")
    if status < b"100":
        raise bad_response(f"status {status.decode()} in a status line")
    return 11 if version == b"1.1" else 10, int(status), reason or b""


def _split_target(method: bytes, target: bytes, limits: Limits) -> tuple[bytes, bytes | None]:
    """(origin-form target, authority or None); of a CONNECT both are the authority."""
    if method == b"CONNECT":
        if not limits.connect:
            raise bad_request("CONNECT is not enabled on this listener", Reason.UNSUPPORTED, 405)
        if not is_authority(target):
            raise bad_request(f"CONNECT target {excerpt(target)} is not host:port")
        return target, target
    if b"#" in target:
        raise bad_request(f"fragment in the request target {excerpt(target)}")
    if target[:1] == b"/":
        return target, None
    if target == b"*" and method == b"OPTIONS":
        return target, None
    match = _absolute(target)
    if match is None:
        raise bad_request(f"request target {excerpt(target)} is neither a path nor an http URI")
    authority, path = match.groups()
    if not is_authority(authority):
        raise bad_request(
            f"authority {excerpt(authority)} of the request target is not a host with optional port"
        )
    if not path:
        # RFC 9112 3.2.4: an OPTIONS for the server itself reaches it as the asterisk form.
        path = b"*" if method == b"OPTIONS" else b"/"
    elif path[:1] != b"/":
        path = b"/" + path
    return path, authority


def judge_request(buf: Buffer, limits: Limits, pos: int) -> RequestHead | None:
    """The whole decision on a head that the lane did not recognise; None when it is not complete."""
    start = _start(buf, pos)
    if start is None:
        return None
    stop = buf.find(_BLANK_LINE, start)
    if stop < 0:
        incomplete_request(buf, limits, pos, 0)
        return None
    head = bytes(buf[start : stop + 2])
    lines = head.split(_CRLF)[:-1]
    block = head[len(lines[0]) + 2 :]
    _REQUEST.check_size(len(lines[0]), block, limits)
    _REQUEST.check_bytes(head, 0, len(head))
    method, raw_target, version = _split_request_line(lines[0])
    target, authority = _split_target(method, raw_target, limits)
    _REQUEST.check_lines(lines[1:])
    found = find_special(head, len(lines[0]) + 1)
    built = build_request(method, target, version, block, found, stop + 4, authority)
    if method == b"CONNECT":
        if built.content_length:
            # RFC 9110 9.3.6: it has no content, and what follows it is the tunnel's.
            raise bad_request("CONNECT with a body", Reason.BAD_FRAMING)
        built.content_length = TUNNEL
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 2)
    try:
        connection.receive_data(head + _CRLF)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise bad_request(f"malformed request: {error}", status=error.error_status_hint) from error
    if (
        not isinstance(event, h11.Request)
        or event.method != method
        or event.target != raw_target
        or not _same_fields(event.headers, built)
    ):
        raise bad_request("request head that two parsers read differently")
    return built


def judge_response(
    buf: Buffer, limits: Limits, method: bytes, pos: int, upgrade: bool
) -> ResponseHead | None:
    """As :func:`judge_request`, for the answer to a request with ``method``."""
    stop = buf.find(_BLANK_LINE, pos)
    if stop < 0:
        incomplete_response(buf, limits, pos, 0)
        return None
    head = bytes(buf[pos : stop + 2])
    lines = head.split(_CRLF)[:-1]
    block = head[len(lines[0]) + 2 :]
    _RESPONSE.check_size(len(lines[0]), block, limits)
    _RESPONSE.check_bytes(head, 0, len(head))
    version, status, reason = _split_status_line(lines[0])
    _RESPONSE.check_lines(lines[1:])
    found = find_special(head, len(lines[0]) + 1)
    built = build_response(status, reason, version, block, found, stop + 4, method, upgrade)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(head) + 2)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(head + _CRLF)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise bad_response(f"malformed response: {error}") from error
    if (
        not isinstance(event, h11.Response | h11.InformationalResponse)
        or event.status_code != status
        or not _same_fields(event.headers, built)
    ):
        raise bad_response("response head that two parsers read differently")
    return built


def _same_fields(read: Sequence[tuple[bytes, bytes]], built: RequestHead | ResponseHead) -> bool:
    """Whether h11 found our fields; it drops repeated lengths and lowers the transfer coding."""
    ours = []
    length_seen = False
    for name, value, _raw in built.fields:
        if name == b"content-length":
            if length_seen:
                continue
            length_seen = True
        ours.append((name, value.lower() if name == b"transfer-encoding" else value))
    return ours == list(read)
