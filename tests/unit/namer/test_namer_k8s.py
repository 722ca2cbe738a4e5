"""The Kubernetes namers, with watches that say what a test tells them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import pytest

from hostmesh.base.errors import ConfigError
from hostmesh.base.var import PENDING, Failed, Ok
from hostmesh.naming.addr import ADDR_NEG, AddrBound
from hostmesh.naming.namer import NamerDeps
from hostmesh.naming.nametree import Leaf, Neg
from hostmesh.naming.path import Path
from hostmesh.registry.k8s_client import K8sClient, Selection
from namer.k8s import K8sConfig, K8sExternalConfig, K8sNsConfig
from namer.k8s_format import endpoints_groups, service_facts, slice_groups
from tests.fs_world import Followed
from tests.k8s_world import K8sWorld


class Told:
    """A watch in the test's hands."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.followers: list[Any] = []

    def follow(self, follower: Any) -> Callable[[], None]:
        self.followers.append(follower)
        return lambda: self.followers.remove(follower)

    def say(self, *objects: dict[str, Any]) -> None:
        for follower in list(self.followers):
            follower.known(tuple(self.selection.digest(each) for each in objects), "7")

    def fail(self, cause: str, status: int | None = None) -> None:
        for follower in list(self.followers):
            follower.failed(cause, status)


class ToldClient(K8sClient):
    """Its watches are :class:`Told`."""

    def watch(self, selection: Selection) -> Any:
        return self.watches.setdefault(selection, Told(selection))  # type: ignore[arg-type]

    def told(self, part: str) -> Any:
        return next(watch for selection, watch in self.watches.items() if part in selection.path)


def world(root: FilePath, **keys: Any) -> tuple[K8sWorld, ToldClient]:
    made = K8sWorld(root, hold_ms=0, **keys)
    config = made.config
    key = ("k8s", config.api, config.host, config.port)
    client = ToldClient(made.shared, key, lambda: pytest.fail("dials"), "told")
    made.shared.clients[key] = client
    return made, client


def settled(made: K8sWorld, path: str) -> Followed:
    name = made.follow(path)
    made.turn.run()
    return name


def a_slice(*ips: str, port: int = 8080) -> dict[str, Any]:
    return {
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [ip]} for ip in ips],
    }


def test_an_error_is_no_empty_answer(tmp_path: FilePath) -> None:
    """Failed before the first answer; afterwards the last good set stays, and emptiness is believed when it is said."""
    made, client = world(tmp_path)
    name = settled(made, "/ns/http/web/rest")
    watch = client.told("endpointslices")

    assert name.tree == PENDING
    watch.fail("no")
    made.turn.run()
    assert name.tree == Failed("no")
    watch.say(a_slice("10.0.0.1"))
    made.turn.run()
    watch.fail("no")
    made.turn.run()
    assert name.ports == [8080]
    assert isinstance(name.tree, Ok)
    assert isinstance(name.tree.value, Leaf)
    assert (name.tree.value.value.id.show(), name.tree.value.value.residual.show()) == (
        "/#/io.l5d.k8s/ns/http/web",
        "/rest",
    )
    watch.say()
    made.turn.run()
    assert name.is_neg


def test_a_service_of_unusable_addresses_is_an_error(tmp_path: FilePath) -> None:
    """Loopback and link-local addresses are left out; with nothing else the last good set stays."""
    made, client = world(tmp_path)
    name = settled(made, "/ns/http/web")
    watch = client.told("endpointslices")
    watch.say(a_slice("10.0.0.1", "127.0.0.1"))
    made.turn.run()

    assert (name.ports, made.metrics_value("skipped")) == ([8080], 1)
    watch.say(a_slice("127.0.0.1", "169.254.169.254"))
    made.turn.run()
    assert name.ports == [8080]
    state: Any = made.kube.state()
    assert state["state"]["/ns/http/web"]["error"] == "expected addresses of pods, found 2 that are none"


def test_slices_that_may_not_be_read_give_way_to_endpoints(tmp_path: FilePath) -> None:
    """403 and 404 do; other trouble does not, nor does it when slices are asked for."""
    made, client = world(tmp_path)
    name = settled(made, "/ns/http/web")
    client.told("endpointslices").fail("500", 500)
    assert len(client.watches) == 1
    client.told("endpointslices").fail("403 forbidden", 403)
    endpoints = next(
        watch for selection, watch in client.watches.items() if selection.digest is endpoints_groups
    )
    subset = {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "http", "port": 1}]}
    endpoints.say({"subsets": [subset]})  # type: ignore[attr-defined]
    made.turn.run()

    assert name.ports == [1]

    made, client = world(tmp_path, endpoints="slices")
    name = settled(made, "/ns/http/web")
    client.told("endpointslices").fail("403 forbidden", 403)
    made.turn.run()
    assert (name.tree, len(client.watches)) == (Failed("403 forbidden"), 1)


def test_a_numbered_port_needs_both_watches(tmp_path: FilePath) -> None:
    """Nothing is said before both have answered; while one is in trouble nothing is removed."""
    made, client = world(tmp_path)
    name = settled(made, "/ns/80/web")
    slices = next(w for s, w in client.watches.items() if s.digest is slice_groups)
    services = next(w for s, w in client.watches.items() if s.digest is service_facts)
    slices.say(a_slice("10.0.0.1", "10.0.0.2"))  # type: ignore[attr-defined]
    made.turn.run()
    assert name.is_pending
    services.say({"spec": {"ports": [{"name": "HTTP", "port": 80}]}})  # type: ignore[attr-defined]
    made.turn.run()
    assert name.ports == [8080, 8080]
    services.fail("no")  # type: ignore[attr-defined]
    slices.say(a_slice("10.0.0.1"))  # type: ignore[attr-defined]
    made.turn.run()
    assert name.ports == [8080, 8080]
    services.say({"spec": {"ports": [{"name": "HTTP", "port": 80}]}})  # type: ignore[attr-defined]
    made.shared.alarms.ring()
    made.turn.run()
    assert name.ports == [8080]
    services.say()  # type: ignore[attr-defined]
    made.turn.run()
    assert name.addr is None or name.addr == ADDR_NEG


def test_load_balancers_by_name_are_resolved(tmp_path: FilePath) -> None:
    """Addresses at once, host names as they are resolved, each with the port of the Service."""
    made, client = world(tmp_path, external=True)
    name = settled(made, "/ns/http/web")
    watch = client.told("services")
    ingress = [{"ip": "203.0.113.1"}, {"hostname": "203.0.113.2"}, {"ip": "127.0.0.1"}]
    watch.say(
        {"spec": {"ports": [{"name": "http", "port": 80}]}, "status": {"loadBalancer": {"ingress": ingress}}}
    )
    made.turn.run()

    assert isinstance(name.addr, AddrBound)
    assert [each.host for each in name.addr.endpoints] == ["203.0.113.1", "203.0.113.2"]


@pytest.mark.parametrize("path", ["/", "/ns", "/ns/http", "/ns/http/..", "/ns/http/a,b"])
def test_paths_without_a_service_ask_nobody(tmp_path: FilePath, path: str) -> None:
    """Too short, or no name that a Service can have: NEG at once."""
    made, client = world(tmp_path)
    tree = made.kube.lookup(Path.of(*[segment for segment in path.split("/") if segment]))
    tree.observe(lambda _tree: None)

    assert isinstance(tree.value, Ok)
    assert isinstance(tree.value.value, Neg)
    assert not client.watches


def test_the_namespace_comes_from_the_environment(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paths of k8s.ns have none; without the variable it does not start."""
    config = K8sNsConfig(kind="io.l5d.k8s.ns", env_var="HERE")
    made = K8sWorld(tmp_path)
    deps = NamerDeps(
        env=made.env,
        turn=made.turn,
        prefix=Path.of("n"),
        metrics=made.metrics,
        resolver=made.shared.resolver,
        report=made.report,
        shared=made.shared,
    )
    monkeypatch.delenv("HERE", raising=False)
    with pytest.raises(ConfigError, match="HERE is not set"):
        config.mk(deps)
    monkeypatch.setenv("HERE", "Shop")

    assert config.mk(deps).depth == 2
    found = config.wanted(Path.of("http", "web"))
    assert found is not None
    assert (found.namespace, found.port, found.service) == ("shop", "http", "web")


def test_mistakes_are_found_in_the_config() -> None:
    """Selectors have a syntax, holds are not negative."""
    assert K8sConfig(label_selector="example.com/version").check() == []
    assert len(K8sConfig(label_selector="a=b", hold_ms=-1).check()) == 2
    assert K8sExternalConfig.needs_experimental
