"""From node to node: the DaemonSet's routers, and what is on this node."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import ConfigError
from hostmesh.base.var import Ok, Turn, Var
from hostmesh.naming.addr import ADDR_NEG, ADDR_PENDING, Addr, AddrBound, Endpoint
from hostmesh.naming.bound import BoundLeaf, BoundName
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamers
from hostmesh.naming.transformer import TransformerDeps
from namer.k8s_transformers import (
    K8sDaemonsetConfig,
    K8sLocalnodeConfig,
    network_of,
    node_of,
    through,
)
from tests.fakes_naming import LiteralResolver


def on(node: str, host: str, weight: float = 1.0, port: int = 8080) -> Endpoint:
    return Endpoint(host, port, weight, (("nodeName", node),))


def network(endpoint: Endpoint) -> object:
    return network_of(endpoint.host)


def test_each_endpoint_becomes_the_router_of_its_network() -> None:
    """A node's pods share a /24, or a /64 in IPv6."""
    pods = AddrBound([Endpoint("10.1.1.7", 80), Endpoint("10.1.2.7", 80), Endpoint("fd00:0:0:1::7", 80)])
    hosts = ("10.1.1.2", "10.1.2.2", "10.1.3.2", "fd00:0:0:1::2", "fd00:0:0:2::2")
    routers = AddrBound(Endpoint(host, 4141) for host in hosts)

    assert through(pods, routers, network) == AddrBound(
        [Endpoint("10.1.1.2", 4141), Endpoint("10.1.2.2", 4141), Endpoint("fd00:0:0:1::2", 4141)]
    )


def test_on_the_host_network_nodes_are_told_apart_by_name() -> None:
    """Node addresses say nothing about pods' networks; what has no node is nowhere."""
    pods = AddrBound([on("a", "10.1.1.7"), on("b", "10.1.1.8"), Endpoint("10.1.1.9", 80)])
    routers = AddrBound([on("a", "192.0.2.1"), on("c", "192.0.2.3"), Endpoint("192.0.2.9", 1)])

    assert through(pods, routers, node_of) == AddrBound([on("a", "192.0.2.1")])


def test_a_router_has_the_weight_of_those_it_stands_for() -> None:
    """Three pods on one node and one on the other: each pod gets a quarter."""
    pods = AddrBound([on("a", f"10.1.1.{n}") for n in range(1, 4)] + [on("b", "10.1.2.1")])
    routers = AddrBound([on("a", "192.0.2.1"), on("b", "192.0.2.2")])

    found = through(pods, routers, node_of)

    assert isinstance(found, AddrBound)
    assert [(each.host, each.weight) for each in found.endpoints] == [("192.0.2.1", 3.0), ("192.0.2.2", 1.0)]


def test_no_router_at_all_is_neg() -> None:
    """An empty set would be no different, but Neg is what Linkerd says."""
    assert through(AddrBound([on("a", "10.1.1.1")]), AddrBound([on("b", "192.0.2.1")]), node_of) is ADDR_NEG


def local(config: K8sLocalnodeConfig, addr: Addr) -> BoundName:
    turn = Turn()
    resolver = LiteralResolver(turn)
    deps = TransformerDeps(
        turn=turn, system=SystemNamers(turn, resolver), resolver=resolver, local_ips=frozenset
    )
    name = BoundName(Path.read("/#/io.l5d.k8s/ns/http/web"), Var(turn, addr), Path.EMPTY)
    state = config.mk(deps).transform(BoundLeaf(name), lambda var: var.value)  # type: ignore[arg-type]
    assert isinstance(state, Ok)
    assert isinstance(state.value, BoundLeaf)
    return state.value.name


def test_localnode_keeps_the_pods_of_this_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """POD_IP says which; the id says so, too."""
    monkeypatch.setenv("POD_IP", "10.1.1.2")
    here, there = Endpoint("10.1.1.7", 80), Endpoint("10.1.2.7", 80)

    name = local(K8sLocalnodeConfig(kind="io.l5d.k8s.localnode"), AddrBound([here, there]))

    assert name.id == Path.read("/%/io.l5d.k8s.localnode/10.1.1.2/#/io.l5d.k8s/ns/http/web")
    assert name.addr.value == AddrBound([here])


def test_localnode_on_the_host_network_goes_by_the_nodes_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """NODE_NAME says which node this is; nobody left is Neg; what is pending stays so."""
    monkeypatch.setenv("NODE_NAME", "a")
    config = K8sLocalnodeConfig(kind="io.l5d.k8s.localnode", host_network=True)

    assert local(config, AddrBound([on("a", "10.1.1.7"), on("b", "10.1.1.8")])).addr.value == AddrBound(
        [on("a", "10.1.1.7")]
    )
    assert local(config, AddrBound([on("b", "10.1.1.8")])).addr.value is ADDR_NEG
    assert local(config, ADDR_PENDING).addr.value is ADDR_PENDING


@pytest.mark.parametrize(("host_network", "variable"), [(False, "POD_IP"), (True, "NODE_NAME")])
def test_localnode_without_its_variable_does_not_start(
    monkeypatch: pytest.MonkeyPatch, host_network: bool, variable: str
) -> None:
    """The message names the variable."""
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match=f"{variable} is not set"):
        local(K8sLocalnodeConfig(kind="io.l5d.k8s.localnode", host_network=host_network), ADDR_NEG)


def test_localnode_wants_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """POD_IP that is none is a mistake to hear of at start."""
    monkeypatch.setenv("POD_IP", "node-1")
    with pytest.raises(ConfigError, match="expected an IP address, found 'node-1'"):
        local(K8sLocalnodeConfig(kind="io.l5d.k8s.localnode"), ADDR_NEG)


def test_a_daemonset_must_be_a_service() -> None:
    """A name that no Service can have is found when the file is checked."""
    good = K8sDaemonsetConfig(namespace="linkerd", service="l5d", port="incoming")
    bad = K8sDaemonsetConfig(namespace="link erd", service="l5d", port="incoming")

    assert (good.check(), len(bad.check())) == ([], 1)
