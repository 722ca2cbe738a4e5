"""What the admin pages see of the daemon."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from hostmesh import __version__, core
from hostmesh.admin.view import (
    AdminRoute,
    CertificateView,
    Identified,
    Readiness,
    RouterView,
    Unidentified,
    View,
)
from hostmesh.base.errors import MeshError
from hostmesh.base.var import Ok
from hostmesh.config.plugin_files import loaded
from hostmesh.config.to_json import to_json
from hostmesh.naming.addr import Addr
from hostmesh.protocol.h1_head import RequestHead
from hostmesh.proxy.router import Router

if TYPE_CHECKING:
    from hostmesh.daemon.run import Daemon


OWN_DTAB = (b"l5d-ctx-dtab", b"l5d-dtab")
"""The fields of a request's own dtab, in the order in which they are appended."""


class Live(Mapping[str, RouterView]):
    """The routers of the configuration in force, looked up when asked, so that no page holds an old one."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __getitem__(self, label: str) -> RouterView:
        return router_view(self._daemon, self._daemon.linker.routers[label])

    def __iter__(self) -> Iterator[str]:
        return iter(self._daemon.linker.routers)

    def __len__(self) -> int:
        return len(self._daemon.linker.routers)


class LiveNamers(Mapping[str, object]):
    """The namers of the configuration in force, by prefix, and those below ``/$/`` that are in use."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def _named(self) -> dict[str, object]:
        namers = self._daemon.linker.namers
        if namers is None:
            return {}
        system = {f"$/{name}": namer for name, namer in self._daemon.shared.system.provided.items()}
        return system | {
            config.prefix_in_force.show()[1:]: namer
            for config, namer in zip(namers.configs, namers.made, strict=True)
        }

    def __getitem__(self, prefix: str) -> object:
        return self._named()[prefix]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named())

    def __len__(self) -> int:
        return len(self._named())


class LiveRoutes(Mapping[str, AdminRoute]):
    """The pages of the telemeters in force."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __getitem__(self, path: str) -> AdminRoute:
        return self._daemon.observers.admin_routes()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._daemon.observers.admin_routes())

    def __len__(self) -> int:
        return len(self._daemon.observers.admin_routes())


def router_view(daemon: Daemon, router: Router) -> RouterView:
    def base_dtab() -> str:
        base = getattr(router.interpreter, "base", None)
        if isinstance(base, Ok):
            return str(base.value.show())
        return router.base_dtab.show()

    def identify(head: RequestHead) -> Identified | Unidentified:
        if router.protocol == "tcp":
            return Unidentified("connections have names here, requests have not")
        try:
            path, _target = router.identify(head)
        except MeshError as error:
            return Unidentified(error.message)
        own = [value.decode("latin-1") for name in OWN_DTAB for value in head.get_all(name)]
        return Identified(path.show(), ";".join(own))

    def clients() -> Iterable[tuple[str, Addr]]:
        return [(id.show(), client.addr) for id, client in router.clients.entries.items()]

    def interpreter_states() -> Mapping[str, Callable[[], object]]:
        page = getattr(router.interpreter, "state_page", None)
        state = getattr(router.interpreter, "state", None)
        return {} if page is None or state is None else {page: state}

    return RouterView(
        label=router.label,
        protocol=router.protocol,
        base_dtab=base_dtab,
        interpreter=router.interpreter,
        identify=identify,
        clients=clients,
        interpreter_states=interpreter_states,
    )


def certificate_views(daemon: Daemon) -> list[CertificateView]:
    """Every certificate, CA and revocation list that is in use."""
    if not daemon.shared.has_certificates:
        return []
    wall = daemon.env.wall()
    return [
        CertificateView(
            kind=item.kind,
            file=item.path,
            name=item.name,
            serial=None if item.serial is None else f"{item.serial:x}",
            not_after=item.not_after.timestamp(),
            days=item.days(wall),
            loaded=part.loaded,
            alarm=part.trouble,
            notes=tuple(part.notes()),
        )
        for part in daemon.shared.certificates.parts()
        for item in part.value.items
    ]


def fill_view(daemon: Daemon) -> View:
    """The view of a running daemon; everything in it follows reloads."""
    pump = daemon.shared.pump

    def health() -> Readiness:
        if daemon.stopping.is_set():
            return Readiness(False, "draining")
        return Readiness(True)

    def server_info() -> Mapping[str, object]:
        return {
            "name": "hostmesh",
            "version": __version__,
            "core": core.kind(),
            "pid": os.getpid(),
            "started": daemon.started,
            "config": daemon.file,
            "reloads": daemon.reloads,
            "reload_failures": daemon.reload_failures,
            "python": platform.python_version(),
            "seed": daemon.env.seed,
            "plugins": loaded(),
        }

    return View(
        metrics=daemon.shared.metrics,
        config_json=lambda: to_json(daemon.config),
        routers=Live(daemon),
        namers=LiveNamers(daemon),
        log_levels=daemon.logs.levels,
        set_log_level=daemon.logs.set_level,
        shutdown=daemon.stop,
        health=health,
        admin_routes=LiveRoutes(daemon),
        journals={"resolver": daemon.shared.resolver.journal},
        certificates=lambda: certificate_views(daemon),
        alarms=lambda: daemon.shared.certificates.alarms() if daemon.shared.has_certificates else (),
        server_info=server_info,
        loop=pump.statistics,
    )
