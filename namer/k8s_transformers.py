"""``io.l5d.k8s.daemonset`` and ``io.l5d.k8s.localnode``: from node to node, with a router on each."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address

from attrs import frozen

from hostmesh.plugin import (
    ADDR_NEG,
    Addr,
    AddrBound,
    AddrFailed,
    ConfigError,
    EachAddr,
    Endpoint,
    NamerDeps,
    Path,
    Port,
    Read,
    TransformerConfig,
    TransformerDeps,
)
from hostmesh.registry.k8s_access import K8sApi
from namer.k8s import K8sConfig
from namer.k8s_namer import K8sNamer

NODE = "nodeName"
"""The metadata key under which the Kubernetes namers say where a pod runs."""

_V4_SHIFT = 8
"""A node's pods share a /24 by default, and Linkerd counts on it."""

_V6_SHIFT = 64
"""The default of Kubernetes for IPv6 is a /64."""


def network_of(host: str) -> tuple[int, int]:
    """The network that pods of one node share: address family and the leading bits."""
    ip = ip_address(host)
    return ip.version, int(ip) >> (_V4_SHIFT if ip.version == 4 else _V6_SHIFT)


def node_of(endpoint: Endpoint) -> str | None:
    """The node an endpoint runs on, as its registry says."""
    for key, value in endpoint.meta:
        if key == NODE:
            return value
    return None


def through(addr: AddrBound, routers: AddrBound, place: Callable[[Endpoint], object]) -> Addr:
    """For each endpoint the routers at its place; each has the weight of those it stands for.

    The weights keep what the endpoints are to get the same, though one node has more of them than another. Endpoints
    without a router are left out; none left is Neg.
    """
    at: dict[object, list[Endpoint]] = {}
    for router in routers.endpoints:
        where = place(router)
        if where is not None:
            at.setdefault(where, []).append(router)
    weights: dict[Endpoint, float] = {}
    for endpoint in addr.endpoints:
        found = at.get(place(endpoint), ())
        for router in found:
            weights[router] = weights.get(router, 0.0) + endpoint.weight / len(found)
    if not weights:
        return ADDR_NEG
    # Equal weights are no weights: the balancers are fastest then.
    if len(set(weights.values())) == 1:
        return AddrBound(weights)
    return AddrBound(router._replace(weight=weight) for router, weight in weights.items())


@frozen(kw_only=True)
class K8sDaemonsetConfig(TransformerConfig):
    """Replaces each endpoint by the DaemonSet's pod on its node: from a service to the router beside it."""

    k8s_host: str = "localhost"
    """The API server, or ``kubectl proxy``."""

    k8s_port: Port = 8001
    """Its port."""

    namespace: str
    """The DaemonSet's namespace."""

    service: str
    """The service in front of the DaemonSet."""

    port: str
    """The port's name, or its number in the service."""

    host_network: bool = False
    """Match by node name rather than by network: for a DaemonSet on the host network."""

    api: K8sApi | None = None
    """*hostmesh* How to reach the API server directly, with TLS and credentials. Default: plain HTTP."""

    def _namer(self) -> K8sConfig:
        return K8sConfig(kind=self.kind, host=self.k8s_host, port=self.k8s_port, api=self.api)

    @property
    def _path(self) -> Path:
        return Path.of(self.namespace, self.port, self.service)

    def check(self) -> list[str]:
        if self._namer().wanted(self._path) is None:
            return [f"expected namespace, port and service of a Service, found {self._path.show()}"]
        return []

    def mk(self, deps: TransformerDeps) -> EachAddr:
        """The transformer. The DaemonSet is watched while anything is transformed."""
        prefix = self.prefix_or(self.kind or "io.l5d.k8s.daemonset", *self._path)
        assert deps.env is not None
        namer = K8sNamer(
            self._namer(),
            NamerDeps(
                env=deps.env,
                turn=deps.turn,
                prefix=prefix.drop(1),
                metrics=NoMetrics(),
                resolver=deps.resolver,
                report=deps.report,
                shared=deps.shared,
            ),
        )
        place: Callable[[Endpoint], object] = node_of if self.host_network else _network
        path = self._path

        def to_routers(addr: Addr, read: Read) -> Addr:
            if not isinstance(addr, AddrBound):
                # Where the routers are matters only once there is something to reach.
                return addr
            daemonset = namer.name(path)
            if daemonset is None:
                return AddrFailed(f"{path.show()}: no name of a Service")
            routers = read(daemonset.addr)
            # A DaemonSet that does not exist (any more) leaves no way: as with one that has no pod there.
            return through(addr, routers, place) if isinstance(routers, AddrBound) else routers

        return EachAddr(prefix, deps.turn, to_routers)


@frozen(kw_only=True)
class K8sLocalnodeConfig(TransformerConfig):
    """Keeps the endpoints on this node: for a router that takes the traffic of other nodes in."""

    host_network: bool = False
    """Match by the environment variable ``NODE_NAME`` rather than by the network of ``POD_IP``."""

    def mk(self, deps: TransformerDeps) -> EachAddr:
        """The transformer. Raises ConfigError when the environment variable is not set."""
        variable = "NODE_NAME" if self.host_network else "POD_IP"
        here = os.environ.get(variable)
        if not here:
            raise ConfigError(f"{self.kind}: the environment variable {variable} is not set")
        try:
            wanted: object = here if self.host_network else network_of(here)
        except ValueError as error:
            raise ConfigError(f"{self.kind}: {variable}: expected an IP address, found {here!r}") from error
        place: Callable[[Endpoint], object] = node_of if self.host_network else _network

        def local(addr: Addr, _read: Read) -> Addr:
            if not isinstance(addr, AddrBound):
                return addr
            kept = [each for each in addr.endpoints if place(each) == wanted]
            return AddrBound(kept) if kept else ADDR_NEG

        return EachAddr(self.prefix_or(self.kind or "io.l5d.k8s.localnode", here), deps.turn, local)


def _network(endpoint: Endpoint) -> object:
    return network_of(endpoint.host)


class NoMetrics:
    """The DaemonSet's own watch shows in the metrics of its server's client only."""

    def scope(self, *_names: str) -> NoMetrics:
        return self

    def counter(self, _name: str) -> NoCounter:
        return NoCounter()

    def gauge(self, _name: str, _fn: Callable[[], float]) -> object:
        return None

    def prune(self, _name: str) -> None:
        pass


class NoCounter:
    """Counts for nobody."""

    value = 0
