"""python-consul on trio: its own extension point, filled with h11 over trio streams.

python-consul builds a path, parameters and a callback, and returns whatever its transport returns. This transport
returns a coroutine, so ``await client.health.service("web", index="7", wait="30000ms")`` just works. It differs from
the library's own transports in that

* every request has an end: what the agent may take at most, which for a blocking query is its ``wait`` and the
  sixteenth that agents add;
* it can be cancelled at any time (its connection is then closed, not used again);
* the ACL token travels in a header and not in the URL, which agents and proxies log;
* an answer has a largest size, and a large one is decoded in steps, so that the data path is never held up;
* CONSUL_HTTP_* variables do not override the configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable
from json import JSONDecoder
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

import consul.base
import h11
import trio

from hostmesh.registry.tls_trouble import tls_error, told

ANSWER_S = 5.0
"""For an answer that is not waited for, and the slack of one that is."""

MAX_WAIT_S = 600.0
"""Agents wait no longer, whatever they are asked."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one answer: 50,000 instances with their checks. More is a registry gone wrong."""

STEPWISE = 64 * 1024
"""Bytes from which on an answer is decoded in steps; decoding this many takes half a millisecond."""

STEP = 32
"""List items decoded before the data path gets a turn."""

MAX_IDLE_S = 60.0
"""Seconds for which an unused connection is kept."""

_READ = 65536
_WAIT = re.compile(r"([0-9]+)(ms|s|m)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0}
_BLANK = re.compile(r"[ \t\r\n]*")

Params: TypeAlias = "Iterable[tuple[str, Any]] | None"
Dial: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]


class Unreachable(consul.base.ConsulException):  # type: ignore[misc]  # the library is untyped
    """The agent could not be asked, or did not answer in HTTP."""


class Unusable(consul.base.ConsulException):  # type: ignore[misc]  # the library is untyped
    """The agent has answered something that cannot be used."""


class ServiceAnswer(NamedTuple):
    """What the two service endpoints return: python-consul's pair, and whether it is the whole truth."""

    version: str
    """The index, as the agent sent it; empty if it did not."""
    entries: list[Any]
    complete: bool
    """False for a stale answer of a server that knows no leader: what it does not list may well be there."""


class Headers(dict[str, str]):
    """Response headers, found whatever their case; one that is missing is empty."""

    def __getitem__(self, name: str) -> str:
        return self.get(name.lower(), "")


def wait_s(params: Iterable[tuple[str, Any]]) -> float:
    """How long the agent may block before it answers, in seconds; 0 for an ordinary query."""
    found = dict(params)
    match = _WAIT.fullmatch(str(found.get("wait", "")))
    if match is None or "index" not in found:
        return 0.0
    return min(int(match[1]) * _UNIT_S[match[2]], MAX_WAIT_S) * 17 / 16


async def decode_list(text: str, step: int = STEP) -> list[Any]:
    """``json.loads`` of a list, with a checkpoint after every ``step`` items; ValueError if it is none."""
    decode, blank = JSONDecoder().raw_decode, _BLANK.match
    items: list[Any] = []

    def past_blank(at: int) -> int:
        match = blank(text, at)
        assert match is not None
        return match.end()

    at = past_blank(0)
    if text[at : at + 1] != "[":
        raise ValueError("expected a list")
    at = past_blank(at + 1)
    while text[at : at + 1] != "]" or items:
        item, at = decode(text, at)
        items.append(item)
        at = past_blank(at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            raise ValueError(f"expected ',' or ']' at character {at}")
        at = past_blank(at + 1)
        if len(items) % step == 0:
            await trio.lowlevel.checkpoint()
    if past_blank(at + 1) != len(text):
        raise ValueError(f"expected nothing after character {at}")
    return items


class _Connection:
    """One stream to the agent, used for one exchange at a time."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.since = 0.0
        """When it was last used."""
        self.is_used = False
        self.has_answered = False
        """A byte of the answer to the current request has arrived."""
        self._h11 = h11.Connection(h11.CLIENT)

    async def exchange(self, request: h11.Request, body: bytes, limit: int) -> tuple[int, Headers, bytes]:
        self.has_answered = False
        out = self._h11.send(request)
        assert out is not None
        if body:
            out += self._h11.send(h11.Data(data=body)) or b""
        out += self._h11.send(h11.EndOfMessage()) or b""
        await self.stream.send_all(out)
        response = await self._event()
        while isinstance(response, h11.InformationalResponse):
            response = await self._event()
        assert isinstance(response, h11.Response)
        chunks = []
        size = 0
        while isinstance(event := await self._event(), h11.Data):
            chunks.append(bytes(event.data))
            size += len(event.data)
            if size > limit:
                raise Unusable(f"expected an answer of at most {limit} bytes, found more")
        headers = Headers(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers
        )
        return response.status_code, headers, b"".join(chunks)

    async def _event(self) -> Any:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                if isinstance(event, h11.ConnectionClosed):
                    raise h11.RemoteProtocolError("closed before the answer")
                return event
            data = await self.stream.receive_some(_READ)
            self.has_answered = self.has_answered or bool(data)
            self._h11.receive_data(bytes(data))

    def renew(self) -> bool:
        """Be ready for the next exchange; False if this was the last."""
        self.is_used = True
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        return True


class Transport(consul.base.HTTPClient):  # type: ignore[misc]  # the library is untyped
    """Requests over kept connections to one agent.

    ``dial`` opens a stream, with its own time limit; it raises OSError or :class:`Unreachable`. ``authority`` is the
    Host header. Requests may be cancelled at any time. :meth:`aclose` closes what is idle.
    """

    def __init__(
        self,
        dial: Dial,
        authority: str,
        *,
        token: str | None = None,
        consistency: str = "default",
        answer_s: float = ANSWER_S,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        super().__init__()
        self._dial = dial
        self._authority = authority
        self._token = token
        self._consistency = consistency
        self._answer_s = answer_s
        self._max_answer = max_answer
        self._idle: list[_Connection] = []
        self.keeps = True
        """Connections are kept for the next request; false from :meth:`aclose` on."""
        self.opened = 0
        self.in_flight = 0

    @property
    def idle(self) -> int:
        """Connections that are kept and not in use."""
        return len(self._idle)

    # python-consul's four methods. They return coroutines, which the library hands to its caller.

    def get(self, callback: Callable[[Any], Any], path: str, params: Params = None) -> Awaitable[Any]:
        return self._call(callback, "GET", path, params)

    def put(
        self, callback: Callable[[Any], Any], path: str, params: Params = None, data: str = ""
    ) -> Awaitable[Any]:
        return self._call(callback, "PUT", path, params, data)

    def delete(self, callback: Callable[[Any], Any], path: str, params: Params = None) -> Awaitable[Any]:
        return self._call(callback, "DELETE", path, params)

    def post(
        self, callback: Callable[[Any], Any], path: str, params: Params = None, data: str = ""
    ) -> Awaitable[Any]:
        return self._call(callback, "POST", path, params, data)

    async def _call(
        self, callback: Callable[[Any], Any], method: str, path: str, params: Params, data: str = ""
    ) -> Any:
        given = list(params or ())
        is_service = path.startswith(("/v1/health/service/", "/v1/catalog/service/"))
        if path.startswith("/v1/health/") and self._consistency != "default":
            given.append((self._consistency, "1"))  # the library does it for the catalog only
        request, body = self._request(method, path, given, data)
        code, headers, raw = await self._within(wait_s(given) + self._answer_s, request, body)
        text = raw.decode("utf-8", "replace")
        del raw
        try:
            if is_service and code == 404:
                # A service that does not exist is an empty list: this is not the API, and no answer at all.
                raise Unusable(f"{path}: {code} {text[:80]!r}")
            if not is_service or code != 200:
                return callback(consul.base.Response(code, headers, text))
            if len(text) < STEPWISE:
                index, entries = callback(consul.base.Response(code, headers, text))
            else:
                # The library judges the head; what it would do with the body is done in steps.
                index, _ = callback(consul.base.Response(code, headers, "[]"))
                entries = await decode_list(text)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"{path}: expected JSON, found {text[:80]!r}: {error}") from None
        if entries is None:
            entries = []  # as Go writes an empty list at times
        if not isinstance(entries, list):
            raise Unusable(f"{path}: expected a list, found {text[:80]!r}")
        if not entries and headers["X-Consul-Results-Filtered-By-ACLs"] == "true":
            raise consul.base.ACLPermissionDenied("the token may not read this service")
        return ServiceAnswer(index, entries, headers["X-Consul-KnownLeader"] != "false")

    def _request(
        self, method: str, path: str, params: list[tuple[str, Any]], data: str
    ) -> tuple[h11.Request, bytes]:
        token = self._token
        query = []
        for name, value in params:
            if name == "token":
                token = value
            else:
                query.append((name, value))
        target = quote(path, safe="/:") + (f"?{urlencode(query)}" if query else "")
        headers = [("Host", self._authority), ("User-Agent", "hostmesh"), ("Accept", "application/json")]
        if token:
            headers.append(("X-Consul-Token", token))
        body = data.encode()
        if method in ("PUT", "POST"):
            headers.append(("Content-Length", str(len(body))))
        try:
            return h11.Request(method=method, target=target, headers=headers), body
        except h11.LocalProtocolError as error:
            raise Unusable(f"{path}: {error}") from None

    async def _within(self, seconds: float, request: h11.Request, body: bytes) -> tuple[int, Headers, bytes]:
        self.in_flight += 1
        try:
            with trio.fail_after(seconds):
                return await self._exchange(request, body)
        except trio.TooSlowError:
            raise consul.Timeout(f"no answer in {seconds:g} s") from None
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # With TLS 1.3 a server judges our certificate after its own part of the handshake: we hear of it here.
            refused = tls_error(error)
            if refused is not None:
                raise Unreachable(f"no TLS with {self._authority}: {told(refused, 'the agent')}") from None
            raise Unreachable(str(error.__cause__ or error)) from None
        except h11.RemoteProtocolError as error:
            raise Unreachable(f"expected HTTP/1.1: {error}") from None
        finally:
            self.in_flight -= 1

    async def _exchange(self, request: h11.Request, body: bytes) -> tuple[int, Headers, bytes]:
        connection = await self._kept()
        if connection is not None:
            try:
                return await self._use(connection, request, body)
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
                # The agent may close a kept connection just as we write to it; only a read may be said twice.
                if connection.has_answered or request.method != b"GET":
                    raise
        connection = _Connection(await self._dial())
        self.opened += 1
        return await self._use(connection, request, body)

    async def _use(
        self, connection: _Connection, request: h11.Request, body: bytes
    ) -> tuple[int, Headers, bytes]:
        is_kept = False
        try:
            answer = await connection.exchange(request, body, self._max_answer)
            is_kept = connection.renew() and self.keeps
        finally:
            if not is_kept:
                await trio.aclose_forcefully(connection.stream)
        if is_kept:
            connection.since = trio.current_time()
            self._idle.append(connection)
        return answer

    async def _kept(self) -> _Connection | None:
        """The connection used last, for it is the least likely to have been closed; old ones are closed here."""
        old = trio.current_time() - MAX_IDLE_S
        while self._idle and self._idle[0].since < old:
            await trio.aclose_forcefully(self._idle.pop(0).stream)
        return self._idle.pop() if self._idle else None

    async def aclose(self) -> None:
        """Close the connections that are not in use now, and the others after their request."""
        self.keeps = False
        while self._idle:
            await trio.aclose_forcefully(self._idle.pop().stream)


class Client(consul.base.Consul):  # type: ignore[misc]  # the library is untyped
    """python-consul's client; every call on it returns a coroutine. It raises ConsulException and its kinds."""

    def __init__(self, transport: Transport, *, consistency: str = "default") -> None:
        self.transport = transport
        # The library lets these override its arguments, and refuses to start with some that its own CLI takes.
        aside = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CONSUL_HTTP_")}
        try:
            super().__init__(consistency=consistency)
        finally:
            os.environ.update(aside)

    def connect(self, host: str, port: int, scheme: str, verify: bool = True, cert: Any = None) -> Transport:
        """The library's extension point."""
        return self.transport
