"""Consul in trouble, under load, judged from outside: ``python -m tests.servers.consul_scenarios [NAME ...]``.

Each scenario is a function of a :class:`Stage`: a real Consul, a hostmesh on it, and an observer that sends 200
requests per second. ``--short`` runs them as the test suite does, with outages of seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.servers.consul_agent import ConsulServer
from tests.servers.far_network import breakable
from tests.servers.fetch import consul, required
from tests.servers.observer import ObservedEndpoint, Observer
from tests.servers.relay import Relay
from tests.wire.harness import Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.consul
  host: HOST
  port: @consul@
  holdMs: HOLD
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.consul/dc1;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""

NAME = "/#/io.l5d.consul/dc1/web"
HOLD_S = 2.0

NOTICED_S = 14.0
"""A blackhole is noticed after some ten seconds. One that is shorter is ended by TCP's own repetitions, whose pauses
double: changes then arrive at most as late as it has lasted."""


class Stage:
    """What a scenario plays on. ``outage_s`` is how long its outages last."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        *,
        outage_s: float,
        mesh_first: bool = False,
        relayed: bool = False,
        far: bool = False,
        hold_ms: int = round(HOLD_S * 1000),
    ) -> None:
        self.outage_s = outage_s
        for name in ("consul", "mesh"):
            (folder / name).mkdir()
        required(consul)  # before there is a network from which nothing can be fetched
        self.link = stack.enter_context(breakable()) if far else None
        self.consul = ConsulServer(folder / "consul", dev=False, link=self.link)
        stack.callback(self.consul.kill)
        if not mesh_first:
            self.consul.start()
        self.relay = stack.enter_context(Relay(self.consul.port)) if relayed else None
        port = self.consul.port if self.relay is None else self.relay.port
        host = "127.0.0.1"
        if self.link is not None:
            self.link.attach(self.consul.port)
            host, port = self.link.host, self.link.port
        config = CONFIG.replace("HOLD", str(hold_ms)).replace("HOST", host)
        self.mesh = stack.enter_context(Hostmesh(folder / "mesh", config, ports={"consul": port}))
        self.seen = stack.enter_context(Observer(self.mesh.ports["port"], paused=True))

    def register(self, *endpoints: ObservedEndpoint) -> None:
        for endpoint in endpoints:
            self.consul.register("web", endpoint.host, endpoint.port)
            self.seen.added(endpoint)

    def deregister(self, *endpoints: ObservedEndpoint) -> None:
        for endpoint in endpoints:
            self.consul.deregister("web", endpoint.host, endpoint.port)
            self.seen.removed(endpoint)

    def two(self) -> tuple[ObservedEndpoint, ObservedEndpoint]:
        """Two registered endpoints that answer requests."""
        one, two = self.seen.endpoint(), self.seen.endpoint()
        self.register(one, two)
        self.seen.paused = False
        self.seen.wait_answers(one, two)
        return one, two

    def change(self, gone: ObservedEndpoint) -> ObservedEndpoint:
        """One comes and ``gone`` goes; return when both is seen by callers."""
        new = self.seen.endpoint()
        self.register(new)
        self.seen.wait_answers(new)
        self.deregister(gone)
        self.seen.wait_quiet(gone)
        return new

    def down(self) -> None:
        """The time that an outage lasts, under load."""
        self.seen.run_for(self.outage_s)

    def restarted(self, *, empty: bool = False) -> None:
        """Killed, and started after the outage."""
        self.seen.unreadable()
        self.consul.kill()
        self.down()
        if empty:
            self.consul.forget()
            # Before it starts: hostmesh may read it sooner than this test does.
            self.seen.set_to([])
        self.consul.start()

    def metric(self, name: str) -> float:
        return self.mesh.metrics()["namer/#/io.l5d.consul/" + name]


def killed_with_data(stage: Stage) -> None:
    """Killed and started again with its data; then changed."""
    one, _two = stage.two()
    stage.restarted()
    stage.seen.readable()
    stage.seen.run_for(2)
    stage.change(one)


def changed_while_away(stage: Stage) -> None:
    """While hostmesh cannot reach it an endpoint comes and another goes, which keeps answering."""
    assert stage.relay is not None
    one, _two = stage.two()
    stage.seen.unreadable()
    stage.relay.cut()
    new = stage.seen.endpoint()
    stage.register(new)
    stage.deregister(one)
    stage.down()
    stage.relay.restore()
    stage.seen.readable()
    stage.seen.wait_answers(new)
    stage.seen.wait_quiet(one)


def emptied_and_refilled(stage: Stage) -> None:
    """Killed and started without data; refilled at once, with one old endpoint and a new one."""
    one, two = stage.two()
    new = stage.seen.endpoint()
    stage.restarted(empty=True)
    stage.seen.readable()
    stage.register(two, new)
    stage.seen.wait_answers(two, new)
    stage.seen.wait_quiet(one)


def emptied_for_long(stage: Stage) -> None:
    """Killed and started without data; refilled when the emptiness has been believed."""
    one, two = stage.two()
    stage.restarted(empty=True)
    stage.seen.readable()
    stage.seen.run_for(HOLD_S + 3)
    stage.register(two)
    stage.seen.wait_answers(two)
    stage.seen.wait_quiet(one)


def truly_emptied(stage: Stage) -> None:
    """A healthy Consul is told that the service is gone."""
    one, two = stage.two()
    stage.deregister(one, two)
    stage.seen.run_for(HOLD_S + 2)
    stage.register(two)
    stage.seen.wait_answers(two)


def frozen(stage: Stage) -> None:
    """Stopped for a while (SIGSTOP), then changed."""
    one, _two = stage.two()
    stage.seen.unreadable()
    stage.consul.freeze()
    stage.down()
    stage.consul.thaw()
    stage.seen.readable()
    stage.change(one)


def reset_in_an_answer(stage: Stage) -> None:
    """The connection is reset after some bytes of an answer, again and again while endpoints change."""
    assert stage.relay is not None
    one, two = stage.two()
    for _ in range(3):
        stage.relay.reset_after(100)
        new = stage.seen.endpoint()
        stage.register(new)
        stage.seen.run_for(0.5)
        stage.relay.restore()
        stage.seen.wait_answers(new)
        stage.deregister(one)
        stage.seen.wait_quiet(one)
        one, two = two, new


def started_later(stage: Stage) -> None:
    """hostmesh runs and is asked before there is a Consul."""
    stage.seen.unreadable()
    stage.seen.mesh_started()
    stage.seen.paused = False
    stage.down()
    stage.consul.start()
    stage.seen.readable()
    one, _two = stage.two()
    stage.change(one)


def index_goes_back(stage: Stage) -> None:
    """A snapshot is restored: the index goes back while connections stay."""
    one, two = stage.two()
    saved = _snapshot(stage.consul)
    three = stage.change(one)
    for _ in range(20):
        stage.consul.catalog("other", "127.0.0.1", "10.9.9.9", 80)
        stage.consul.register("web", two.host, two.port, Tags=[str(time.monotonic())])
    # A watch that is between two queries just then learns of it from the next change, or after waitMs.
    stage.seen.run_for(1.5)
    stage.seen.added(one)
    _restore(stage.consul, saved)
    # The agent would put the catalog right within a minute.
    stage.consul.register("web", three.host, three.port, Tags=["again"])
    stage.consul.call(
        "PUT", "/v1/catalog/deregister", {"Node": "t1", "ServiceID": f"web-{one.host}-{one.port}"}
    )
    stage.seen.removed(one)
    stage.seen.wait_quiet(one)
    stage.change(two)
    assert stage.metric("index_resets") >= 1


def blackholed(stage: Stage) -> None:
    """Packets to and from Consul vanish for a while; meanwhile endpoints change."""
    assert stage.link is not None
    one, _two = stage.two()
    stage.seen.unreadable()
    stage.link.stall()
    new = stage.seen.endpoint()
    stage.register(new)
    stage.deregister(one)
    stage.down()
    stage.link.restore()
    stage.seen.readable()
    stage.seen.wait_answers(new)
    stage.seen.wait_quiet(one)


SCENARIOS: dict[str, tuple[Callable[[Stage], None], dict[str, bool | int]]] = {
    "killed_with_data": (killed_with_data, {}),
    "changed_while_away": (changed_while_away, {"relayed": True}),
    "emptied_and_refilled": (emptied_and_refilled, {}),
    "emptied_for_long": (emptied_for_long, {}),
    "truly_emptied": (truly_emptied, {}),
    "frozen": (frozen, {}),
    "reset_in_an_answer": (reset_in_an_answer, {"relayed": True}),
    "started_later": (started_later, {"mesh_first": True}),
    "index_goes_back": (index_goes_back, {}),
    "blackholed": (blackholed, {"far": True}),
}


def _snapshot(consul: ConsulServer) -> bytes:
    return _raw(consul, "GET", b"")


def _restore(consul: ConsulServer, saved: bytes) -> None:
    _raw(consul, "PUT", saved)


def _raw(consul: ConsulServer, method: str, body: bytes) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", consul.port, timeout=20)) as connection:
        connection.request(method, "/v1/snapshot", body)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data[:200]
        return data


@contextlib.contextmanager
def staged(folder: Path, *, outage_s: float, **options: bool | int) -> Iterator[Stage]:
    """A stage in ``folder``, taken down at the end."""
    with ExitStack() as stack:
        yield Stage(folder, stack, outage_s=outage_s, **options)


def play(name: str, folder: Path, *, outage_s: float) -> str:
    """Run one scenario; AssertionError unless the observer and the journal are content. What was seen, as text."""
    scenario, options = SCENARIOS[name]
    if name == "blackholed":
        outage_s = max(outage_s, NOTICED_S)
    with staged(folder, outage_s=outage_s, **options) as stage:
        scenario(stage)
        stage.seen.run_for(1)
        try:
            verdict = stage.seen.judge(hold_s=HOLD_S).check()
            if name != "index_goes_back":
                faults = stage.seen.journal_faults(stage.mesh, NAME, hold_s=HOLD_S)
                assert faults == [], faults
        except AssertionError:
            for entry in stage.seen.journal(stage.mesh, NAME):
                print(entry)
            raise
        return verdict.show() if stage.link is None else f"{verdict.show()}\n  {stage.link.said()}"


def propagation(changes: int) -> str:
    """Milliseconds from Consul's acknowledgement of a new endpoint to the first answer from it."""
    with tempfile.TemporaryDirectory() as folder, staged(Path(folder), outage_s=0, hold_ms=0) as stage:
        endpoints = [stage.seen.endpoint() for _ in range(2)]
        stage.register(endpoints[0])
        stage.mesh.wait(lambda: stage.mesh.get().status == 200, "the first endpoint is routed to")
        times = []
        for number in range(changes):
            new, old = endpoints[(number + 1) % 2], endpoints[number % 2]
            stage.consul.register("web", new.host, new.port)
            times.append(stage.seen.time_to_route(new) * 1000)
            stage.consul.deregister("web", old.host, old.port)
            # Believed at once (holdMs 0); a moment for the answer that says so.
            stage.seen.run_for(0.15)
    cuts = statistics.quantiles(times, n=100)
    return f"{changes} changes: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, max {max(times):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*SCENARIOS, 'propagation'])}")
    parser.add_argument("--short", action="store_true", help="outages of 4 s instead of 60")
    parser.add_argument("--changes", type=int, default=200, help="for propagation")
    options = parser.parse_args()
    for name in options.names or [*SCENARIOS, "propagation"]:
        begin = time.monotonic()
        if name == "propagation":
            said = propagation(options.changes)
        else:
            with tempfile.TemporaryDirectory() as folder:
                said = play(name, Path(folder), outage_s=4.0 if options.short else 60.0)
        print(f"{name} ({time.monotonic() - begin:.0f} s): {said}", flush=True)


if __name__ == "__main__":
    main()
