"""A caller on a raw socket: it sends the bytes it is given and reads responses strictly."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable

from attrs import define, field

from tests.wire.endpoint import HEAD_END, Input, Malformed, linger_zero, parse_fields, read_chunked


@define(eq=False, kw_only=True)
class Response:
    """One response as it arrived, final or informational."""

    status: int
    reason: str
    version: str
    fields: list[tuple[str, str]]
    head: bytes
    body: bytes = b""
    body_bytes: int = 0
    trailers: list[tuple[str, str]] = field(factory=list)
    framing: str = "none"
    """``length``, ``chunked``, ``close`` or ``none``."""

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key.lower() == name.lower()), None)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> dict[str, object]:
        """The body of :meth:`EndpointServer.describe`, or any JSON object."""
        loaded = json.loads(self.body)
        assert isinstance(loaded, dict)
        return loaded

    @property
    def endpoint(self) -> str:
        """The name of the endpoint that answered."""
        return str(self.json()["name"])

    def seen(self, name: str) -> str | None:
        """What the endpoint saw in the first request field of that name."""
        return next(iter(self.seen_all(name)), None)

    def seen_all(self, name: str) -> list[str]:
        """What the endpoint saw in all request fields of that name."""
        fields = self.json()["fields"]
        assert isinstance(fields, list)
        return [value for key, value in fields if key.lower() == name.lower()]


class RawClient:
    """One connection. A context manager; every wait is bounded by ``timeout`` seconds."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        timeout: float = 10.0,
        receive_buffer: int | None = None,
        source: str | None = None,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = Input(self.socket, None)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        port = self.socket.getsockname()[1]
        assert isinstance(port, int)
        return port

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        *,
        host: str = "web",
        fields: tuple[tuple[str, str], ...] = (),
        body: bytes | None = None,
        chunked: bool = False,
    ) -> Response:
        """Send a well-formed request and read its final response."""
        self.send(compose(method, target, host=host, fields=fields, body=body, chunked=chunked))
        return self.response(method)

    def response(
        self, method: str = "GET", *, sink: Callable[[bytes], None] | None = None, informational: bool = False
    ) -> Response:
        """The next final response (the next of any kind with ``informational``), with its whole body.

        Raises Malformed when the bytes are no strict HTTP/1.1 response or the stream ends too early,
        TimeoutError when nothing comes. With ``sink`` the body goes there piece by piece and is not kept.
        """
        while True:
            head = self.input.until(HEAD_END)
            if head is None:
                raise Malformed("stream ended before any byte of a response")
            lines = head[:-4].split(b"\r\n")
            version, _, rest = lines[0].partition(b" ")
            status, _, reason = rest.partition(b" ")
            if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
                raise Malformed(f"bad status line {lines[0]!r}")
            response = Response(
                status=int(status),
                reason=reason.decode("latin-1"),
                version=version.decode(),
                fields=parse_fields(lines[1:]),
                head=head,
            )
            if response.status >= 200 or response.status == 101 or informational:
                break
        if response.status >= 200 and method != "HEAD" and response.status not in (204, 304):
            self._body(response, sink)
        return response

    def _body(self, response: Response, sink: Callable[[bytes], None] | None) -> None:
        parts: list[bytes] = []

        def take(piece: bytes) -> None:
            response.body_bytes += len(piece)
            (sink or parts.append)(piece)

        lengths = response.get_all("content-length")
        if "chunked" in (response.get("transfer-encoding") or "").lower():
            if lengths:
                raise Malformed("response with Content-Length and chunked")
            response.framing = "chunked"
            response.trailers = read_chunked(self.input, take, bytearray() if sink is None else Forgetful())
        elif lengths:
            if len(lengths) > 1 or not lengths[0].isdigit():
                raise Malformed(f"bad Content-Length {lengths}")
            response.framing = "length"
            for piece in self.input.pieces(int(lengths[0])):
                take(piece)
        else:
            response.framing = "close"
            while self.input.buffer or self.input.more():
                take(bytes(self.input.buffer))
                self.input.buffer.clear()
        response.body = b"".join(parts)

    def read_until_close(self) -> bytes:
        """Everything up to the end of the stream; a reset counts as an end."""
        with contextlib.suppress(ConnectionError):
            while self.input.more():
                pass
        rest = bytes(self.input.buffer)
        self.input.buffer.clear()
        return rest

    def half_close(self) -> None:
        """FIN towards the proxy; reading goes on."""
        self.socket.shutdown(socket.SHUT_WR)

    def is_closed(self, *, within: float = 5.0) -> bool:
        """Whether the other side ends the stream (FIN or RST) in that time without sending anything more."""
        self.socket.settimeout(within)
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def reset(self) -> None:
        linger_zero(self.socket)
        self.close()

    def close(self) -> None:
        self.socket.close()


class Forgetful(bytearray):
    """Framing bytes that nobody wants: keeps gigabyte downloads from being remembered."""

    def __iadd__(self, _: object) -> Forgetful:
        return self


def compose(
    method: str = "GET",
    target: str = "/",
    *,
    host: str = "web",
    fields: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    chunked: bool = False,
) -> bytes:
    """A well-formed request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields)]
    payload = body or b""
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        payload = (b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b"") + b"0\r\n\r\n"
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + HEAD_END + payload
