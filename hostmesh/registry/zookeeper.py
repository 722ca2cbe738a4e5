"""One session per ZooKeeper ensemble, shared by all namers and announcers that name the same servers.

Reads arm ZooKeeper's one-shot watches; whoever follows a path is woken when its watch fires, and after every
reconnect, because a watch may have fired unheard meanwhile. That is one wake-up per path and nothing that adds up:
a path has one watch, however often it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from hostmesh.registry.watched import Report, no_report
from hostmesh.registry.zk_place import Listing, LostError, NoNodeError, Place, UnreadableError

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.registry.shared import Shared
    from hostmesh.registry.zk_kazoo import Client

HEARTBEAT_S = 2.0
"""One request to the server, whose answer confirms every armed watch. Names are at most that much older than they
look."""

REQUEST_S = 6.0
"""For one answer. Less than the default session timeout, so that there is time to reconnect within the session."""

GRACE_S = 3.0
"""Without a connection for so long, names that were never read are Failed."""

BATCH = 50
"""Requests sent together."""

READERS = 8
"""Paths read at the same time: after a reconnect thousands want to be, and the data path wants its turn."""

RESTART_S = 1.0
MAX_RESTART_S = 30.0
"""Between clients, when one has died of refused credentials."""

END_S = 3.0
"""For closing the session; a server that hangs does not hold up the end of the daemon."""


Wake: TypeAlias = Callable[[], None]


def ensemble_of(shared: Shared, place: Place, env: Env, report: Report = no_report) -> Ensemble:
    """The one client of that ensemble. No I/O: it connects while somebody is in :meth:`Ensemble.used`."""
    key = ("zookeeper", place)
    known = shared.clients.get(key)
    if not isinstance(known, Ensemble):
        known = shared.clients[key] = Ensemble(shared, place, env, report)
    return known


def forget(shared: Shared, ensemble: Ensemble) -> None:
    """Whoever asked for this client does not want it; it goes unless somebody else uses it."""
    if not ensemble.is_used:
        shared.clients.pop(("zookeeper", ensemble.place), None)


class Ensemble:
    """A session with an ensemble, made again whenever it is lost. All of it is for trio's thread."""

    def __init__(self, shared: Shared, place: Place, env: Env, report: Report = no_report) -> None:
        self.place = place
        self._shared = shared
        self._env = env
        self._report = report
        self._client: Client | None = None
        self._users = 0
        self._stop: Callable[[], None] | None = None
        self._followers: dict[str, dict[Wake, None]] = {}
        self._listeners: dict[Callable[[], None], None] = {}
        self._connected = trio.Event()
        self._died = trio.Event()
        self._readers = trio.Semaphore(READERS)
        self.session: str | None = None
        """The id of the session, in hexadecimal as the server's log has it; None before the first."""
        self.down_since: float | None = env.now()
        """``env.now()`` since when there is no connection; None while there is one."""
        self.alive: float | None = None
        """``env.now()`` of the server's last answer."""
        self.connects = 0
        self.sessions = 0
        self.requests = 0
        self.events = 0

    # Who uses it.

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the session as long as this is entered."""
        self._users += 1
        if self._users == 1:
            self._shared.clients[("zookeeper", self.place)] = self
            self._stop = self._shared.tasks.start(self._run)
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0 and self._stop is not None:
                self._stop()
                self._stop = None
                self._shared.clients.pop(("zookeeper", self.place), None)

    @property
    def is_used(self) -> bool:
        return self._users > 0

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener()`` when the connection has come, has gone, or has been gone for GRACE_S."""
        self._listeners[listener] = None
        try:
            yield
        finally:
            del self._listeners[listener]

    @contextmanager
    def following(self, path: str, wake: Wake) -> Iterator[None]:
        """Call ``wake()`` when a watch of ``path`` fires and after each reconnect."""
        self._followers.setdefault(path, {})[wake] = None
        try:
            yield
        finally:
            followers = self._followers[path]
            del followers[wake]
            if not followers:
                del self._followers[path]
                if self._client is not None and self.is_connected:
                    self._client.forget(path)

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be read; None while connected and for a moment afterwards."""
        if self.down_since is None or self._env.now() - self.down_since < GRACE_S:
            return None
        cause = self._client.cause if self._client is not None else ""
        return f"ZooKeeper {self.place.show()}: not connected" + (f": {cause}" if cause else "")

    async def wait_connected(self) -> None:
        await self._connected.wait()

    # Requests.

    async def children(self, path: str) -> Listing:
        """The children of ``path``, whose watch is armed by it. Raises NoNodeError, UnreadableError."""
        names, stat = await self._ask(
            path, lambda client: client.get_children_async(path, watch=self._fired, include_data=True)
        )
        return Listing(names, f"{stat.pzxid:x}", (stat.czxid, stat.ctime), stat.cversion)

    async def exists(self, path: str) -> bool:
        """Whether there is such a path; arms a watch for the answer's change. Raises UnreadableError."""
        stat = await self._ask(path, lambda client: client.exists_async(path, watch=self._fired))
        return stat is not None

    async def owner(self, path: str) -> int | None:
        """The session that owns an ephemeral node (0: nobody's), armed as :meth:`exists`; None: no such node."""
        stat = await self._ask(path, lambda client: client.exists_async(path, watch=self._fired))
        return None if stat is None else int(stat.ephemeralOwner)

    async def data(self, paths: list[str]) -> list[bytes | None]:
        """What the nodes contain; None for one that is gone. No watches. Raises UnreadableError."""
        found: list[bytes | None] = []
        for start in range(0, len(paths), BATCH):
            client = self._ready()
            results = [client.get_async(path) for path in paths[start : start + BATCH]]
            for path, result in zip(paths[start:], results, strict=False):
                try:
                    content, _stat = await self._answer(path, result)
                except NoNodeError:
                    content = None
                found.append(content)
        return found

    async def create(self, path: str, content: bytes, *, is_private: bool) -> str:
        """Make an ephemeral node whose name is ``path`` and a number, with the nodes above it; its path.

        ``is_private``: only we may change it; everybody may read it. Raises UnreadableError.
        """
        from hostmesh.registry.zk_kazoo import make_acl

        acl = None
        if is_private:
            acl = [make_acl("world", "anyone", read=True), make_acl("auth", "", all=True)]

        def create(client: Client) -> Any:
            return client.create_async(path, content, acl=acl, ephemeral=True, sequence=True)

        try:
            return str(await self._ask(path, create))
        except NoNodeError:
            # The folder is everybody's, whosever the first member is.
            await self._ask(path, lambda client: client.ensure_path_async(path.rpartition("/")[0]))
        try:
            return str(await self._ask(path, create))
        except NoNodeError as error:
            raise UnreadableError(f"{path}: its parent was removed meanwhile") from error

    async def delete(self, path: str) -> None:
        """Remove a node; one that is gone already is no error. Raises UnreadableError."""
        with suppress(NoNodeError):
            await self._ask(path, lambda client: client.delete_async(path))

    @property
    def reading(self) -> trio.Semaphore:
        """Enter it around the reading of one path."""
        return self._readers

    def _ready(self) -> Client:
        if self._client is None or not self.is_connected:
            raise LostError(f"ZooKeeper {self.place.show()}: not connected")
        return self._client

    async def _ask(self, path: str, start: Callable[[Client], Any]) -> Any:
        return await self._answer(path, start(self._ready()))

    async def _answer(self, path: str, result: Any) -> Any:
        from hostmesh.registry.zk_kazoo import LOST, KazooNoNodeError

        self.requests += 1
        if not result.ready():
            done = trio.Event()
            # kazoo calls back on this thread: see TrioHandler.
            result.rawlink(lambda _result: done.set())
            with trio.move_on_after(REQUEST_S) as scope:
                await done.wait()
            if scope.cancelled_caught:
                raise UnreadableError(f"{path}: no answer from ZooKeeper within {REQUEST_S:g} s")
        else:
            await trio.lowlevel.checkpoint()
        try:
            answer = result.get(block=False)
        except KazooNoNodeError:
            self.alive = self._env.now()
            raise NoNodeError(path) from None
        except LOST as error:
            raise LostError(f"{path}: {type(error).__name__}") from error
        except Exception as error:
            raise UnreadableError(f"{path}: {type(error).__name__} {error}".rstrip()) from error
        self.alive = self._env.now()
        return answer

    # Events, on trio's thread.

    def _fired(self, event: Any) -> None:
        """A watch has fired, or kazoo drops it with the connection: then everybody will be woken anyway."""
        if event.type == "NONE":
            return
        self.events += 1
        for wake in list(self._followers.get(event.path, ())):
            wake()

    def _state_changed(self, client: Client, state: str, session: str | None, is_dead: bool) -> None:
        if client is not self._client:
            return
        if state == "CONNECTED":
            self._up(session)
            return
        self._down()
        if is_dead:
            self._died.set()

    def _up(self, session: str | None) -> None:
        self.connects += 1
        if session != self.session:
            self.sessions += 1
        self.session = session
        self.alive = self._env.now()
        self.down_since = None
        self._report(
            "zookeeper.connected",
            {"servers": self.place.show(), "session": session, "connects": self.connects},
        )
        self._connected.set()
        self._tell()
        for followers in list(self._followers.values()):
            for wake in list(followers):
                wake()

    def _down(self) -> None:
        if self.down_since is not None:
            return
        self.down_since = self._env.now()
        self._connected = trio.Event()
        cause = "" if self._client is None else self._client.cause
        self._report("zookeeper.disconnected", {"servers": self.place.show(), "cause": cause})
        self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    # Life.

    async def _run(self) -> None:
        """Keep a client until cancelled."""
        kazoo = await trio.to_thread.run_sync(_load)
        delay = RESTART_S
        place = self.place
        tls = None
        if place.tls is not None:
            tls = kazoo.Contexts(place.tls, place.server_name or kazoo.HOST, self._report)
        while True:
            client = kazoo.Client(
                place.servers, place.session_timeout_s, place.auth, wary=place.named_by_path, tls=tls
            )
            before = self.connects
            try:
                await self._serve(client)
            finally:
                if self._client is client:
                    self._client = None
                    self._down()
                with trio.move_on_after(END_S, shield=True):
                    await trio.to_thread.run_sync(client.end, abandon_on_cancel=True)
            self._report("zookeeper.restarted", {"servers": self.place.show(), "cause": client.cause})
            delay = RESTART_S if self.connects > before else min(delay * 2, MAX_RESTART_S)
            await trio.sleep(delay)

    async def _serve(self, client: Client) -> None:
        """Run one client; returns when it has died."""
        token = trio.lowlevel.current_trio_token()
        self._died = trio.Event()
        self._client = client

        def listen(state: Any) -> None:
            # In kazoo's thread, where the client's attributes are those of this very change.
            if state == "CONNECTED":
                client.connected()
            session = client.client_id
            shown = None if session is None or session[0] is None else f"{session[0]:x}"
            is_dead = client.is_refused
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._state_changed, client, str(state), shown, is_dead)

        client.add_listener(listen)
        client.start_async()
        while True:
            with trio.move_on_after(HEARTBEAT_S if self.is_connected else HEARTBEAT_S / 4):
                await self._died.wait()
            if self._died.is_set() or client.is_stopped:
                return
            if self.is_connected:
                await self._heartbeat(client)
            elif self.trouble is not None:
                self._tell()

    async def _heartbeat(self, client: Client) -> None:
        try:
            with suppress(NoNodeError):
                await self._answer("/", client.exists_async("/"))
        except UnreadableError:
            if self.is_connected and client is self._client:
                client.drop()

    def state(self) -> dict[str, object]:
        """For the admin page."""
        now = self._env.now()
        return {
            "servers": self.place.show(),
            "connected": self.is_connected,
            "session": self.session,
            "connects": self.connects,
            "sessions": self.sessions,
            "watches": len(self._followers),
            "lastAnswerMs": None if self.alive is None else round((now - self.alive) * 1000),
            "error": self.trouble,
        }

    @property
    def watches(self) -> int:
        """How many paths are followed."""
        return len(self._followers)


def _load() -> Any:
    from hostmesh.registry import zk_kazoo

    return zk_kazoo
