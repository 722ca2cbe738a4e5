"""Host names to addresses, by the system's resolver (files, DNS, whatever nsswitch.conf says), never
blocking.

IP addresses are answered at once, ``localhost`` at once with 127.0.0.1 (and ``::1`` when the system adds it).
Everything else is looked up in a few threads, again and again while it is observed.
"""

from __future__ import annotations

import re
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import trio
from attrs import frozen

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.registry.freshness import HOLD_S, Freshness
from hostmesh.registry.journal import Journal
from hostmesh.registry.watched import Report, no_report

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.registry.alarms import Alarms

TTL_S = 5.0
"""The system's resolver does not tell a record's TTL; Linkerd 1 resolves every 5 s."""

RETRY_S = 1.0
"""After a failure. A name server that is back is used within a second."""

TIMEOUT_S = 5.0
"""For one look-up, the waiting for a thread included."""

THREADS = 8
"""Look-ups at the same time. A thread stays taken until the C library gives up, 10 s and more with dead
servers."""

MAX_NAMES = 10_000
"""(host, port) pairs observed at the same time. A request's own dtab can ask for any name, so there must be a
bound; above it names are Failed."""

MAX_IDLE = 1_000
"""Answers kept for names that are not observed just now; they are used for TTL_S."""

_NUMERIC = re.compile(r"[0-9]+(?:\.[0-9]+){0,3}", re.ASCII)
_ENDS_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?", re.ASCII)
_LOCALHOST = "localhost"


@frozen
class Unknown:
    """There is no such name."""


@frozen
class Unresolved:
    """It cannot be known now."""

    cause: str


Answer: TypeAlias = "tuple[str, ...] | Unknown | Unresolved"
"""Numeric addresses, or why there are none."""


def literal(host: str) -> str | None:
    """The address that ``host`` writes in figures, canonical; None when it is no address.

    IPv6 may stand in brackets. IPv4 has the short forms of inet_aton(3), ``127.1`` for 127.0.0.1, but decimal
    only: a leading zero means octal to some and nothing to others, and an address that two programs read
    differently is a way around access rules.
    """
    if ":" in host:
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
        except OSError:
            return None
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        # All but the short forms. Strict about leading zeros, so that what it takes is canonical.
        socket.inet_pton(socket.AF_INET, host)
        return host
    except OSError:
        pass
    parts = host.split(".")
    if any(len(part) > 1 and part.startswith("0") for part in parts):
        return None
    *leading, last = map(int, parts)
    room = 4 - len(leading)
    if any(part > 255 for part in leading) or last >= 256**room:
        return None
    return socket.inet_ntoa(bytes(leading) + last.to_bytes(room, "big"))


def system_lookup(host: str) -> Answer:
    """Ask the C library. Blocks; runs in a thread."""
    try:
        # ADDRCONFIG: no IPv6 addresses on a machine without IPv6.
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
            return Unknown()
        return Unresolved(f"{host}: {error.strerror}")
    except UnicodeError:
        return Unknown()  # a label of more than 63 characters, or none at all
    except OSError as error:
        return Unresolved(f"{host}: {error}")
    # An address with a zone (fe80::1%eth0) means nothing outside of this look-up.
    hosts = {str(info[4][0]) for info in found}
    return tuple(sorted(host for host in hosts if "%" not in host))


class _Name:
    """One observed (host, port)."""

    def __init__(self, resolver: Resolver, host: str, port: int) -> None:
        self.host = host
        self.port = port
        first: Addr = ADDR_PENDING
        if host == _LOCALHOST:
            first = AddrBound((Endpoint("127.0.0.1", port),))
        self.addr: Var[Addr] = Var(
            resolver.turn,
            first,
            on_active=lambda: resolver.start(self),
            on_idle=lambda: resolver.stop(self),
        )
        self.fresh = Freshness(
            f"{host}:{port}",
            self.addr,
            resolver.alarms,
            resolver.journal,
            hold_s=resolver.hold_s,
            source="resolver",
            report=resolver.report,
        )

    def take(self, answer: Answer) -> None:
        match answer:
            case Unknown():
                self.fresh.absent()
            case Unresolved(cause):
                self.fresh.failed(cause)
            case _:
                self.fresh.found(Endpoint(host, self.port) for host in answer)


class _Host:
    """One host name with its observed ports."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.names: dict[_Name, None] = {}
        self.waits = False
        """In the queue, in a thread, or between two look-ups."""
        self.answer: Answer | None = None
        self.at = -inf


class Resolver:
    """Addresses of host names as Vars; ``run`` must run for names to be looked up."""

    def __init__(
        self,
        turn: Turn,
        env: Env,
        alarms: Alarms,
        report: Report = no_report,
        *,
        lookup: Callable[[str], Answer] = system_lookup,
        ttl_s: float = TTL_S,
        retry_s: float = RETRY_S,
        timeout_s: float = TIMEOUT_S,
        hold_s: float = HOLD_S,
        max_names: int = MAX_NAMES,
        max_idle: int = MAX_IDLE,
    ) -> None:
        self.turn = turn
        self.alarms = alarms
        self.report = report
        self.hold_s = hold_s
        self.journal = Journal(env)
        self._env = env
        self._lookup = lookup
        self._ttl_s = ttl_s
        self._retry_s = retry_s
        self._timeout_s = timeout_s
        self._max_names = max_names
        self._max_idle = max_idle
        self._names: dict[tuple[str, int], _Name] = {}
        self._hosts: dict[str, _Host] = {}
        self._idle: OrderedDict[str, _Host] = OrderedDict()
        self._rng = env.rng("resolver")
        self._queue: deque[_Host] = deque()  # each host once, so bounded by max_names
        self._queued = trio.Semaphore(0)
        self._threads = trio.CapacityLimiter(THREADS)
        self._active = 0
        self.lookups = 0
        self.failures = 0
        self.timeouts = 0
        self.refused = 0
        """Names not looked up because there were too many."""

    def __len__(self) -> int:
        """How many (host, port) pairs are observed."""
        return self._active

    def resolve(self, host: str, port: int) -> Var[Addr]:
        """The addresses of ``host``, each with ``port``: the same Var for as long as it is observed.

        An unknown host is AddrNeg, other failures AddrFailed; after the first good answer failures keep it.
        The caller has checked that the port is one.
        """
        address = literal(host)
        if address is not None:
            return Var(self.turn, AddrBound((Endpoint(address, port),)))
        if not host or _ENDS_NUMERIC.fullmatch(host):
            # The C library would read 0x7f.1 or 010.1 as addresses.
            return Var(self.turn, ADDR_NEG)
        host = host.lower()
        # Kept from its first observation on, so that merely asking costs no memory.
        name = self._names.get((host, port)) or _Name(self, host, port)
        return name.addr

    # Called by names.

    def start(self, name: _Name) -> None:
        """Somebody observes."""
        self._active += 1
        if self._active > self._max_names:
            self.refused += 1
            name.addr.set(AddrFailed(f"{name.host}: more than {self._max_names} host names are in use"))
            return
        self._names.setdefault((name.host, name.port), name)
        host = self._hosts.get(name.host) or self._idle.pop(name.host, None) or _Host(name.host)
        self._hosts[name.host] = host
        host.names[name] = None
        if host.answer is not None and self._env.now() - host.at < self._ttl_s:
            name.take(host.answer)
        self._ask(host)

    def stop(self, name: _Name) -> None:
        """Nobody observes any more."""
        self._active -= 1
        if self._names.get((name.host, name.port)) is name:
            del self._names[name.host, name.port]
        name.fresh.forget()
        if name.host == _LOCALHOST:
            name.addr.set(AddrBound((Endpoint("127.0.0.1", name.port),)))
        host = self._hosts.get(name.host)
        if host is None or name not in host.names:
            return  # it was refused
        del host.names[name]
        if host.names:
            return
        del self._hosts[name.host]
        if host.answer is not None:
            self._idle[name.host] = host
            while len(self._idle) > self._max_idle:
                self._idle.popitem(last=False)

    # Looking up.

    def _ask(self, host: _Host) -> None:
        if not host.waits:
            host.waits = True
            self._queue.append(host)
            self._queued.release()

    async def run(self) -> None:
        """Look names up until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(THREADS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            await self._queued.acquire()
            host = self._queue.popleft()
            if host.names:
                await self._visit(host)
            else:
                host.waits = False

    async def _visit(self, host: _Host) -> None:
        self.lookups += 1
        answer: Answer = Unresolved(f"{host.name}: no answer in {self._timeout_s:g} s")
        with trio.move_on_after(self._timeout_s) as scope:
            answer = await trio.to_thread.run_sync(
                self._lookup, host.name, limiter=self._threads, abandon_on_cancel=True
            )
        if scope.cancelled_caught:
            self.timeouts += 1
        self._take(host, _only_loopback(host.name, answer))

    def _take(self, host: _Host, answer: Answer) -> None:
        delay = self._ttl_s
        if isinstance(answer, Unresolved):
            self.failures += 1
            # Jittered, so that a thousand names do not come back to a recovering name server at once.
            delay = self._retry_s * (0.5 + self._rng.random())
        else:
            host.answer = answer
            host.at = self._env.now()
        for name in list(host.names):
            name.take(answer)
        self.alarms.after(delay, lambda: self._again(host))

    def _again(self, host: _Host) -> None:
        host.waits = False
        if host.names:
            self._ask(host)

    def state(self) -> Mapping[str, object]:
        """For the admin page."""
        names = {name.fresh.name: name.fresh.state() for host in self._hosts.values() for name in host.names}
        return {
            "lookups": self.lookups,
            "failures": self.failures,
            "timeouts": self.timeouts,
            "refused": self.refused,
            "names": names,
        }


def _only_loopback(host: str, answer: Answer) -> Answer:
    """``localhost`` is this machine whatever a name server says (RFC 6761 section 6.3), and always exists."""
    if host != _LOCALHOST:
        return answer
    if isinstance(answer, tuple):
        answer = tuple(address for address in answer if address == "::1" or address.startswith("127."))
        if answer:
            return answer
    return ("127.0.0.1",)
