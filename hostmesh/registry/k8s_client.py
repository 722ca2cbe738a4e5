"""A Kubernetes API server and the watches on it: one per server and identity, shared by all who follow objects there.

A *watch* lists the objects of one selection and then follows their changes, for as long as somebody follows it
(:mod:`hostmesh.registry.k8s_watch`). While any watch runs, one *pulse* asks the server for a sign of life: a server
that is stopped, or unreachable behind a network that drops packets, says nothing, and neither does an idle watch.
When the pulse misses, every watch is told, and no watch dials before the pulse is back: reconnecting costs one
connection per second, whatever the number of names.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import trio
from attrs import frozen

from hostmesh.base.backoff import Decorrelated
from hostmesh.base.errors import ConfigError
from hostmesh.registry.k8s_access import Access, K8sApi, access_of
from hostmesh.registry.k8s_exec import ExecPlugins
from hostmesh.registry.k8s_objects import MAX_ANSWER, BadAnswerError, RefusedError, mapping, parsed, text
from hostmesh.registry.k8s_watch import Watch
from hostmesh.registry.tls_context import prepare
from hostmesh.registry.tls_trouble import tls_error, told
from hostmesh.registry.watched import Report, no_report

if TYPE_CHECKING:
    from hostmesh.registry.shared import Shared

PULSE_S: Final = 5.0
"""Seconds between signs of life. With the time-out it bounds how long a dead server goes unnoticed."""

ANSWER_S: Final = 3.0
"""Seconds a server may take to connect, and to begin to answer a pulse."""

READ_S: Final = 15.0
"""Seconds without a byte in the middle of a list. Large ones take a busy server a while to begin."""

IDLE_S: Final = 90.0
"""Seconds without a byte on a watch. Servers send a bookmark about every minute."""

WATCH_S: Final = 300
"""Seconds after which the server ends a watch; up to a fifth less, so that not all end together."""

BACKOFF: Final = Decorrelated(0.05, 1.0)
"""Reconnect soon, and at least every second for ever."""

ACCESS_S: Final = 2.0
"""Seconds for which CA, kubeconfig and certificates are taken for what they were: after an outage all names connect at
the same time, and reading and parsing them takes milliseconds. Tokens are read each time."""

LISTS_AT_ONCE: Final = 16
"""Lists in progress on one server: after its restart all names ask again."""

PAGE: Final = 100
"""Objects per page of a list."""

MAX_PAGES: Final = 100

MAX_REFUSAL: Final = 1 << 20
"""Bytes of an answer that says no."""

KEEP_ALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]
"""The kernel finds peers that are gone without a word, also while nothing is asked."""

ERRORS: Final[tuple[type[Exception], ...]] = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    ssl.SSLError,
    BadAnswerError,
    ConfigError,
)
"""What talking to a server may raise, apart from its refusals."""


@frozen
class Selection:
    """Which objects: a path below the server's URL, and selectors. ``digest`` takes what is wanted of one."""

    path: str
    params: tuple[tuple[str, str], ...]
    digest: Callable[[Mapping[str, Any]], Any]

    def show(self) -> str:
        return self.path + ("?" + "&".join(f"{key}={value}" for key, value in self.params))


class K8sClient:
    """One API server as one identity. It holds nothing while nobody follows anything."""

    errors = ERRORS
    watch_s = WATCH_S

    def __init__(
        self,
        shared: Shared,
        key: Hashable,
        access: Callable[[], Access],
        name: str,
        report: Report = no_report,
        *,
        plugins: ExecPlugins | None = None,
    ) -> None:
        """``access`` is called in a thread if there are ``plugins``, which may run programs."""
        self.name = name
        """For people: where it is."""
        self.env = shared.alarms.env
        self.report = report
        self.tasks = shared.tasks
        self.rng = self.env.rng(f"k8s/{name}")
        self.trouble: str | None = None
        """Why the server does not answer; None while it does, or as long as nobody has asked."""
        self.lists = trio.CapacityLimiter(LISTS_AT_ONCE)
        self.watches: dict[Selection, Watch] = {}
        self.listed = 0
        """Complete lists."""
        self.gone = 0
        """Times that a watch could not go on from where it was (410)."""
        self._make_access = access
        self._access: Access | None = None
        self._access_at = 0.0
        self._accessing = trio.Lock()
        self._plugins = plugins
        self._shared = shared
        self._key = key
        self._stop_pulse: Callable[[], None] | None = None
        self._beat = trio.Event()
        self._well = trio.Event()
        self._well.set()

    @classmethod
    def of(
        cls, shared: Shared, api: K8sApi | None, host: str, port: int, report: Report = no_report
    ) -> K8sClient:
        """The client in use for this server and identity, or a new one. No I/O."""
        key = ("k8s", api, host, port)
        found = shared.clients.get(key)
        if found is not None:
            assert isinstance(found, K8sClient)
            return found
        known = api or K8sApi()
        name = known.kubeconfig or ("in-cluster" if known.in_cluster else f"{host}:{port}")
        plugins = None if known.kubeconfig is None else ExecPlugins()
        return cls(
            shared,
            key,
            lambda: access_of(known, host, port, os.environ, plugins),
            name,
            report,
            plugins=plugins,
        )

    def watch(self, selection: Selection) -> Watch:
        """The watch of these objects. It runs while it is followed."""
        return self.watches.get(selection) or Watch(self, selection)

    # Watches register themselves while they run.

    def keep(self, watch: Watch) -> None:
        self.watches.setdefault(watch.selection, watch)
        if self._stop_pulse is None:
            self._shared.clients.setdefault(self._key, self)
            self._stop_pulse = self.tasks.start(self._pulse)

    def drop(self, watch: Watch) -> None:
        if self.watches.get(watch.selection) is watch:
            del self.watches[watch.selection]
        if not self.watches and self._stop_pulse is not None:
            self._stop_pulse()
            self._stop_pulse = None
            self._access = None
            self.trouble = None
            self._well.set()
            if self._shared.clients.get(self._key) is self:
                del self._shared.clients[self._key]

    # Is it there?

    def cause_of(self, error: BaseException) -> str:
        return cause_of(error)

    def suspect(self) -> None:
        """A watch got no answer: see now whether the server is there, for all of them."""
        self._beat.set()

    async def wait_well(self) -> None:
        """Return when the server answers, as far as is known."""
        await self._well.wait()

    def _unwell(self, cause: str) -> None:
        if self.trouble is None:
            self._well = trio.Event()
            self.report("k8s.lost", {"server": self.name, "cause": cause})
        self.trouble = cause
        for watch in list(self.watches.values()):
            watch.lost(cause)

    async def _pulse(self) -> None:
        delays = BACKOFF.delays(self.rng)
        while True:
            answered = False
            try:
                async with self.connected() as http:
                    while True:
                        await self._sign_of_life(http)
                        answered = True
                        if self.trouble is not None:
                            self.trouble = None
                            self.report("k8s.found", {"server": self.name})
                            self._well.set()
                        delays = BACKOFF.delays(self.rng)
                        self._beat = trio.Event()
                        with trio.move_on_after(PULSE_S * (0.9 + 0.2 * self.rng.random())):
                            await self._beat.wait()
            except ERRORS as error:
                if not answered:
                    self._unwell(cause_of(error))
                # Else an idle connection has been closed, or one answer was late, which may not cost everybody their
                # watches: a new connection tells.
            await trio.sleep(next(delays))

    async def _sign_of_life(self, http: Http) -> None:
        """Any answer but a gateway's is one: who may not ask for the version has been heard, too."""
        with trio.move_on_after(ANSWER_S) as limit:
            status, _body = await http.get("/version", (), 1 << 16)
            if status >= 500:
                raise BadAnswerError(f"expected a version, found status {status}")
        if limit.cancelled_caught:
            raise BadAnswerError(f"expected an answer within {ANSWER_S:g} s, found none")

    def renounce(self) -> None:
        """The server does not know who we are (401): be somebody else at the next connection."""
        self._access = None
        if self._plugins is not None:
            self._plugins.forget()

    def is_fresh(self, http: Http) -> bool:
        """Whether a connection's credentials will last for another watch."""
        until = http.fresh_until
        return until is None or self.env.wall() < until

    async def _fresh_access(self) -> Access:
        # One at a time: after an outage all names connect together, and a program is slow.
        async with self._accessing:
            access = self._access
            if access is None or self.env.now() - self._access_at >= ACCESS_S:
                if self._plugins is None:
                    access = self._make_access()
                else:
                    access = await trio.to_thread.run_sync(self._make_access, abandon_on_cancel=True)
                if access.context is not None:
                    await trio.to_thread.run_sync(prepare)
                self._access = access
                self._access_at = self.env.now()
            return access

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Http]:
        """A connection of one's own, made when first used, closed at the end. Raises what :data:`ERRORS` says."""
        access = await self._fresh_access()
        transport = httpx.AsyncHTTPTransport(
            # Without a context it is plain HTTP; True would read the system's certificates each time.
            verify=False if access.context is None else access.context,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            trust_env=False,
            socket_options=KEEP_ALIVE,
        )
        timeout = httpx.Timeout(ANSWER_S, read=READ_S)
        async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
            yield Http(client, access)


class Http:
    """Requests on one connection."""

    def __init__(self, client: httpx.AsyncClient, access: Access) -> None:
        self._client = client
        self._access = access
        self.fresh_until = access.fresh_until

    async def get(
        self, path: str, params: tuple[tuple[str, str], ...], limit: int = MAX_ANSWER
    ) -> tuple[int, bytes]:
        """Status and body. Raises BadAnswerError for a body over ``limit`` bytes."""
        async with self._stream(path, params) as answer:
            return answer.status_code, await _body(answer, limit)

    async def list(self, selection: Selection, *, cached: bool) -> list[dict[str, Any]]:
        """The pages of a complete list. Raises RefusedError.

        ``cached`` takes what the server has in its memory, as all controllers do. Else servers before 1.31, and those
        on an older etcd, read all objects of the kind from etcd to find one service's.
        """
        pages: list[dict[str, Any]] = []
        if cached:
            status, body = await self.get(selection.path, (*selection.params, ("resourceVersion", "0")))
            if status != 200:
                raise refusal(status, body)
            return [parsed(body)]
        params = (*selection.params, ("limit", str(PAGE)))
        while len(pages) < MAX_PAGES:
            status, body = await self.get(selection.path, params)
            if status != 200:
                raise refusal(status, body)
            page = parsed(body)
            pages.append(page)
            more = text(mapping(page.get("metadata")).get("continue"))
            if not more:
                return pages
            params = (*selection.params, ("limit", str(PAGE)), ("continue", more))
        raise BadAnswerError(f"expected at most {MAX_PAGES * PAGE} objects, found more")

    @asynccontextmanager
    async def watch(
        self, selection: Selection, version: str, seconds: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The stream of changes after ``version``, which the server ends after ``seconds``. Raises RefusedError."""
        params = (
            *selection.params,
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(seconds)),
        )
        async with self._stream(selection.path, params, read=IDLE_S) as answer:
            if answer.status_code != 200:
                raise refusal(answer.status_code, await _body(answer, MAX_REFUSAL))
            async with aclosing(answer.aiter_raw()) as parts:  # type: ignore[type-var]
                yield parts

    @asynccontextmanager
    async def _stream(
        self, path: str, params: tuple[tuple[str, str], ...], read: float = READ_S
    ) -> AsyncIterator[httpx.Response]:
        async with self._client.stream(
            "GET",
            self._access.url + path,
            params=params,
            # Compressed answers would have to be bounded twice.
            headers={"accept": "application/json", "accept-encoding": "identity", **self._access.headers()},
            timeout=httpx.Timeout(ANSWER_S, read=read),
            follow_redirects=False,
            extensions=(
                {"sni_hostname": self._access.server_name} if self._access.server_name is not None else {}
            ),
        ) as answer:
            yield answer


async def _body(answer: httpx.Response, limit: int) -> bytes:
    found: list[bytes] = []
    size = 0
    async with aclosing(answer.aiter_raw()) as parts:  # type: ignore[type-var]
        async for part in parts:
            found.append(part)
            size += len(part)
            if size > limit:
                raise BadAnswerError(f"expected at most {limit} bytes, found more")
    return b"".join(found)


def refusal(status: int, body: bytes) -> RefusedError:
    """What the server says with a status other than 200: a Status object, or a proxy's text."""
    try:
        message = text(parsed(body).get("message"))
    except BadAnswerError:
        message = body[:200].decode("utf-8", "replace").strip()
    return RefusedError(status, message[:300])


def cause_of(error: BaseException) -> str:
    """For people, in one line."""
    refused = tls_error(error)
    if refused is not None:
        return f"no TLS: {told(refused, 'the API server')}"
    said = str(error).strip()
    name = type(error).__name__
    if isinstance(error, httpx.ReadTimeout | httpx.PoolTimeout | httpx.WriteTimeout):
        return f"no answer in time ({name})"
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {ANSWER_S:g} s"
    if isinstance(error, BadAnswerError | ConfigError):
        return said
    return f"{name}: {said}" if said else name
