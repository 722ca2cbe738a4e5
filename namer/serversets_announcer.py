"""``io.l5d.serversets`` under ``announcers``: our servers as members of ZooKeeper serversets.

A member is an ephemeral node: it goes with our session. A new session therefore means a new member, and so does one
that somebody has deleted.
"""

from __future__ import annotations

import trio
from attrs import field, frozen

from hostmesh.base.backoff import Decorrelated
from hostmesh.plugin import ClientTlsConfig, Millis, Path
from hostmesh.registry.announcer import WITHDRAW_S, AnnouncerConfig, AnnouncerDeps
from hostmesh.registry.zk_place import NoNodeError, UnreadableError
from hostmesh.registry.zookeeper import Ensemble, ensemble_of
from namer.serversets_format import MEMBER, show_member
from namer.zk import is_node
from namer.zk_config import ZkAddr, ZkAuth, check_place, place_of

CHECK_S = 60.0
"""How often a member is looked for though nothing was heard of it."""

RETRIES = Decorrelated(0.1, 1.0)
"""Seconds between attempts."""


class Membership:
    """One address in one serverset."""

    def __init__(self, announcer: ServersetsAnnouncer, path: str, host: str, port: int) -> None:
        self.path = path
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.content = show_member(host, port)
        self.node: str | None = None
        """Our member; None while there is none."""
        self._ensemble: Ensemble = announcer.ensemble
        self._announcer = announcer
        self._is_uncertain = False
        """The server was asked to make a member, and whether it has is not known."""
        self._woken = trio.Event()
        self._cause = ""

    async def keep(self) -> None:
        """Be a member until cancelled, and then no longer."""
        retries = RETRIES.delays(self._announcer.rng)
        try:
            while True:
                await self._ensemble.wait_connected()
                session = self._ensemble.session
                try:
                    await self._join(session)
                    retries = RETRIES.delays(self._announcer.rng)
                    self._cause = ""
                    await self._wait_gone(session)
                    self._report("announcement.lost")
                    self.node = None
                except UnreadableError as error:
                    if str(error) != self._cause and self._ensemble.is_connected:
                        self._cause = str(error)
                        self._report("announcement.failed", cause=self._cause)
                    await trio.sleep(next(retries))
        finally:
            with trio.move_on_after(WITHDRAW_S, shield=True):
                await self._leave()

    async def _join(self, session: str | None) -> None:
        if self._is_uncertain:
            # A lost answer to the creation: a second member would be one too many to take back.
            self.node = await self._find(session)
        if self.node is None:
            self._is_uncertain = True
            self.node = await self._ensemble.create(
                f"{self.path}/{MEMBER}", self.content, is_private=self._announcer.is_private
            )
        self._is_uncertain = False
        self._report("announced")

    async def _find(self, session: str | None) -> str | None:
        """Our member in this session, if there is one."""
        try:
            listing = await self._ensemble.children(self.path)
        except NoNodeError:
            return None
        nodes = [f"{self.path}/{name}" for name in listing.names if name.startswith(MEMBER)]
        contents = await self._ensemble.data(nodes)
        for node, content in zip(nodes, contents, strict=True):
            if content == self.content and await self._is_ours(node, session):
                return node
        return None

    async def _is_ours(self, node: str, session: str | None) -> bool:
        owner = await self._ensemble.owner(node)
        return owner is not None and session is not None and owner == int(session, 16)

    async def _wait_gone(self, session: str | None) -> None:
        """Until the member is known to be gone. The connection may come and go meanwhile."""
        assert self.node is not None
        retries = RETRIES.delays(self._announcer.rng)
        with self._ensemble.following(self.node, self._wake):
            while True:
                await self._ensemble.wait_connected()
                self._woken = trio.Event()
                pause = CHECK_S
                if self._ensemble.session != session:
                    return
                try:
                    if not await self._is_ours(self.node, session):
                        return
                    retries = RETRIES.delays(self._announcer.rng)
                except UnreadableError:
                    pause = next(retries)
                with trio.move_on_after(pause):
                    await self._woken.wait()

    async def _leave(self) -> None:
        node, self.node = self.node, None
        try:
            if self._is_uncertain and node is None:
                node = await self._find(self._ensemble.session)
            if node is not None:
                await self._ensemble.delete(node)
                self._report("withdrawn", node=node)
        except UnreadableError as error:
            # It goes with the session.
            self._report("not withdrawn", node=node, cause=str(error))

    def _wake(self) -> None:
        self._woken.set()

    def _report(self, event: str, **facts: object) -> None:
        self._announcer.deps.report(event, {"node": self.node or self.path, "address": self.address, **facts})


class ServersetsAnnouncer:
    """Keeps all announcements of one announcer in ZooKeeper."""

    def __init__(self, config: ServersetsAnnouncerConfig, deps: AnnouncerDeps) -> None:
        self.deps = deps
        self.rng = deps.env.rng(f"announcer{config.prefix_in_force.show()}")
        self.is_private = config.auth_info is not None
        self.ensemble = ensemble_of(
            deps.shared,
            place_of(config.zk_addrs, config.auth_info, config.session_timeout_ms, config.tls),
            deps.env,
            deps.report,
        )
        self.memberships = [
            Membership(self, "/" + "/".join((*config.path_prefix, *announcement.name)), host, port)
            for announcement in deps.announcements
            if all(map(is_node, announcement.name))
            for host, port in announcement.addresses
        ]
        deps.metrics.gauge("wanted", lambda: len(self.memberships))
        deps.metrics.gauge("announced", lambda: sum(m.node is not None for m in self.memberships))

    async def run(self) -> None:
        """Announce until cancelled, then take back."""
        with self.ensemble.used():
            async with trio.open_nursery() as nursery:
                for membership in self.memberships:
                    nursery.start_soon(membership.keep)

    def state(self) -> dict[str, object]:
        """For the admin page."""
        return {
            "zookeeper": self.ensemble.state(),
            "members": [{"node": m.node, "path": m.path, "address": m.address} for m in self.memberships],
        }


@frozen(kw_only=True)
class ServersetsAnnouncerConfig(AnnouncerConfig):
    """Announces servers in ZooKeeper serversets: ``/#/<prefix>/<rest>`` becomes a member of ``<pathPrefix>/<rest>``."""

    zk_addrs: tuple[ZkAddr, ...]
    """The ensemble."""

    path_prefix: Path = field(default=Path.of("discovery"))
    """The node below which serversets live."""

    session_timeout_ms: Millis = 10_000
    """*hostmesh* Milliseconds after which the servers give the session up, and with it the members of a daemon that was
    killed."""

    auth_info: ZkAuth | None = None
    """*hostmesh* Credentials. With them only we may change our members, and everybody may read them. Default: none, and
    everybody may change them."""

    tls: ClientTlsConfig | None = None
    """*hostmesh* TLS to the servers' ``secureClientPort``. ``commonName: "{host}"`` stands for each server's own
    name in ``zkAddrs``."""

    def check(self) -> list[str]:
        problems = [*super().check(), *check_place(self.zk_addrs, self.session_timeout_ms)]
        if not all(map(is_node, self.path_prefix)):
            problems.append(f"pathPrefix: found {self.path_prefix.show()}, which cannot be a ZooKeeper path")
        return problems

    def mk(self, deps: AnnouncerDeps) -> ServersetsAnnouncer:
        return ServersetsAnnouncer(self, deps)
