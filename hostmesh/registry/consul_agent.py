"""One Consul agent as its namers and announcers see it: connections, whether it can be reached, places for watches.

A watch that blocks for half a minute says nothing of the agent meanwhile, and a connection through a dead network
looks like a quiet one. So while anybody uses the agent a small question is asked every few seconds. When it is not
answered all watches are interrupted at once and wait; while the agent is away there is one probe per second at most,
however many names are in use; when it is back the watches begin anew, spread over a moment.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import consul
import trio
from attrs import frozen

from hostmesh.base.backoff import Decorrelated
from hostmesh.naming.addr import AddrBound, AddrPending, Endpoint
from hostmesh.protocol.tls.server_name import server_name_of
from hostmesh.registry.consul_transport import ANSWER_S, Client, Transport, Unreachable
from hostmesh.registry.tls_context import ClientContexts, TlsSettings
from hostmesh.registry.tls_trouble import objection, tls_error, told

if TYPE_CHECKING:
    from random import Random

    from hostmesh.naming.namer import Resolver
    from hostmesh.registry.watched import Report

CONNECT_S = 2.0
"""For one address of the agent, the TLS handshake included. It is on this host or in this data centre."""

PROBE_EVERY_S = 5.0
"""Seconds between questions while all is well."""

PROBE_ANSWER_S = 2.0
"""An agent that takes longer is asked once more before it counts as away: it may only be busy, and to interrupt all
watches of a busy agent makes it busier."""

RETRY = Decorrelated(0.05, 1.0)
"""Seconds between questions while it is away: it is used again within a second of its return."""

KEEPALIVE_S = (10, 5, 3)
"""TCP's own probes: idle seconds before the first, seconds between, and how many may be lost."""


@frozen(kw_only=True)
class AgentAddress:
    """Where the agent is and how it is spoken to."""

    host: str
    port: int
    tls: TlsSettings | None = None
    server_name: str | None = None
    """The name that its certificate must carry."""
    token: str | None = None
    consistency: str = "default"

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Agent:
    """One user's view of an agent; :meth:`run` keeps asking whether it is there.

    Before the first word it counts as reachable, so that the first look-up does not wait for a probe.
    """

    def __init__(
        self,
        address: AgentAddress,
        resolver: Resolver,
        rng: Random,
        report: Report,
        *,
        probe_every_s: float = PROBE_EVERY_S,
        probe_answer_s: float = PROBE_ANSWER_S,
    ) -> None:
        self.address = address
        self._rng = rng
        self._report = report
        self._probe_every_s = probe_every_s
        self._addr = resolver.resolve(address.host, address.port)
        self._contexts: ClientContexts | None = None
        if address.tls is not None:
            self._contexts = ClientContexts(
                address.tls, address.server_name or address.host, report, registry=address.authority
            )
        self.client = self._client(address.consistency)
        self._prober = self._client("default", probe_answer_s)
        self._used = trio.Event()
        self._users = 0
        self._up = trio.Event()
        self._up.set()
        self._doubted = trio.Event()
        self._interruptible: set[trio.CancelScope] = set()
        self.cause: str | None = None
        """Why it cannot be reached; None while it can."""
        self.outages = 0
        self.is_gone = False
        """Nobody listened at its port since it was last there: whoever answers next is another process."""
        self.returned_at = 0.0
        """trio's time of the last return."""

    def _client(self, consistency: str, answer_s: float = ANSWER_S) -> Client:
        transport = Transport(
            self._dial,
            self.address.authority,
            token=self.address.token,
            consistency=consistency,
            answer_s=answer_s,
        )
        return Client(transport, consistency=consistency)

    @property
    def is_up(self) -> bool:
        """False from the probe that failed to the one that succeeds."""
        return self.cause is None

    @contextmanager
    def used(self) -> Iterator[None]:
        """The agent is probed while anybody is inside."""
        self._users += 1
        self._used.set()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._used = trio.Event()

    @contextmanager
    def interruptible(self) -> Iterator[trio.CancelScope]:
        """The body is cancelled when the agent is found to be away; the scope's ``cancelled_caught`` says so."""
        with trio.CancelScope() as scope:
            self._interruptible.add(scope)
            try:
                yield scope
            finally:
                self._interruptible.discard(scope)

    async def wait_up(self) -> None:
        """Return when the agent can be reached, as far as is known."""
        await self._up.wait()

    def doubt(self) -> None:
        """A query has failed: probe now."""
        self._doubted.set()

    async def run(self) -> None:
        """Probe until cancelled; then close all kept connections."""
        # Observed, so that the name is looked up again and again.
        close = self._addr.observe(lambda _addr: None)
        self.client.transport.keeps = self._prober.transport.keeps = True
        try:
            while True:
                await self._used.wait()
                await self._probe_until_away()
                await self._probe_until_back()
        finally:
            close()
            with trio.CancelScope(shield=True):
                await self.client.transport.aclose()
                await self._prober.transport.aclose()

    async def _probe_until_away(self) -> None:
        while self._users:
            cause = await self._probe()
            if isinstance(cause, consul.Timeout):
                cause = await self._probe()
            if cause is not None:
                self._away(str(cause))
                return
            self._doubted = trio.Event()
            # Jittered, for the same instant on a thousand hosts is a load of its own.
            with trio.move_on_after(self._probe_every_s * (0.75 + self._rng.random() / 2)):
                await self._doubted.wait()

    async def _probe_until_back(self) -> None:
        delays = RETRY.delays(self._rng)
        while not self.is_up:
            await trio.sleep(next(delays))
            if await self._probe() is None:
                self._back()

    async def _probe(self) -> consul.ConsulException | None:
        try:
            await self._prober.status.leader()
        except Unreachable as error:
            said = await self._objection()
            return error if said is None else Unreachable(f"no TLS with {self.address.authority}: {said}")
        except consul.Timeout as error:
            return error
        except consul.ConsulException:
            pass  # it has answered; what is wrong with it each query will find out for itself
        return None

    async def _objection(self) -> str | None:
        """Why there is no TLS with the agent, if that is what is wrong."""
        if self._contexts is None:
            return None
        try:
            context = await trio.to_thread.run_sync(self._contexts.current)
        except OSError:
            return None  # which is why nothing was dialled
        name = server_name_of(self.address.server_name)
        for endpoint in await self._endpoints():
            said = await objection(context, endpoint.host, endpoint.port, name, "the agent")
            if said is not None:
                return said
        return None

    def _away(self, cause: str) -> None:
        self.cause = cause
        self.outages += 1
        self._up = trio.Event()
        for scope in list(self._interruptible):
            scope.cancel()
        self._report("names.registry_lost", {"registry": self.address.authority, "cause": cause})

    def _back(self) -> None:
        self.cause = None
        self.returned_at = trio.current_time()
        self._up.set()
        self._report("names.registry_found", {"registry": self.address.authority})

    # Connecting.

    async def _dial(self) -> trio.abc.Stream:
        failure = f"{self.address.host}: unknown host"
        for endpoint in await self._endpoints():
            try:
                with trio.fail_after(CONNECT_S):
                    return await self._connect(endpoint)
            except trio.TooSlowError:
                failure = f"no connection to {endpoint.host} in {CONNECT_S:g} s"
            except trio.BrokenResourceError as error:
                cause = tls_error(error)
                said = "it cut the connection" if cause is None else told(cause, "the agent")
                failure = f"no TLS with {self.address.authority}: {said}"
            except OSError as error:
                self.is_gone = self.is_gone or _is_refusal(error)
                failure = str(error)
        raise Unreachable(failure)

    async def _connect(self, endpoint: Endpoint) -> trio.abc.Stream:
        context: ssl.SSLContext | None = None
        if self._contexts is not None:
            context = await trio.to_thread.run_sync(self._contexts.current)
        stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
        idle, every, count = KEEPALIVE_S
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
        if context is None:
            return stream
        name = self.address.server_name
        secured = trio.SSLStream(stream, context, server_hostname=server_name_of(name))
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    async def _endpoints(self) -> tuple[Endpoint, ...]:
        if isinstance(self._addr.value, AddrPending):
            known = trio.Event()
            close: Callable[[], None] = self._addr.observe(lambda _addr: known.set())
            try:
                with trio.move_on_after(CONNECT_S):
                    await known.wait()
            finally:
                close()
        return self._addr.value.endpoints if isinstance(self._addr.value, AddrBound) else ()


def _is_refusal(error: BaseException) -> bool:
    """Whether nobody listens there; trio wraps what happened at each address."""
    if isinstance(error.__cause__, BaseExceptionGroup):
        return all(map(_is_refusal, error.__cause__.exceptions))
    return isinstance(error.__cause__ or error, ConnectionRefusedError)
