"""An outside observer: it drives requests through hostmesh and judges what came back. See below for its use.

    with Observer(mesh.port, host="web") as seen:              # 200 requests/s from now on, in its own thread
        one, two = seen.endpoint(), seen.endpoint()            # real HTTP endpoints that answer with their ip:port
        registry.put("web", one.host, one.port)                # your own client; when it is acknowledged:
        seen.added(one)
        seen.wait_answers(one)                                 # until requests reach it
        registry.put("web", two.host, two.port); seen.added(two)
        registry.remove("web", one.host, one.port); seen.removed(one)   # `one` keeps answering whoever asks
        seen.unreadable(); registry.kill()                     # before you break it
        registry.start(); registry.read(); seen.readable()     # after your client has read it again
        seen.run_for(10)                                       # let time pass under load
        verdict = seen.judge(hold_s=2.0).check()               # AssertionError: failed requests or stale routes
        print(verdict.show())
        assert seen.journal_faults(mesh, "/#/io.l5d.consul/dc1/web") == []   # against /namer_journal.json
        print(seen.time_to_route(two))                         # seconds from now to the first answer (see below)

* ``endpoint(host=...)`` listens on another local address, where a registry does not take loopback ones;
  ``endpoint.stop()`` makes it die (its death is written into the log), ``endpoint.start()`` revives it.
* ``added``/``removed``/``set_to``/``unreadable``/``readable``/``mesh_started`` write the registry's event log. Write
  **after** the acknowledgement of an addition or removal and **before** breaking the registry. After a restart
  with other data use ``set_to([...])`` and then ``readable()``. Start of hostmesh under load: ``mesh_started()``.
* What is judged is in :mod:`tests.servers.judge`: a failed request while an endpoint lives; an answer from an
  endpoint that is gone for more than 2 s + hold after the registry could be read (1 s + hold for an emptied name).
* ``time_to_route(endpoint)`` asks as fast as it can and returns the seconds until that endpoint answers: call it
  right after the acknowledgement, for the propagation numbers (without an observer's load use ``Prober``).
* A registry behind a relay that stalls, resets and cuts: :mod:`tests.servers.relay`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, Protocol

import trio

from tests.servers.judge import Answer, EventLog, Verdict, journal_faults, judge

RATE = 200.0
"""Requests per second."""

TIMEOUT_S = 15.0
"""Longer than hostmesh itself waits for a name (10 s), so that it is the one to say so."""

MAX_CALLERS = 512
"""Connections to hostmesh. Above it requests are not sent, and count as failed."""


class Mesh(Protocol):
    """What is needed of :class:`tests.wire.harness.Hostmesh`."""

    def admin(self, target: str) -> Any: ...


class ObservedEndpoint:
    """An HTTP endpoint that answers every request with its own ``ip:port``."""

    def __init__(self, observer: Observer, host: str, port: int) -> None:
        self._observer = observer
        self.host = host
        self.port = port
        self._scope: trio.CancelScope | None = None
        self.start(first=True)

    @property
    def key(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def start(self, *, first: bool = False) -> None:
        """Listen, on the same port as before."""
        self._scope = self._observer._call(self._listen)
        if not first:
            self._observer.log.revived(self.key, time.monotonic())

    def stop(self) -> None:
        """Die: no listener, and every connection reset."""
        self._observer.log.died(self.key, time.monotonic())
        assert self._scope is not None
        scope = self._scope
        self._observer._call(scope.cancel)

    def _listen(self) -> trio.CancelScope:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = trio.socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener._sock.bind((self.host, self.port))
            listener.listen(256)
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        scope = trio.CancelScope()
        self._observer._nursery.start_soon(self._serve, trio.SocketListener(listener), scope)
        return scope

    async def _serve(self, listener: trio.SocketListener, scope: trio.CancelScope) -> None:
        with scope:
            await trio.serve_listeners(self._answer, [listener])

    async def _answer(self, stream: trio.SocketStream) -> None:
        body = self.key.encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        pending = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await stream.receive_some():
                pending += data
                count = pending.count(b"\r\n\r\n")
                if count:
                    pending = pending[pending.rindex(b"\r\n\r\n") + 4 :]
                    await stream.send_all(answer * count)
        await trio.aclose_forcefully(stream)


class Observer:
    """A context manager; see the top of this file. Its methods are for the thread that made it."""

    def __init__(
        self, port: int, host: str = "web", *, target: str = "/", rate: float = RATE, paused: bool = False
    ) -> None:
        self.port = port
        self.host = host
        self.rate = rate
        self.log = EventLog()
        self.answers: list[Answer] = []
        self.paused = paused
        """While true no requests are sent; set it as you like."""
        self._request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._idle: list[trio.SocketStream] = []
        self._callers = 0
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: trio.run(self._main), daemon=True)

    # The scenario's side.

    def __enter__(self) -> Observer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._call(self._nursery.cancel_scope.cancel)
        self._thread.join(10)

    def endpoint(self, host: str = "127.0.0.1", port: int = 0) -> ObservedEndpoint:
        """A new endpoint, listening; it lives until the observer ends."""
        return ObservedEndpoint(self, host, port)

    def added(self, *endpoints: ObservedEndpoint) -> None:
        for endpoint in endpoints:
            self.log.added(endpoint.key, time.monotonic())

    def removed(self, *endpoints: ObservedEndpoint) -> None:
        for endpoint in endpoints:
            self.log.removed(endpoint.key, time.monotonic())

    def set_to(self, endpoints: Iterable[ObservedEndpoint]) -> None:
        self.log.set_to([endpoint.key for endpoint in endpoints], time.monotonic())

    def unreadable(self) -> None:
        self.log.unreadable(time.monotonic())

    def readable(self) -> None:
        self.log.readable(time.monotonic())

    def mesh_started(self) -> None:
        """A hostmesh that knows nothing has been started."""
        self.reconnect()
        self.log.mesh_started(time.monotonic())

    def reconnect(self) -> None:
        """Use no connection from before: they are to a hostmesh that is gone."""
        self._call(self._drop_idle)

    def run_for(self, seconds: float) -> None:
        """Return when that much time has passed under load."""
        end = time.monotonic() + seconds
        with self._changed:
            while (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def wait_answers(self, *endpoints: ObservedEndpoint, within: float = 30.0) -> None:
        """Wait until each of them has answered a request sent from now on; AssertionError if not in time."""
        begin = time.monotonic()
        wanted = {endpoint.key for endpoint in endpoints}
        index = len(self.answers)
        with self._changed:
            while wanted:
                for answer in self.answers[index:]:
                    index += 1
                    if answer.sent >= begin and answer.endpoint is not None:
                        wanted.discard(answer.endpoint)
                left = begin + within - time.monotonic()
                if wanted:
                    assert left > 0, f"not within {within:g} s: an answer of {sorted(wanted)}; {self.tail()}"
                    self._changed.wait(left)

    def wait_quiet(self, *endpoints: ObservedEndpoint, quiet_s: float = 1.0, within: float = 30.0) -> None:
        """Wait until requests are answered and none of them has answered one for ``quiet_s``."""
        keys = {endpoint.key for endpoint in endpoints}
        begin = last = time.monotonic()
        index = len(self.answers)
        with self._changed:
            while True:
                for answer in self.answers[index:]:
                    index += 1
                    if answer.endpoint in keys or answer.endpoint is None:
                        last = max(last, answer.done)
                now = time.monotonic()
                if now - last >= quiet_s:
                    return
                assert now < begin + within, (
                    f"not within {within:g} s: no answer of {sorted(keys)}; {self.tail()}"
                )
                self._changed.wait(0.1)

    def tail(self) -> str:
        """The last answers, for messages."""
        return ", ".join(answer.endpoint or answer.failure for answer in self.answers[-5:])

    def judge(self, *, hold_s: float = 2.0, **bounds: float) -> Verdict:
        """What is wrong so far: see :func:`tests.servers.judge.judge`."""
        return judge(list(self.answers), self.log, hold_s=hold_s, **bounds)

    def journal(self, mesh: Mesh, name: str) -> list[dict[str, object]]:
        """The entries of one bound id in hostmesh's journal, oldest first."""
        loaded = json.loads(mesh.admin("/namer_journal.json?name=" + name.replace("#", "%23")).body)
        entries = [entry for journal in loaded["journals"] for entry in journal["entries"]]
        return [entry for entry in entries if entry["name"] == name]

    def journal_faults(self, mesh: Mesh, name: str, **bounds: float) -> list[str]:
        """How the journal differs from the registry's log: see :func:`tests.servers.judge.journal_faults`."""
        return journal_faults(self.journal(mesh, name), self.log, **bounds)

    def time_to_route(self, endpoint: ObservedEndpoint, *, within: float = 10.0) -> float:
        """Seconds from this call until a request is answered by this endpoint."""
        with Prober(self.port, self.host) as prober:
            return prober.time_to_route(endpoint.key, within=within)

    # The thread's side.

    def _call(self, fn: Any) -> Any:
        return trio.from_thread.run_sync(fn, trio_token=self._token)

    async def _main(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._token = trio.lowlevel.current_trio_token()
                self._ready.set()
                await self._drive()
        finally:
            # Behind the nursery: a request that ends while it is cancelled still gives its connection back.
            self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().socket.close()

    async def _drive(self) -> None:
        """Open loop: requests start when they are due, whatever became of those before."""
        due = trio.current_time()
        while True:
            due += 1 / self.rate
            late = trio.current_time() - due
            if late > 1.0:
                due += late  # this process was stopped: no burst afterwards
            await trio.sleep_until(due)
            if self.paused:
                continue
            now = time.monotonic()
            if self._callers >= MAX_CALLERS:
                self._seen(Answer(now, now, None, f"not sent: {MAX_CALLERS} requests wait for answers"))
                continue
            self._callers += 1
            self._nursery.start_soon(self._ask)

    async def _ask(self) -> None:
        sent = time.monotonic()
        endpoint, failure = None, f"no answer in {TIMEOUT_S:g} s"
        try:
            with trio.move_on_after(TIMEOUT_S):
                endpoint, failure = await self._exchange()
        finally:
            self._callers -= 1
        self._seen(Answer(sent, time.monotonic(), endpoint, failure))

    async def _exchange(self) -> tuple[str | None, str]:
        stream = None
        kept = False
        try:
            stream = self._idle.pop() if self._idle else await trio.open_tcp_stream("127.0.0.1", self.port)
            await stream.send_all(self._request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += (more := await stream.receive_some())
                if not more:
                    return None, "connection closed"
            head, _, body = data.partition(b"\r\n\r\n")
            status, length, closes = _read_head(head)
            while len(body) < length:
                body += (more := await stream.receive_some())
                if not more:
                    return None, "connection closed in the body"
            kept = not closes
        except (OSError, ValueError, IndexError) as error:
            return None, str(error)
        except trio.BrokenResourceError as error:
            return None, f"connection broken: {error.__cause__ or error}"
        finally:
            if kept and stream is not None:
                self._idle.append(stream)
            elif stream is not None:
                stream.socket.close()
        if status == 200:
            return body.decode("latin-1"), ""
        return None, f"status {status}: {body[:200].decode('latin-1')}"

    def _seen(self, answer: Answer) -> None:
        with self._changed:
            self.answers.append(answer)
            self._changed.notify_all()


class Prober:
    """Asks one request after the other on one connection, and tells when an endpoint first answers."""

    def __init__(self, port: int, host: str = "web", target: str = "/") -> None:
        self._port = port
        self._request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._peer: socket.socket | None = None

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *_: object) -> None:
        if self._peer is not None:
            self._peer.close()

    def ask(self) -> str | None:
        """Who answers one request; None: nobody."""
        if self._peer is None:
            self._peer = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S)
            self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer.sendall(self._request)
        data = b""
        while b"\r\n\r\n" not in data:
            more = self._peer.recv(65536)
            if not more:
                self._peer.close()
                self._peer = None
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        status, length, closes = _read_head(head)
        while len(body) < length:
            body += self._peer.recv(65536)
        if closes:
            self._peer.close()
            self._peer = None
        return body.decode("latin-1") if status == 200 else None

    def time_to_route(self, key: str, *, within: float = 10.0) -> float:
        """Seconds from this call until ``key`` (``ip:port``) answers; AssertionError if not in time."""
        begin = time.monotonic()
        while self.ask() != key:
            assert time.monotonic() < begin + within, f"not within {within:g} s: an answer of {key}"
        return time.monotonic() - begin


def _read_head(head: bytes) -> tuple[int, int, bool]:
    """Status, Content-Length, whether the connection ends."""
    lines = head.lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    closes = fields.get(b"connection") == b"close"
    return int(lines[0].split()[1]), int(fields.get(b"content-length", 0)), closes
