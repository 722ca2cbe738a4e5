"""The running linker: routers on listening sockets, replaced as a whole by a reload.

A reload builds the new configuration completely, opens the sockets that are new, and only then switches. Namers whose
configuration is the same are kept, so names stay bound; client stacks with equal settings move to the new routers with
their connections, latencies and accrual; counters are attributes of a tree that nobody rebuilds.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import trio

from hostmesh.base.errors import ConfigError
from hostmesh.config.model import LinkerConfig, unavailable
from hostmesh.config.servers import ListenerConfig
from hostmesh.config.tcp import TcpRouterConfig
from hostmesh.daemon.announce import Announcers
from hostmesh.daemon.build import (
    AnyRouter,
    Namers,
    build_interpreter,
    build_router,
    carried,
    server_settings_of,
    uses_tls,
)
from hostmesh.daemon.shared import Shared
from hostmesh.daemon.tcp import build_tcp_router, tcp_server_settings_of, wants_connect
from hostmesh.naming.interpreter import Interpreter
from hostmesh.naming.path import Path
from hostmesh.proxy.client_stack import ClientStack
from hostmesh.proxy.router import Recorder, Router
from hostmesh.proxy.server import Server
from hostmesh.proxy.tcp_router import TcpRouter
from hostmesh.proxy.tcp_server import TcpServer
from hostmesh.pump.listen import Listener, ListenOptions, open_listener

RETIRE_AFTER = 15.0
"""Seconds for which the routers and namers of the previous configuration stay alive: longer than a binding may take,
so that a name whose new binding is slow is served by the old one meanwhile."""

RESERVED_DESCRIPTORS = 256
"""Descriptors kept for admin, registries, logs and connects when the limit on connections is computed."""


class Linker:
    """Owns listeners, servers and routers. Everything else it is given.

    ``bind(ip, port, options)`` opens a listening socket, or raises ConfigError; ``listen`` is given what ``bind``
    returned and makes a :class:`Listener` of it.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        bind: Callable[[str, int, ListenOptions], Any] = open_listener,
        listen: Callable[..., Any] = Listener,
    ) -> None:
        self.shared = shared
        self._bind = bind
        self._listen = listen
        self.config: LinkerConfig | None = None
        self.namers: Namers | None = None
        self.routers: dict[str, Router] = {}
        self._donors: dict[str, Donor] = {}
        self.interpreters: dict[str, tuple[str, Interpreter]] = {}
        self.servers: dict[tuple[str, int], tuple[Listener, Server | TcpServer]] = {}
        self._leaving: list[Server | TcpServer] = []
        """Those that a reload has replaced or taken away, for as long as they have connections."""
        self.announcers = Announcers(shared)
        self.draining = False
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.max_connections = max(64, soft - RESERVED_DESCRIPTORS)

    def apply(self, config: LinkerConfig, recorders: dict[str, Recorder | None]) -> None:
        """Switch to ``config``. Raises ConfigError, and changes nothing, when it cannot be run here."""
        missing = unavailable(config)
        if missing:
            raise ConfigError("\n".join(missing))
        shared = self.shared
        old_routers, old_namers = self.routers, self.namers
        namers = Namers(shared, config.namers, old_namers)
        routers: dict[str, Router] = {}
        donors: dict[str, Donor] = {}
        interpreters: dict[str, tuple[str, Interpreter]] = {}
        for router_config in carried(config):
            label = router_config.name
            interpreters[label] = self._interpreter(router_config, namers)
            if self._is_kin(router_config):
                donors[label] = Donor(old_routers.get(label), self._donors.get(label))
            else:
                donors[label] = Donor(None, None)
            build = build_tcp_router if isinstance(router_config, TcpRouterConfig) else build_router
            router = build(shared, router_config, interpreters[label][1], donors[label])  # type: ignore[arg-type]  # chosen for it
            router.recorder = recorders.get(label)
            router.forbidden = frozenset({(config.admin.ip, config.admin.port)})
            routers[label] = router
            if wants_connect(router_config):
                router.connect = self._build_connect(router_config, router, interpreters[label][1])
        certificates = shared.certificates if shared.has_certificates or uses_tls(config) else None
        if certificates is not None:
            certificates.prepare(config)
        opened = self._open(config)
        # From here on nothing can fail.
        if certificates is not None:
            certificates.commit()
            shared.start(certificates)
        for namer in namers.made:
            shared.start(namer)
        for _identity, interpreter in interpreters.values():
            shared.start(interpreter)
        for label, router in routers.items():
            for identifier in router.identifiers:
                shared.start(identifier)
            old = old_routers.get(label)
            if old is not None and type(old) is type(router):
                router.take_over(old)
                if old.connect is not None and router.connect is not None:
                    router.connect.take_over(old.connect)
        self._switch(config, routers, opened)
        self.announcers.apply(carried(config), lambda ip, port: self.servers[ip, port][0].address)
        kept = {id(namer) for namer in namers.made} | {id(i) for _, i in interpreters.values()}
        retired: list[Any] = [] if old_namers is None else [n for n in old_namers.made if id(n) not in kept]
        retired += [i for _, i in self.interpreters.values() if id(i) not in kept]
        retired += [each for old in old_routers.values() for each in old.identifiers]
        self.config, self.namers = config, namers
        self.routers, self.interpreters, self._donors = routers, interpreters, donors
        if old_routers or retired:
            loop = shared.loop
            loop.call_at(loop.now() + RETIRE_AFTER, self._retire, list(old_routers.values()), retired)

    def _is_kin(self, config: AnyRouter) -> bool:
        """Whether the former router of that label carried the same: else its stacks are of no use."""
        old = self.routers.get(config.name)
        return old is None or (old.protocol == "tcp") == (config.protocol == "tcp")

    def _build_connect(self, config: Any, router: Router, interpreter: Interpreter) -> TcpRouter:
        """The router of the connections that callers of ``router`` ask for."""
        old = self.routers.get(router.label)
        donor = Donor(None if old is None else old.connect, None)
        connect = build_tcp_router(self.shared, config, interpreter, donor)
        connect.recorder = router.recorder
        connect.forbidden = router.forbidden
        return connect

    def _interpreter(self, config: AnyRouter, namers: Namers) -> tuple[str, Interpreter]:
        identity = repr((config.interpreter, [id(namer) for namer in namers.made]))
        known = self.interpreters.get(config.name)
        if known is not None and known[0] == identity:
            # Same namers, same kind: only the dtab may differ, and that is live.
            known[1].set_base(config.dtab)
            return known
        return identity, build_interpreter(self.shared, config, namers)

    def _open(self, config: LinkerConfig) -> dict[tuple[str, int], Any]:
        opened: dict[tuple[str, int], Any] = {}
        try:
            for router in carried(config):
                for server in router.servers:
                    key = (server.ip, server.port)
                    if key not in self.servers:
                        opened[key] = self._bind(server.ip, server.port, listen_options(server))
        except ConfigError:
            for sock in opened.values():
                sock.close()
            if self.shared.has_certificates:
                self.shared.certificates.abandon()
            raise
        return opened

    def _switch(
        self, config: LinkerConfig, routers: dict[str, Router], opened: dict[tuple[str, int], Any]
    ) -> None:
        shared = self.shared
        wanted = set()
        for router_config in carried(config):
            router = routers[router_config.name]
            for server_config in router_config.servers:
                key = (server_config.ip, server_config.port)
                wanted.add(key)
                make, settings = self._maker(router_config, server_config)
                known = self.servers.get(key)
                if known is not None and type(known[1]) is make and meets_alike(known[1], settings):
                    known[1].router = router
                    known[1].configure(settings)
                    known[0].options = listen_options(server_config)
                    continue
                scope = shared.metrics.scope("rt", router.label, "server", settings.name)
                server = make(shared.loop, router, settings, scope)
                if known is not None:
                    # The port carries another protocol from now on, or lets others in: who is connected has come in
                    # by rules that are no more, and ends as at a drain.
                    listener, former = known
                    listener.make_session = server.accept
                    listener.options = listen_options(server_config)
                    self.servers[key] = (listener, server)
                    self._leave(former)
                    continue
                listener = self._listen(
                    shared.loop, opened[key], listen_options(server_config), server.accept, self._capacity
                )
                self.servers[key] = (listener, server)
                listener.start()
        for key in [key for key in self.servers if key not in wanted]:
            listener, server = self.servers.pop(key)
            listener.finish()
            self._leave(server)

    def _leave(self, server: Server | TcpServer) -> None:
        server.drain()
        self._leaving = [each for each in (*self._leaving, server) if each.sessions]

    def _every_server(self) -> list[Server | TcpServer]:
        return [*(server for _listener, server in self.servers.values()), *self._leaving]

    def _maker(self, router: AnyRouter, config: Any) -> tuple[Any, Any]:
        """The class of a server, and what it is configured with."""
        if isinstance(router, TcpRouterConfig):
            return TcpServer, tcp_server_settings_of(self.shared, config)
        return Server, server_settings_of(self.shared, router, config)

    def _capacity(self) -> int:
        # A connection of a tcp router has another one at its other end.
        doubled = sum(len(server.sessions) for server in self._every_server() if type(server) is TcpServer)
        return self.max_connections - self.connections - doubled

    @property
    def connections(self) -> int:
        """Callers' connections open now."""
        return sum(len(server.sessions) for server in self._every_server())

    @property
    def pending(self) -> int:
        """Exchanges in flight."""
        return sum(server.stats.pending for server in self._every_server())

    def _retire(self, routers: list[Router], plugins: list[Any]) -> None:
        for router in routers:
            router.close()
            if router.connect is not None:
                router.connect.close()
        for donor in self._donors.values():
            donor.forget(routers)
        for plugin in plugins:
            self.shared.stop(plugin)

    # -- the end --------------------------------------------------------------------------------------------------

    async def withdraw(self) -> None:
        """Take our servers out of the registries, while they still accept: callers learn of it before they are
        refused."""
        await self.announcers.withdraw()

    def drain(self) -> None:
        """Stop accepting; connections end with their next answer, or when nothing is asked on them for a while."""
        self.draining = True
        for listener, server in self.servers.values():
            listener.finish()
            server.drain()

    async def wait_drained(self) -> None:
        """Until the last caller's connection is gone."""
        for server in self._every_server():
            if server.sessions:
                gone = trio.Event()
                server.on_empty = gone.set
                await gone.wait()

    def cut(self) -> None:
        """End every connection now; an exchange whose answer has not begun is answered."""
        for server in self._every_server():
            server.cut()

    def close(self) -> None:
        """Cut what is left and close everything."""
        self.cut()
        for listener, _server in self.servers.values():
            listener.close()
        for router in self.routers.values():
            router.close()
            if router.connect is not None:
                router.connect.close()


class Donor:
    """Gives up the client stacks of a router that has been replaced, and of those before it.

    A reload on the heels of another finds them with the router before the last, if nothing was bound in between.
    """

    def __init__(self, router: Router | None, before: Donor | None) -> None:
        self._router = router
        self._before = before

    def __call__(self, id: Path) -> ClientStack | None:
        """The stack of a bound id, which is its new owner's from now on."""
        donor: Donor | None = self
        while donor is not None:
            stack = None if donor._router is None else donor._router.clients.entries.pop(id, None)
            if stack is not None:
                return stack
            donor = donor._before
        return None

    def forget(self, routers: list[Router]) -> None:
        """These are closed: let go of them."""
        if self._router in routers:
            self._router = self._before = None
        elif self._before is not None:
            self._before.forget(routers)


def meets_alike(server: Server | TcpServer, settings: Any) -> bool:
    """Whether callers who come in under ``settings`` are asked for the same as those of ``server`` now: the same files,
    whatever they say by now, and the same demands."""
    before, after = server.settings.tls, settings.tls
    return before is after if before is None or after is None else before.contexts is after.contexts


def listen_options(config: ListenerConfig) -> ListenOptions:
    sockets = config.socket_options
    return ListenOptions(
        no_delay=sockets.no_delay,
        reuse_addr=sockets.reuse_addr,
        reuse_port=sockets.reuse_port,
        keep_alive=sockets.keep_alive,
        backlog=sockets.backlog,
    )
