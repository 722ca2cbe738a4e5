"""A small DNS client on trio: UDP, and TCP for what does not fit.

It asks the configured name servers, or those of resolv.conf, and follows aliases. It keeps no answers but addresses
of SRV targets, each for its TTL. Every question has a new random id and port, and an answer counts only from the
address that was asked and for the question that was asked.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict
from collections.abc import Sequence
from random import SystemRandom
from typing import TYPE_CHECKING, TypeAlias

import trio
from attrs import field, frozen

from hostmesh.registry import dns_wire as wire

if TYPE_CHECKING:
    from hostmesh.base.env import Env

ATTEMPT_S = 0.5
"""For one server to answer one question. Servers that recurse take longer at times; they have cached the answer by
a later attempt. A datagram lost while a server reloads must not cost as much as the TTL of a second that it was for."""

ROUNDS = 5
"""Attempts per server."""

TCP_S = 3.0
"""For an answer over TCP."""

MAX_ALIASES = 8
"""CNAMEs after each other, as resolvers have it."""

MAX_STRANGERS = 20
"""Datagrams that are not the answer, before the attempt is given up."""

MAX_KEPT = 10_000
"""Addresses of target names kept."""

MIN_TTL_S = 1
"""An answer with TTL 0 is asked for again after this."""

NEGATIVE_TTL_S = 5
"""For an absence whose server does not say how long it holds; and the longest that one is believed."""

NO_ANSWER = "no answer"

_RANDOM = SystemRandom()

_Heard: TypeAlias = "tuple[wire.Message, bytes | None]"
"""A message, and what it was read from but for its id; None for one that came over TCP."""


class DnsError(OSError):
    """No server could say."""


@frozen
class Found:
    """Records of the asked type, aliases followed."""

    records: tuple[wire.Record, ...]
    ttl: float
    """Seconds, the smallest of the chain."""
    additional: tuple[wire.Record, ...] = ()
    raw: bytes | None = field(default=None, repr=False, eq=False)
    """The message without its id, if this is all in one."""


@frozen
class NotFound:
    """There is no such name, or it has no record of this type."""

    ttl: float


class DnsClient:
    """Asks ``servers``, (ip, port) pairs, the first that answers counts; the list may be replaced at any time."""

    def __init__(self, env: Env, servers: Sequence[tuple[str, int]] = ()) -> None:
        self.servers = tuple(servers)
        self._env = env
        self._kept: OrderedDict[tuple[str, int], tuple[float, tuple[str, ...]]] = OrderedDict()
        self._best: tuple[str, int] | None = None
        self.questions = 0
        self.over_tcp = 0
        self.strangers = 0
        """Datagrams that were not the answer to a question."""

    async def ask(self, name: str, type: int) -> Found | NotFound:
        """The records of a canonical name. Raises DnsError when no server can say. May be cancelled."""
        answer = await self.ask_again(name, type, None)
        assert answer is not None
        return answer

    async def ask_again(self, name: str, type: int, known: bytes | None) -> Found | NotFound | None:
        """The same; None if the answer is byte for byte the one whose ``raw`` was ``known``. Most are, and reading them
        again would be most of the work."""
        ttl = float(wire.MAX_TTL)
        for hop in range(MAX_ALIASES):
            heard = await self._one(name, type, known if hop == 0 else None)
            if heard is None:
                return None
            message, raw = heard
            if message.rcode == wire.NXDOMAIN:
                return NotFound(min(ttl, _negative(message)))
            owner = name
            for _alias in range(MAX_ALIASES):
                alias = next((r for r in message.answer if r.type == wire.CNAME and r.name == owner), None)
                if alias is None or type == wire.CNAME:
                    break
                owner, ttl = str(alias.data), min(ttl, alias.ttl)
            records = tuple(r for r in message.answer if r.type == type and r.name == owner)
            if records:
                ttl = min(ttl, *(r.ttl for r in records)) if len(records) > 1 else min(ttl, records[0].ttl)
                return Found(records, max(ttl, MIN_TTL_S), message.additional, raw if hop == 0 else None)
            if owner == name:
                return NotFound(min(ttl, _negative(message)))
            name = owner
        raise DnsError(f"{name}: more than {MAX_ALIASES} aliases after each other")

    async def addresses(self, name: str, *, v6: bool) -> Found | NotFound:
        """A and (``v6``) AAAA records together."""
        answers = [await self.ask(name, wire.A)]
        if v6:
            answers.append(await self.ask(name, wire.AAAA))
        found = [answer for answer in answers if isinstance(answer, Found)]
        if not found:
            return NotFound(min(answer.ttl for answer in answers))
        records = tuple(record for answer in found for record in answer.records)
        return Found(records, min(answer.ttl for answer in answers))

    async def kept_addresses(self, name: str, *, v6: bool) -> tuple[tuple[str, ...], float]:
        """The same from what is known for its TTL: addresses (none if there is no such name), and the seconds for
        which they hold."""
        now = self._env.now()
        kept = self._kept.get((name, v6))
        if kept is not None and kept[0] > now:
            return kept[1], kept[0] - now
        answer = await self.addresses(name, v6=v6)
        addresses = tuple(str(record.data) for record in answer.records) if isinstance(answer, Found) else ()
        self._kept[name, v6] = (now + answer.ttl, addresses)
        self._kept.move_to_end((name, v6))
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return addresses, answer.ttl

    # One question.

    async def _one(self, name: str, type: int, known: bytes | None) -> _Heard | None:
        """None: the answer is ``known``."""
        if not self.servers:
            raise DnsError("expected at least one name server, found none (resolv.conf)")
        causes: dict[str, None] = {}
        for _ in range(ROUNDS):
            # The one that answered last first: one that is down must not cost every question a second.
            for host, port in sorted(self.servers, key=lambda server: server != self._best):
                self.questions += 1
                try:
                    heard = await self._exchange(host, port, name, type, known)
                except (OSError, wire.DnsFormatError) as error:
                    causes[f"{host}:{port}: {error or error.__class__.__name__}"] = None
                    continue
                if heard is None or heard[0].rcode in (wire.NOERROR, wire.NXDOMAIN):
                    self._best = (host, port)
                    return heard
                causes[f"{host}:{port}: {wire.RCODES.get(heard[0].rcode, heard[0].rcode)}"] = None
            if not any(NO_ANSWER in cause for cause in causes):
                # They have all spoken; who asks comes back soon enough.
                break
        raise DnsError(f"{name}: {'; '.join(causes)}")

    async def _exchange(
        self, host: str, port: int, name: str, type: int, known: bytes | None
    ) -> _Heard | None:
        with trio.move_on_after(ATTEMPT_S) as scope:
            heard = await self._over_udp(host, port, name, type, known)
        if scope.cancelled_caught:
            raise DnsError(f"{NO_ANSWER} in {ATTEMPT_S:g} s")
        if heard is not None and heard[0].is_truncated:
            return await self._over_tcp(host, port, name, type), None
        return heard

    async def _over_udp(
        self, host: str, port: int, name: str, type: int, known: bytes | None
    ) -> _Heard | None:
        # Not trio's sockets: their connect and send are checkpoints, and cost as much as everything else together.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            # Connected, so that the kernel drops what others send and tells of a closed port.
            sock.connect((host, port))
            id = _RANDOM.randrange(65536)
            sock.send(wire.question(id, name, type))
            for _ in range(MAX_STRANGERS):
                data = await _datagram(sock)
                if known is not None and data[2:] == known and data[:2] == id.to_bytes(2, "big"):
                    return None
                message = self._answer(data, id, name, type)
                if message is not None:
                    return message, data[2:]
                self.strangers += 1
        raise DnsError(f"{MAX_STRANGERS} datagrams that are no answer")

    def _answer(self, data: bytes, id: int, name: str, type: int) -> wire.Message | None:
        """None: whatever it is, it is not the answer to this question."""
        try:
            message = wire.read(data)
        except wire.DnsFormatError:
            if data[:2] == struct.pack("!H", id):
                raise
            return None
        return message if message.id == id and message.question == (name, type) else None

    async def _over_tcp(self, host: str, port: int, name: str, type: int) -> wire.Message:
        self.over_tcp += 1
        id = _RANDOM.randrange(65536)
        query = wire.question(id, name, type)
        with trio.move_on_after(TCP_S):
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(struct.pack("!H", len(query)) + query)
                length = struct.unpack("!H", await _exactly(stream, 2))[0]
                message = self._answer(await _exactly(stream, length), id, name, type)
            if message is None or message.is_truncated:
                raise DnsError("an answer over TCP that is not to the question, or not whole")
            return message
        raise DnsError(f"{NO_ANSWER} over TCP in {TCP_S:g} s")


async def _datagram(sock: socket.socket) -> bytes:
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            return sock.recv(65535)
        except BlockingIOError:
            continue  # its checksum was wrong


async def _exactly(stream: trio.SocketStream, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            more = await stream.receive_some(count - len(data))
        except trio.BrokenResourceError as error:
            raise DnsError(f"connection broken: {error.__cause__ or error}") from error
        if not more:
            raise DnsError("connection closed in the middle of an answer")
        data += more
    return bytes(data)


def _negative(message: wire.Message) -> float:
    ttl = message.negative_ttl()
    return NEGATIVE_TTL_S if ttl is None else max(min(ttl, NEGATIVE_TTL_S), MIN_TTL_S)


def servers_of(resolv_conf: str) -> tuple[tuple[str, int], ...]:
    """The name servers of a resolv.conf(5), at most three, as the C library has it."""
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append((words[1], 53))
    return tuple(found[:3]) or (("127.0.0.1", 53),)


def has_ipv6(if_inet6: str) -> bool:
    """Whether this host has an IPv6 address that reaches further than a link, from /proc/net/if_inet6."""
    return any(line.split()[3] == "00" for line in if_inet6.splitlines() if len(line.split()) > 3)
