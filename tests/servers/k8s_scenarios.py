"""What the Kubernetes namer does while a real API server is changed and broken, judged from outside.

``python -m tests.servers.k8s_scenarios [NAME ...]`` runs all or some at full length and prints the verdicts; the suite
runs short versions.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostmesh.daemon.shared import local_ips
from tests.servers.far_network import Link, breakable
from tests.servers.fetch import required
from tests.servers.fetch_kube import etcd, kube_apiserver, kubectl
from tests.servers.judge import Verdict
from tests.servers.kube_server import READ_SLICES, SLICES, KubeServer
from tests.servers.observer import ObservedEndpoint, Observer, Prober
from tests.servers.relay import Relay
from tests.wire.harness import Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.k8s
  api: {API}
  holdMs: @HOLD
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.k8s/default/http;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""

WEB = "/#/io.l5d.k8s/default/http/web"

SHORT_WATCHES = (
    "import runpy, sys; from hostmesh.registry.k8s_client import K8sClient; K8sClient.watch_s = 1; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs hostmesh with watches that the server ends after a second instead of five minutes."""

Scenario = Callable[["Stage", float], str]


def endpoint_ip() -> str:
    """An address of this machine that an API server takes: it refuses loopback and link-local ones."""
    for ip in sorted(local_ips()):
        if ":" not in ip and not ip.startswith(("127.", "169.254.")):
            return ip
    pytest.skip("this machine has no address but loopback ones, which an API server refuses as endpoints")


class Stage:
    """An API server behind a relay, a hostmesh and an observer. Each endpoint has a slice of its own."""

    def __init__(
        self, server: KubeServer, relay: Relay, mesh: Hostmesh, seen: Observer, link: Link | None = None
    ) -> None:
        self.server = server
        self.relay = relay
        self.mesh = mesh
        self.seen = seen
        self.link = link
        self.ip = endpoint_ip()

    def endpoint(self) -> ObservedEndpoint:
        return self.seen.endpoint(host=self.ip)

    def add(self, *endpoints: ObservedEndpoint, write_log: bool = True) -> None:
        for endpoint in endpoints:
            self.server.put_slice(f"web-{endpoint.port}", "web", [(endpoint.host, endpoint.port)])
            if write_log:
                self.seen.added(endpoint)

    def remove(self, *endpoints: ObservedEndpoint, write_log: bool = True) -> None:
        for endpoint in endpoints:
            self.server.delete_slice(f"web-{endpoint.port}")
            if write_log:
                self.seen.removed(endpoint)

    def read(self) -> None:
        """The registry answers its own clients: also what it stores, which is later than ``/readyz``."""
        self.server.call("GET", SLICES.format("default"))

    def cut(self) -> None:
        """Reset every connection; new ones work."""
        self.relay.cut()
        self.relay.restore()

    def verdict(self) -> Verdict:
        verdict = self.seen.judge().check()
        faults = self.seen.journal_faults(self.mesh, WEB)
        assert faults == [], "\n".join(faults) + "\n" + verdict.show()
        return verdict


@contextmanager
def stage(
    *,
    mesh_first: bool = False,
    short_watches: bool = False,
    flags: tuple[str, ...] = (),
    account: bool = False,
    hold_ms: int = 2000,
    far: bool = False,
) -> Iterator[Stage]:
    """All of them, running."""
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for fetch in (etcd, kube_apiserver, kubectl):
            required(fetch)  # before there is a network from which nothing can be fetched
        link = stack.enter_context(breakable()) if far else None
        assert endpoint_ip()
        (root / "kube").mkdir()
        server = KubeServer(root / "kube", flags=flags, link=link)
        try:
            if not mesh_first:
                server.start()
            with Relay(server.port) as relay:
                url = f"https://127.0.0.1:{relay.port}"
                if link is not None:
                    link.attach(server.port)
                    url = f"https://{link.host}:{link.port}"
                user = {"token": "admin-token"}
                if account:
                    server.account("mesh")
                    server.allow("mesh", "mesh", READ_SLICES)
                    (root / "token").write_text(server.token("mesh", secret="token-1"))
                    user = {"tokenFile": str(root / "token")}
                config = server.write_kubeconfig(root / "kubeconfig", user, url)
                prefix = [sys.executable, "-c", SHORT_WATCHES] if short_watches else []
                text = CONFIG.replace("API", f"kubeconfig: {config}").replace("@HOLD", str(hold_ms))
                with Hostmesh(root, text, prefix=prefix) as mesh, Observer(mesh.port) as seen:
                    yield Stage(server, relay, mesh, seen, link)
        finally:
            server.close()


def changes(on: Stage, seconds: float) -> str:
    """Endpoints come and go, and in the end all are gone."""
    one, two, three = on.endpoint(), on.endpoint(), on.endpoint()
    on.add(one)
    on.seen.wait_answers(one)
    on.add(two, three)
    on.seen.wait_answers(two, three)
    on.remove(one)
    on.seen.wait_quiet(one)
    on.remove(two)
    on.seen.run_for(seconds / 10)
    on.add(two)
    on.seen.run_for(seconds / 10)
    on.remove(two, three)
    on.seen.run_for(5)
    return on.verdict().show()


def killed(on: Stage, seconds: float) -> str:
    """kill -9 of the API server, and a restart with its data, in which one endpoint has been replaced."""
    return _broken(on, seconds, lambda: on.server.kill("api"), on.server.start_api)


def etcd_killed(on: Stage, seconds: float) -> str:
    """kill -9 of etcd: the API server lives, answers, and keeps its watches open, in which nothing comes."""

    def start() -> None:
        on.server.start_etcd()
        on.server.wait_ready()

    return _broken(on, seconds, lambda: on.server.kill("etcd"), start, is_noticed=False)


def frozen(on: Stage, seconds: float) -> str:
    """SIGSTOP of the API server: connections are taken, nothing is answered."""
    return _broken(on, seconds, lambda: on.server.freeze("api"), lambda: on.server.thaw("api"))


def blackholed(on: Stage, seconds: float) -> str:
    """Packets to and from the API server vanish for a while, then the network heals. Meanwhile the API changes."""
    assert on.link is not None
    one, two = on.endpoint(), on.endpoint()
    on.add(one)
    on.seen.wait_answers(one)
    on.seen.unreadable()
    on.link.stall()
    on.add(two)
    on.remove(one)
    on.seen.run_for(seconds)
    assert _error(on) is not None, "the silence has not been noticed"
    on.link.restore()
    on.seen.readable()
    on.seen.wait_answers(two)
    on.seen.run_for(6)
    return f"{on.verdict().show()}\n  {on.link.said()}"


def _broken(
    on: Stage,
    seconds: float,
    stop: Callable[[], object],
    start: Callable[[], object],
    *,
    is_noticed: bool = True,
) -> str:
    one, two = on.endpoint(), on.endpoint()
    on.add(one)
    on.seen.wait_answers(one)
    on.seen.unreadable()
    stop()
    on.seen.run_for(seconds)
    assert (_error(on) is not None) is is_noticed, f"noticed: {_error(on)}"
    start()
    on.read()
    on.seen.readable()
    on.add(two)
    on.seen.wait_answers(two)
    on.remove(one)
    on.seen.wait_quiet(one)
    on.seen.run_for(3)
    return on.verdict().show()


def _error(on: Stage) -> object:
    return json.loads(on.mesh.admin("/namer_state/io.l5d.k8s.json").body)["error"]


def emptied(on: Stage, seconds: float) -> str:
    """Restarted without its data, and refilled: within the hold, and long after it."""
    one, two = on.endpoint(), on.endpoint()
    on.add(one, two)
    on.seen.wait_answers(one, two)
    for pause in (0.2, 5.0):
        on.seen.unreadable()
        on.server.kill("api")
        on.server.kill("etcd")
        shutil.rmtree(on.server.folder / "etcd")
        # Empty from its first answer on, which hostmesh may get before the server calls itself ready.
        on.seen.set_to([])
        on.server.start_etcd()
        on.server.start_api()
        on.read()
        on.seen.readable()
        on.seen.run_for(pause)
        on.add(one, two)
        on.seen.wait_answers(one, two)
        on.seen.run_for(seconds / 10)
    return on.verdict().show()


def reset(on: Stage, seconds: float) -> str:
    """Every connection is reset in the middle of an answer, again and again, while endpoints change."""
    return _under_cuts(on, seconds, every=0.7)


def closed(on: Stage, seconds: float) -> str:
    """The server ends every watch after a second (hostmesh asks it to)."""
    return _under_cuts(on, seconds, every=None)


def _under_cuts(on: Stage, seconds: float, every: float | None) -> str:
    one, two = on.endpoint(), on.endpoint()
    on.add(one)
    on.seen.wait_answers(one)
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        came, left = (two, one) if rounds % 2 else (one, two)
        on.add(came)
        if every is not None:
            on.cut()
        on.seen.wait_answers(came)
        on.remove(left)
        if every is not None:
            on.seen.run_for(every)
            on.cut()
        on.seen.wait_quiet(left)
    on.seen.run_for(3)
    return f"{rounds} rounds\n{on.verdict().show()}"


def mesh_first(on: Stage, seconds: float) -> str:
    """The API server starts after hostmesh and after the first requests."""
    one = on.endpoint()
    on.seen.unreadable()
    on.seen.run_for(seconds / 10)
    on.server.start()
    on.add(one)
    on.seen.readable()
    began = time.monotonic()
    on.seen.wait_answers(one)
    learned = time.monotonic() - began
    on.seen.run_for(3)
    return f"first answer {learned:.2f} s after the API server could be read\n{on.verdict().show()}"


def gone(on: Stage, seconds: float) -> str:
    """410: the history that a watch would go on from is thrown away, again and again (no watch cache, watches of
    a second)."""
    one, two = on.endpoint(), on.endpoint()
    on.add(one)
    on.seen.wait_answers(one)
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        came, left = (two, one) if rounds % 2 else (one, two)
        # Of something else, so that the watch does not see that the version has moved on.
        for number in range(5):
            on.server.put_slice(f"other-{number}", "other", [("10.9.9.9", 80 + rounds)])
        on.server.compact_etcd()
        on.seen.run_for(2)
        on.add(came)
        on.seen.wait_answers(came)
        on.remove(left)
        on.server.compact_etcd()
        on.seen.wait_quiet(left)
    on.seen.run_for(3)
    verdict = on.verdict()
    seen = on.mesh.metrics().get("namer/#/io.l5d.k8s/gone", 0)
    assert seen > 0, "no watch has met 410"
    return f"{rounds} rounds, 410 seen {seen:g} times\n{verdict.show()}"


def rotated(on: Stage, seconds: float) -> str:
    """The service account's token is replaced and the old one revoked, again and again."""
    one, two = on.endpoint(), on.endpoint()
    on.add(one)
    on.seen.wait_answers(one)
    token = on.mesh.folder / "token"
    end = time.monotonic() + seconds
    rounds = 1
    while time.monotonic() < end:
        rounds += 1
        came, left = (one, two) if rounds % 2 else (two, one)
        token.write_text(on.server.token("mesh", secret=f"token-{rounds}"))
        on.server.call("DELETE", f"/api/v1/namespaces/default/secrets/token-{rounds - 1}")
        # The server remembers tokens for ten seconds.
        on.seen.run_for(min(12, seconds / 2))
        on.cut()
        on.add(came)
        on.seen.wait_answers(came)
        on.remove(left)
        on.seen.wait_quiet(left)
    on.seen.run_for(3)
    return f"{rounds} tokens\n{on.verdict().show()}"


def propagation(on: Stage, seconds: float) -> str:
    """From the API's acknowledgement of a change to the first request that goes by it (``holdMs: 0``)."""
    on.seen.paused = True
    ends = [on.endpoint(), on.endpoint()]
    on.add(ends[0], write_log=False)
    added: list[float] = []
    removed: list[float] = []
    with Prober(on.mesh.port) as prober:
        prober.time_to_route(ends[0].key)
        for change in range(1, max(10, round(seconds * 100 / 60)) + 1):
            came, left = ends[change % 2], ends[1 - change % 2]
            on.add(came, write_log=False)
            added.append(prober.time_to_route(came.key))
            on.remove(left, write_log=False)
            began = last = time.monotonic()
            while time.monotonic() < began + 0.05:
                if prober.ask() == left.key:
                    last = time.monotonic()
            removed.append(last - began)
    return f"{len(added)} additions: {shown(added)}; {len(removed)} removals: {shown(removed)}"


def shown(times: Sequence[float]) -> str:
    """Milliseconds."""
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {ordered[len(ordered) // 2] * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {ordered[-1] * 1e3:.1f} ms"


_ALL = (changes, killed, etcd_killed, emptied, frozen, blackholed, reset, closed, gone, rotated, mesh_first)
SCENARIOS: dict[str, Scenario] = {scenario.__name__: scenario for scenario in (*_ALL, propagation)}


def play(name: str, seconds: float = 60.0) -> str:
    """Run one; what is to be printed of it. ``seconds`` is how long the outage lasts. AssertionError if it fails."""
    flags = ("--watch-cache=false",) if name == "gone" else ()
    with stage(
        mesh_first=name == "mesh_first",
        short_watches=name in ("gone", "closed"),
        flags=flags,
        account=name == "rotated",
        far=name == "blackholed",
        hold_ms=0 if name == "propagation" else 2000,
    ) as on:
        return SCENARIOS[name](on, seconds)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or list(SCENARIOS):
        print(f"{wanted}: {SCENARIOS[wanted].__doc__}\n{play(wanted)}\n", flush=True)
