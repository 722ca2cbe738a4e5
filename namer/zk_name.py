"""One name in ZooKeeper: a node whose children are its members, followed while it is in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import trio
from attrs import frozen

from hostmesh.base.backoff import Decorrelated
from hostmesh.plugin import (
    ADDR_PENDING,
    PENDING,
    Addr,
    AddrBound,
    AddrFailed,
    AddrNeg,
    AddrPending,
    Failed,
    Path,
    Pending,
    Var,
)
from hostmesh.registry.freshness import MAX_ENDPOINTS, Freshness
from hostmesh.registry.hostnames import HostNames, Named
from hostmesh.registry.zk_place import Listing, LostError, NoNodeError, UnreadableError

if TYPE_CHECKING:
    from namer.zk import ZkNamer

RESYNC_S = 60.0
"""How often a name is read again though no watch has fired, against whatever a watch may miss."""

REREAD = 5
"""Of the members' data, which nobody is told of when it changes, every resync reads one part in so many: members
are not changed in practice, and one that is will be noticed within five minutes."""

RETRIES = Decorrelated(0.05, 1.0)
"""Seconds between attempts to read a name that cannot be read."""

PARSE_STEP = 100
"""Members parsed before the data path gets a turn: about a millisecond."""

MAX_CHILDREN = 100_000
"""Children of a node. More is a registry gone wrong, and even its list would stop the data path for a while."""

ATTEMPTS = 5
"""Readings of a node that comes and goes, before that is an error."""


@frozen
class IsBound:
    """A name."""


@frozen
class IsMissing:
    """No such name: a shorter path may be one."""


Kind: TypeAlias = Pending | Failed | IsBound | IsMissing


class Format(Protocol):
    """How the children of a node stand for a replica set. Pure."""

    has_endpoints: bool
    """Whether ``:name`` on the last segment chooses one of the members' endpoints."""

    replaces: bool
    """Whether a new set takes the place of the old at once: of two leaders only the later one leads. That there is none
    is believed after the hold all the same."""

    def wanted(self, children: list[str]) -> list[str]:
        """The children to be read."""
        ...

    def parse(self, child: str, data: bytes, endpoint: str | None) -> Any:
        """What a child says; None: nothing to this name. ValueError says what is malformed."""
        ...

    def combine(self, parsed: Mapping[str, Any]) -> list[Named]:
        """The replica set of all children."""
        ...


class Name:
    """It lives while ``kind`` or ``addr`` is observed, and is then the only one for its path."""

    def __init__(self, namer: ZkNamer, names: Path) -> None:
        self.names = names
        self.id = namer.root_id + names
        last, _colon, endpoint = (
            names[-1].partition(":") if namer.format.has_endpoints else (names[-1], "", "")
        )
        self.node = "/" + "/".join((*names[:-1], last))
        self._endpoint = endpoint or None
        self._namer = namer
        self.kind: Var[Kind] = Var(namer.turn, PENDING, on_active=self._retain, on_idle=self._release)
        self.addr: Var[Addr] = Var(namer.turn, ADDR_PENDING, on_active=self._retain, on_idle=self._release)
        self.fresh = Freshness(
            self.id.show(),
            self.addr,
            namer.shared.alarms,
            namer.journal,
            hold_s=namer.hold_s,
            source=f"zookeeper {namer.ensemble.place.show()}",
            report=namer.report,
            on_believed=self._classify,
            warm=namer.shared.warm,
            guard=namer.shared.guard,
        )
        self._retained = 0
        self._stop: Callable[[], None] | None = None
        self._woken = trio.Event()
        self._hosts = HostNames(namer.shared.resolver, self._combine)
        self._parsed: dict[str, Any] = {}
        """What each child says, oldest reading first; a ValueError for a malformed one."""
        self._listing: Listing | None = None
        """The last one."""
        self._armed_by = 0
        """The connection, counted, that the watch was armed on."""
        self.started = 0.0
        self.updated: float | None = None

    def age(self) -> float | None:
        """Seconds since the server last confirmed what is believed: an armed watch that has not fired is confirmed
        by whatever the server answers."""
        ensemble, confirmed = self._namer.ensemble, self.fresh.confirmed
        if confirmed is None:
            return None
        if self.fresh.error is None and self._armed_by == ensemble.connects and ensemble.alive is not None:
            confirmed = max(confirmed, ensemble.alive)
        return self._namer.env.now() - confirmed

    # Observed or not.

    def _retain(self) -> None:
        self._retained += 1
        if self._retained == 1:
            self._namer.keep(self)
            self.started = self._namer.env.wall()
            self._stop = self._namer.shared.tasks.start(self._follow)

    def _release(self) -> None:
        self._retained -= 1
        if self._retained:
            return
        if self._stop is not None:
            self._stop()
        self._hosts.close()
        self._parsed, self._listing = {}, None
        self._armed_by = 0
        self.fresh.forget()
        self.kind.set(PENDING)
        self._namer.drop(self)

    # Following.

    async def _follow(self) -> None:
        namer, ensemble = self._namer, self._namer.ensemble
        if ensemble.trouble is not None:
            self.fresh.failed(ensemble.trouble)
        rng = namer.rng
        retries = RETRIES.delays(rng)
        is_resync = False
        with ensemble.following(self.node, self._wake):
            while True:
                await ensemble.wait_connected()
                self._woken = trio.Event()
                try:
                    async with ensemble.reading:
                        await self._read(is_resync)
                except LostError:
                    pause = next(retries)
                except UnreadableError as error:
                    namer.errors.value += 1
                    self.fresh.failed(str(error))
                    pause = next(retries)
                else:
                    retries = RETRIES.delays(rng)
                    pause = RESYNC_S * (0.8 + 0.4 * rng.random())
                with trio.move_on_after(pause) as waiting:
                    await self._woken.wait()
                is_resync = waiting.cancelled_caught

    def _wake(self) -> None:
        self._woken.set()

    async def _read(self, is_resync: bool) -> None:
        """Read the node with its watch. Raises UnreadableError."""
        ensemble, form = self._namer.ensemble, self._namer.format
        connection = ensemble.connects
        for _attempt in range(ATTEMPTS):
            try:
                listing = await ensemble.children(self.node)
            except NoNodeError:
                # There is nothing to arm a watch on but the wish for it, and it may have come meanwhile.
                if await ensemble.exists(self.node):
                    continue
                self._armed_by = connection
                self._parsed, self._listing = {}, None
                self._combine()
                return
            break
        else:
            raise UnreadableError(f"{self.node}: comes and goes")
        if len(listing.names) > MAX_CHILDREN:
            raise UnreadableError(
                f"{self.node}: expected at most {MAX_CHILDREN} children, found {len(listing.names)}"
            )
        children = form.wanted(listing.names)
        if len(children) > MAX_ENDPOINTS:
            raise UnreadableError(
                f"{self.node}: expected at most {MAX_ENDPOINTS} members, found {len(children)}"
            )
        if not self._is_continuous(listing):
            self._parsed = {}
        known = self._parsed
        unread = [child for child in children if child not in known]
        there = set(children)
        if is_resync:
            unread += [child for child in known if child in there][: len(known) // REREAD + 1]
        contents = await ensemble.data([f"{self.node}/{child}" for child in unread])
        for count, (child, data) in enumerate(zip(unread, contents, strict=True)):
            known.pop(child, None)
            if data is not None:
                known[child] = self._parse(child, data)
            if count % PARSE_STEP == PARSE_STEP - 1:
                await trio.lowlevel.checkpoint()
        for child in [child for child in known if child not in there]:
            del known[child]
        self._listing = listing
        self._armed_by = connection
        self._combine()

    def _is_continuous(self, listing: Listing) -> bool:
        """Whether children of a known name are those that were read: nodes are not changed, but one may have been
        deleted and made again under the same name, which counts as two changes that the lists do not show."""
        before = self._listing
        if before is None or before.incarnation != listing.incarnation:
            return False
        changes = listing.changes - before.changes
        if changes != len(set(before.names) ^ set(listing.names)):
            return False
        return changes > 0 or listing.version == before.version

    def _parse(self, child: str, data: bytes) -> Any:
        try:
            return self._namer.format.parse(child, data, self._endpoint)
        except ValueError as error:
            self._namer.malformed.value += 1
            self._namer.report("names.malformed", {"path": f"{self.node}/{child}", "cause": str(error)[:200]})
            return error

    def _combine(self) -> None:
        """Tell what is known now. Also called when a host name has other addresses."""
        if not self._retained or not self._armed_by:
            return
        good = {
            child: said
            for child, said in self._parsed.items()
            if said is not None and not isinstance(said, ValueError)
        }
        named = self._namer.format.combine(good)
        self._hosts.follow(named)
        endpoints, is_pending, cause = self._hosts.resolved(named)
        if cause is None:
            cause = next((str(said) for said in self._parsed.values() if isinstance(said, ValueError)), None)
        version = "" if self._listing is None else self._listing.version
        self.fresh.hold_s = 0.0 if endpoints and self._namer.format.replaces else self._namer.hold_s
        if endpoints:
            self.fresh.found(endpoints, index=version, complete=not is_pending)
        elif is_pending:
            pass
        elif cause is not None:
            self.fresh.failed(f"{self.node}: {cause}")
        else:
            # A set without living members does not exist, so that alternatives in the dtab are tried: as finagle.
            self.fresh.absent(index=version)

    def lost(self, trouble: str | None) -> None:
        """The connection has gone. What is known stays; what was about to be removed is not, on the word of a
        server that is not there. ``trouble`` is what to say of names that were never read, if anything yet."""
        if self.fresh.is_settled:
            return
        if self.fresh.is_good:
            self.fresh.failed(trouble or "not connected")
        elif trouble is not None:
            self.fresh.failed(trouble)

    def _classify(self) -> None:
        """Derive ``kind`` from what is believed."""
        self.updated = self._namer.env.wall()
        match self.addr.value:
            case AddrNeg():
                self.kind.set(IsMissing())
            case AddrPending():
                self.kind.set(PENDING)
            case AddrFailed(cause):
                self.kind.set(Failed(cause))
            case AddrBound():
                self.kind.set(IsBound())

    def state(self) -> dict[str, object]:
        """For the admin page."""
        age = self.age()
        shown = self.fresh.state()
        return {
            "running": True,
            "lastStartedAt": round(self.started * 1000),
            "lastUpdatedAt": None if self.updated is None else round(self.updated * 1000),
            **shown,
            "ageMs": None if age is None else round(age * 1000),
            "error": shown["error"] or self._namer.ensemble.trouble,
            "node": self.node,
            "members": len(self._parsed),
            "malformed": sum(isinstance(said, ValueError) for said in self._parsed.values()),
        }


def gauge_age_ms(name: Name) -> Callable[[], float]:
    """For the metrics tree."""
    return partial(_age_ms, name)


def _age_ms(name: Name) -> float:
    return (name.age() or 0.0) * 1000
