"""One service in Consul, followed with blocking queries while it is in use.

The loop has one query in flight at a time: a plain one first, then one after the other that the agent answers when
something has changed or half a minute has passed; plain ones now and then while there is no place for that. After any
failure it begins again with a plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import consul
import trio

from hostmesh.base.backoff import Decorrelated
from hostmesh.plugin import (
    PENDING,
    Path,
)
from hostmesh.registry.consul_transport import ServiceAnswer, Unreachable
from namer.consul_format import (
    Instance,
    instance_of,
    next_index,
)
from namer.consul_known import KnownService

if TYPE_CHECKING:
    from hostmesh.registry.rotation import Place
    from namer.consul import ConsulNamer

WAIT_S = 30.0
"""For how long a query blocks. Each name is confirmed this often, which costs 200 names 7 requests per second; that the
agent is alive is noticed sooner, by its probes."""

RETRY = Decorrelated(0.01, 1.0)
"""Seconds between attempts to follow one name."""

LOOK_S = 3.0
"""Seconds of plain queries after one that ended early for no reason; restoring a snapshot takes about one."""

SPREAD_NAMES = 500
"""When an agent returns, names begin anew at this rate per second, but all within a second."""

PARSE_STEP = 200
"""Entries read before the data path gets a turn: about a millisecond."""

REFUSED_S = 0.5
"""A query that fails sooner than this may have been refused for want of connections: agents then close new ones."""

BURST = 50
"""Changes of one name that are taken as fast as they come."""

CHANGES_PER_S = 20.0
"""Changes of one name per second that are taken for ever; more is a registry gone wrong, whose changes are taken
together."""

CAUSE_LENGTH = 300
"""Characters of an error that are kept: it may hold a whole page."""


class Service(KnownService):
    """What is at one path: ``/<dc>/[<tag>/]<service>``.

    It lives while ``kind`` or ``addr`` is observed, and is then the only one for its path.
    """

    def __init__(self, namer: ConsulNamer, names: Path) -> None:
        super().__init__(namer, names)
        self._dc = None if names[0] == ".local" else names[0]
        self._tag = names[1].lower() if len(names) == 3 else None
        self._service = names[-1].lower()
        self._is_blocking = False
        """The next query waits for an index above ``index``."""
        self._asked = 0.0
        self._looking_until = 0.0
        self._is_new = True
        self._last_refused = ""
        self._allowance = float(BURST)
        self._answered = 0.0
        self._fruitless = 0
        self._stop: Callable[[], None] | None = None

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
            self._stop = None
        self._names.close()
        self._hosts = {}
        self._instances = None
        self._is_complete = False
        self.fresh.forget()
        self.kind.set(PENDING)
        self._namer.drop(self)

    # Following.

    async def _follow(self) -> None:
        namer = self._namer
        delays = RETRY.delays(namer.rng)
        with namer.agent.used():
            while True:
                answered = self._answered
                try:
                    await self._watch()
                except consul.ConsulException as error:
                    cause = f"{type(error).__name__}: {error}"
                except Exception as error:  # noqa: BLE001  a bug must not leave a name as it is for ever
                    namer.report("names.watch_broken", {"name": self.fresh.name, "error": repr(error)})
                    cause = f"internal error: {error!r}"
                namer.errors.value += 1
                namer.agent.doubt()
                self.fresh.failed(cause[:CAUSE_LENGTH])
                if self._answered != answered:
                    delays = RETRY.delays(namer.rng)
                await trio.sleep(next(delays))

    async def _watch(self) -> None:
        """Follow the name until something fails."""
        agent, rotation = self._namer.agent, self._namer.rotation
        if not agent.is_up:
            await agent.wait_up()
            if agent.is_gone:
                agent.is_gone = False
                rotation.begin_anew()
            await trio.sleep(self._namer.rng.random() * min(1.0, len(self._namer) / SPREAD_NAMES))
        authority = await self._namer.authority(self._dc, self._tag, self._service)
        self.index = 0
        # What was said before the failure counts anew: removals that were due then have been put off.
        self._is_new = True
        await self._look(authority)
        while True:
            with rotation.place() as place:
                while not await place.granted_within(self._gap_s()):
                    await self._look(authority)
                since = self._namer.env.now()
                while not rotation.is_over(self._namer.env.now() - since):
                    try:
                        answer = await self._ask(place)
                    except Unreachable:
                        if not agent.is_up or self._namer.env.now() - self._asked > REFUSED_S:
                            raise
                        # Somebody else on this host has connections to the agent, too. If it answers a look, it is
                        # there: try again for a watch later.
                        await self._look(authority)
                        self._namer.crowded.value += 1
                        break
                    await self._take(answer, authority)
                else:
                    continue
            await trio.sleep(self._gap_s())
            await self._look(authority)

    def _gap_s(self) -> float:
        return self._namer.rotation.gap_s() * (0.9 + 0.1 * self._namer.rng.random())

    async def _look(self, authority: str | None) -> None:
        """Ask and do not wait for a change."""
        self._is_blocking = False
        async with self._namer.rotation.looks:
            answer = await self._ask()
        await self._take(answer, authority)

    async def _ask(self, place: Place | None = None) -> ServiceAnswer:
        """One query; ``place`` is where it may wait for a change."""
        namer = self._namer
        options: dict[str, Any] = {"dc": self._dc, "tag": self._tag}
        self._asked = namer.env.now()
        if self._is_blocking:
            options["index"] = str(self.index)
            options["wait"] = f"{round(namer.wait_s * 1000)}ms"
            if place is not None:
                place.busy_until = self._asked + namer.wait_s * 17 / 16
        client = namer.agent.client
        answer: ServiceAnswer | None = None
        try:
            with namer.agent.interruptible() as lost:
                if namer.reading.use_health:
                    options["passing"] = namer.only_passing
                    answer = await client.health.service(self._service, **options)
                else:
                    answer = await client.catalog.service(self._service, **options)
        except consul.ConsulException:
            # Not when it was cut short: the agent does not notice that.
            if place is not None:
                place.busy_until = None
            raise
        if place is not None and not lost.cancelled_caught:
            place.busy_until = None
        if lost.cancelled_caught or answer is None:
            raise Unreachable(namer.agent.cause)
        return answer

    async def _take(self, answer: ServiceAnswer, authority: str | None) -> None:
        namer = self._namer
        now = namer.env.now()
        said = answer.version
        index, is_replaced = next_index(self.index, said)
        if is_replaced:
            namer.resets.value += 1
        # An agent that is about to restore a snapshot ends blocking queries early, still with the old index; to block
        # on that again would be to wait for an index that may be far away. So look at what there is, for a while.
        if self._is_blocking and index == self.index and now - self._asked < namer.wait_s:
            self._looking_until = now + LOOK_S
        self._is_blocking = not is_replaced and now >= self._looking_until
        self.index = index
        entries = answer.entries
        instances: set[Instance] = set()
        refused = 0
        for number, entry in enumerate(entries, 1):
            try:
                instance = instance_of(entry, namer.reading, authority)
            except ValueError as error:
                refused += 1
                if refused == 1 and str(error) != self._last_refused:
                    self._last_refused = str(error)
                    namer.report(
                        "names.instance_refused", {"name": self.fresh.name, "cause": self._last_refused}
                    )
            else:
                if instance is not None:
                    instances.add(instance)
            if number % PARSE_STEP == 0:
                await trio.lowlevel.checkpoint()
        namer.malformed.value += refused
        if refused and not instances:
            raise consul.ConsulException(f"none of {refused} instances can be used")
        found = frozenset(instances)
        is_news = found != self._instances
        if is_news or self._is_new or answer.complete != self._is_complete:
            self._is_new = False
            namer.updates.value += 1
            self.updated = namer.env.wall()
            self._use(found, said, answer.complete)
        elif answer.complete:
            self.fresh.confirm()
        await self._pace(now, is_news)

    async def _pace(self, now: float, is_news: bool) -> None:
        """Neither a busy agent, whose index moves for other services' sake, nor a service that changes all the time
        may keep this loop busy."""
        elapsed, self._answered = now - self._answered, now
        self._allowance = min(BURST, self._allowance + elapsed * CHANGES_PER_S)
        if is_news:
            self._fruitless = 0
            self._allowance -= 1
            if self._allowance < 0:
                await trio.sleep(-self._allowance / CHANGES_PER_S)
        elif elapsed < 1.0:
            self._fruitless = min(self._fruitless + 1, 10)
            await trio.sleep(min(1.0, 0.005 * 2**self._fruitless) * (0.5 + self._namer.rng.random() / 2))
        else:
            self._fruitless = 0
