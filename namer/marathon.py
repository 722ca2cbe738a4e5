"""``io.l5d.marathon``: endpoints of Marathon's applications, ``/<segments of the application's id>``.

Names and applications are polled every ``ttlMs``; the master's event stream, where it can be had, makes the next poll
come at once. A stream that is lost therefore costs time and no correctness.
"""

from __future__ import annotations

import json
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
from attrs import frozen

from hostmesh.plugin import (
    NAMER_ROOT,
    PENDING,
    AddrBound,
    AddrNeg,
    AddrPending,
    ClientTlsConfig,
    ConfigError,
    Endpoint,
    Failed,
    Millis,
    NamerConfig,
    NamerDeps,
    Ok,
    Path,
    PolledName,
    PolledNamer,
    Port,
    Read,
    State,
    Var,
    endpoint_of,
)
from hostmesh.registry.polled import RETRY_MAX_S, cause_of
from hostmesh.registry.tls_context import ClientContexts, server_name_of
from hostmesh.registry.tls_trouble import objection, tls_error, told
from namer.marathon_format import app_ids, name_in, places

ANSWER_S = 5.0
"""For one answer."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one answer. More is a registry gone wrong."""

MAX_EVENT = 1024 * 1024
"""Bytes of one line of the event stream; longer ones end it."""

SILENCE_S = 60.0
"""The event stream is opened anew when nothing has come for so long: it may be half-open."""

EVENTS = ("status_update_event", "health_status_changed_event", "app_terminated_event", "api_post_event")
"""After these the endpoints of some application may be others."""

CREDENTIAL = "MARATHON_HTTP_AUTH_CREDENTIAL"
"""Environment variable with ``user:password``, or with that in base64."""

INET = Path.of("$", "inet")


class MarathonNamer(PolledNamer):
    """Applications by id, the shortest that fits."""

    def __init__(self, config: MarathonConfig, deps: NamerDeps) -> None:
        super().__init__(deps, hold_s=config.hold_ms / 1000, timeout_s=ANSWER_S)
        self._config = config
        self._host, self._port = config.master()
        self._draw = deps.env.rng(f"marathon{deps.prefix.show()}")
        tls = config.tls
        self._contexts: ClientContexts | None = None
        self._extra: dict[str, Any] = {}
        self._server_name: str | None = None
        if tls is not None and tls.enabled:
            name = tls.common_name or self._host
            self._contexts = ClientContexts(tls, name, deps.report, registry=f"{self._host}:{self._port}")
            self._server_name = server_name_of(name)
            if self._server_name is not None:
                self._extra = {"extensions": {"sni_hostname": self._server_name}}
        self._client: httpx.AsyncClient | None = None
        self._context: ssl.SSLContext | None = None
        self._in_use: dict[httpx.AsyncClient, int] = {}
        """Requests under way; a client of old certificates is closed after its last."""
        self._stop: Callable[[], None] | None = None
        self._changed = trio.Event()
        self.apps: Var[State[frozenset[tuple[str, ...]]]] = Var(
            deps.turn, PENDING, on_active=self._start, on_idle=self._end
        )
        self.events = deps.metrics.counter("events")
        self.is_streaming = False
        self.stream_error: str | None = None
        """Why the event stream ended last."""
        deps.metrics.gauge("streaming", lambda: float(self.is_streaming))

    # Which applications there are.

    def name_in(self, read: Read, path: Path) -> State[Path | None]:
        known = read(self.apps)
        if not isinstance(known, Ok):
            return known
        found = name_in(known.value, path)
        if found is None:
            # What is gone from the list is held like anything that goes.
            for count in range(1, len(path) + 1):
                name = self.names.get(path.take(count))
                if name is not None and read(name.exists) == Ok(True):
                    return Ok(name.path)
        return Ok(found)

    def _start(self) -> None:
        self._stop = self.shared.tasks.start(self._follow_apps)

    def _end(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None
        self.apps.set(PENDING)

    async def _follow_apps(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_events)
            while True:
                self._changed = trio.Event()
                pause = self.pause()
                try:
                    with trio.fail_after(ANSWER_S):
                        self.apps.set(Ok(app_ids(await self._get("/v2/apps"))))
                except Exception as error:  # noqa: BLE001 - whatever it is, the master has not answered
                    self.errors.value += 1
                    cause = cause_of(error, ANSWER_S)
                    if not isinstance(self.apps.value, Ok):
                        self.apps.set(Failed(cause))
                    self.report("names.source_failed", {"name": self.prefix.show(), "cause": cause})
                    pause = RETRY_MAX_S
                with trio.move_on_after(pause):
                    await self._changed.wait()

    # One application.

    async def look(self, name: PolledName) -> float:
        answer = await self._get("/v2/apps/" + "/".join(name.path) + "?embed=app.tasks", absent=True)
        if answer is None:
            name.absent()
            return self.pause()
        endpoints: list[Endpoint | None] = []
        complete = True
        for host, port in places(answer, use_health_check=self._config.use_health_check):
            found = await self._resolved(host, port)
            if found is None:
                complete = False
            else:
                endpoints += [endpoint_of(each.host, port) for each in found]
        if not complete and not endpoints:
            raise ValueError("none of the tasks' hosts can be resolved")
        name.found(endpoints, complete=complete)
        return self.pause() if complete else RETRY_MAX_S

    async def _resolved(self, host: str, port: int) -> tuple[Endpoint, ...] | None:
        """Addresses of an agent; None while they cannot be known."""
        var = self.shared.resolver.resolve(host, port)
        known = trio.Event()
        close = var.observe(lambda _addr: known.set())
        try:
            while isinstance(var.value, AddrPending):
                await known.wait()
                known = trio.Event()
            match var.value:
                case AddrBound(endpoints):
                    return endpoints
                case AddrNeg():
                    return ()
                case _:
                    return None
        finally:
            close()

    def pause(self) -> float:
        """Seconds between polls."""
        return (self._config.ttl_ms + self._config.jitter_ms * self._draw.random()) / 1000

    def source_of(self, path: Path) -> str:
        return f"{self._config.host if self._config.dst is None else self._config.dst.show()} {path.show()}"

    def state(self) -> dict[str, object]:
        return {**super().state(), "streaming": self.is_streaming, "streamError": self.stream_error}

    # The event stream.

    async def _follow_events(self) -> None:
        delays = None
        while True:
            try:
                await self._read_events()
                delays = None
            except Exception as error:  # noqa: BLE001 - polling goes on
                self.stream_error = cause_of(error, SILENCE_S)
            self.is_streaming = False
            delays = delays or self._backoff.delays(self._draw)
            await trio.sleep(next(delays) * (0.5 + 0.5 * self._draw.random()))

    async def _read_events(self) -> None:
        async with self._answer("/v2/events", Accept="text/event-stream") as answer:
            answer.raise_for_status()
            self.is_streaming = True
            # What has happened before the stream began is in no event.
            self._poke()
            pending = b""
            chunks = answer.aiter_raw()
            while True:
                with trio.fail_after(SILENCE_S):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                *lines, pending = (pending + chunk).split(b"\n")
                if len(pending) > MAX_EVENT:
                    raise ValueError(f"expected lines of at most {MAX_EVENT} bytes, found a longer one")
                for line in lines:
                    kind = line.strip().removeprefix(b"event:").strip().decode("latin-1")
                    if line.startswith(b"event:") and kind in EVENTS:
                        self.events.value += 1
                        self._poke()

    def _poke(self) -> None:
        """Look at everything in use now."""
        self._changed.set()
        for name in list(self.names.values()):
            name.look_soon()

    # HTTP.

    async def run(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._client is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await self._client.aclose()

    @asynccontextmanager
    async def _answer(self, target: str, **headers: str) -> AsyncIterator[httpx.Response]:
        """The head of an answer; its body is to be read inside. ConnectError tells why there was no TLS."""
        client = await self._http()
        self._in_use[client] = self._in_use.get(client, 0) + 1
        try:
            async with client.stream("GET", self._url(target), headers=headers, **self._extra) as answer:
                yield answer
        except httpx.TransportError as error:
            said = await self._objection(error)
            if said is None:
                raise
            raise ConnectionError(f"no TLS with {self._host}:{self._port}: {said}") from error
        finally:
            self._in_use[client] -= 1
            if not self._in_use[client]:
                del self._in_use[client]
                if client is not self._client:
                    await client.aclose()

    async def _objection(self, error: httpx.TransportError) -> str | None:
        """Why there is no TLS, if that is what ``error`` comes from."""
        refused = tls_error(error)
        if refused is not None:
            return told(refused, "the master")
        if self._context is None or not isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
            return None
        return await objection(self._context, self._host, self._port, self._server_name, "the master")

    async def _http(self) -> httpx.AsyncClient:
        """The client; another one when certificates have changed, since a client keeps what it began with."""
        context: ssl.SSLContext | None = None
        if self._contexts is not None:
            context = await trio.to_thread.run_sync(self._contexts.current)
        if self._client is None or context is not self._context:
            old, self._client = self._client, self._new_client(context)
            self._context = context
            if old is not None and old not in self._in_use:
                await old.aclose()
        return self._client

    def _new_client(self, context: ssl.SSLContext | None) -> httpx.AsyncClient:
        headers = {}
        credential = os.environ.get(CREDENTIAL)
        if credential:
            encoded = b64encode(credential.encode()).decode() if ":" in credential else credential
            headers["Authorization"] = f"Basic {encoded}"
        # No proxies from the environment: the registry is where the configuration says. Nothing is verified in plain
        # text; with TLS the context says what is.
        verify: Any = False if context is None else context
        return httpx.AsyncClient(timeout=None, trust_env=False, verify=verify, headers=headers)

    def _url(self, target: str) -> str:
        scheme = "http" if self._contexts is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}{self._config.uri_prefix}{target}"

    async def _get(self, target: str, *, absent: bool = False) -> Any:
        """The JSON at a path; None if ``absent`` and it is 404. ValueError for what is not JSON, too long, or an
        error."""
        async with self._answer(target) as answer:
            if absent and answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise ValueError(f"{target}: expected status 200, found {answer.status_code}")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError(f"{target}: expected at most {MAX_ANSWER} bytes, found more")
        try:
            return json.loads(body)
        except RecursionError as error:
            raise ValueError(f"{target}: expected JSON, found something nested too deeply") from error


@frozen(kw_only=True)
class MarathonConfig(NamerConfig):
    """Marathon applications: ``/<app id>``."""

    host: str = "marathon.mesos"
    """Marathon master."""
    port: Port = 80
    """Its port."""
    dst: Path | None = None
    """A path to the master instead of host and port. *hostmesh* Only ``/$/inet/<host>/<port>`` can be run."""
    uri_prefix: str = ""
    """In front of the API's paths."""
    ttl_ms: Millis = 5000
    """Milliseconds between polls; events make the next one come at once."""
    jitter_ms: Millis = 50
    """Milliseconds added at random."""
    use_health_check: bool = False
    """Only tasks that pass their checks."""
    tls: ClientTlsConfig | None = None
    """TLS to the master."""
    hold_ms: Millis = 2000
    """*hostmesh* Milliseconds for which a removed endpoint or application goes on being believed. 0 believes at
    once."""

    def check(self) -> list[str]:
        problems = super().check()
        if self.uri_prefix and not self.uri_prefix.startswith("/"):
            problems.append(f"uriPrefix: found {self.uri_prefix!r}, expected it to start with '/'")
        if self.ttl_ms < 1:
            problems.append("ttlMs: found 0, expected at least 1")
        return problems

    def master(self) -> tuple[str, int]:
        """Host and port. ConfigError for a ``dst`` that only an interpreter could follow."""
        if self.dst is None:
            return self.host, self.port
        rest = self.dst.drop(2)
        if self.dst.take(2) != INET or len(rest) != 2 or not rest[1].isdecimal():
            raise ConfigError(
                f"namer {NAMER_ROOT.show()}{self.prefix_in_force.show()}: dst: found {self.dst.show()}, "
                "expected /$/inet/<host>/<port>; others cannot be run"
            )
        return rest[0], int(rest[1])

    def mk(self, deps: NamerDeps) -> MarathonNamer:
        return MarathonNamer(self, deps)
