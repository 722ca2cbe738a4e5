"""What the DNS namers do while a real name server is changed and broken, judged from outside.

``python -m tests.servers.dns_scenarios [NAME ...]`` runs all or some at full length and prints the verdicts; the suite
runs short versions.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers.far_network import Link, breakable
from tests.servers.fetch import nsd, required
from tests.servers.judge import Verdict
from tests.servers.nsd import NameServer, name_server
from tests.servers.observer import ObservedEndpoint, Observer, Prober
from tests.wire.harness import Hostmesh

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@}
warmStart: {path: "@dir@/names.json"}
namers:
- kind: io.l5d.dnssrv
  experimental: true
  dnsHosts: [HOST]
  port: @dns@
- kind: io.l5d.dns
  dnsHosts: [HOST]
  port: @dns@
routers:
- protocol: http
  dtab: |
    /svc/web => /#/io.l5d.dnssrv/_http._tcp.web.example;
    /svc/host => /#/io.l5d.dns/host.example/@hostport@;
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""

ROOT = Path(__file__).resolve().parents[2]
WEB = "/#/io.l5d.dnssrv/_http._tcp.web.example"

POLL_S = 1.1
"""All records have a TTL of 1 s."""

Scenario = Callable[["Stage", float], str]


class Stage:
    """A name server, a hostmesh and an observer; the name server's records are written with :meth:`set`."""

    def __init__(self, server: NameServer, mesh: Hostmesh, seen: Observer, link: Link | None = None) -> None:
        self.server = server
        self.mesh = mesh
        self.seen = seen
        self.link = link

    def set(self, endpoints: Sequence[ObservedEndpoint], *, write_log: bool = True) -> None:
        """The SRV record now names these; returns when the server answers so."""
        self.server.put(srv_lines((endpoint, 0, 1) for endpoint in endpoints))
        if write_log:
            self.seen.set_to(endpoints)

    def verdict(self) -> Verdict:
        verdict = self.seen.judge().check()
        faults = self.seen.journal_faults(self.mesh, WEB, lag_s=POLL_S)
        assert faults == [], "\n".join(faults) + "\n" + verdict.show()
        return verdict


def srv_lines(endpoints: Iterator[tuple[ObservedEndpoint, int, int]] | list) -> list[str]:
    """Lines of a zone file: (endpoint, priority, weight)."""
    lines = ["here 1 IN A 127.0.0.1"]
    lines += [
        f"_http._tcp.web 1 IN SRV {priority} {weight} {endpoint.port} here"
        for endpoint, priority, weight in endpoints
    ]
    return lines


@contextmanager
def stage(*, mesh_first: bool = False, far: bool = False) -> Iterator[Stage]:
    """All three, running."""
    program = required(nsd)  # before there is a network from which nothing can be fetched
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        link = stack.enter_context(breakable(datagrams=True)) if far else None
        server = stack.enter_context(name_server(program, folder / "nsd", link))
        if mesh_first:
            server.kill()
        host, port = "127.0.0.1", server.port
        if link is not None:
            link.attach(server.port)
            host, port = link.host, link.port
        mesh = stack.enter_context(Hostmesh(folder, CONFIG.replace("HOST", host), ports={"dns": port}))
        yield Stage(server, mesh, stack.enter_context(Observer(mesh.port)), link)


def changes(on: Stage, seconds: float) -> str:
    """Endpoints come and go, and in the end all are gone."""
    one, two, three = on.seen.endpoint(), on.seen.endpoint(), on.seen.endpoint()
    for endpoints in ([one], [one, two], [two, three], [three, one, two]):
        on.set(endpoints)
        on.seen.wait_answers(*endpoints)
        on.seen.run_for(seconds / 10)
    on.set([two])
    on.seen.wait_quiet(one, three)
    on.set([])
    on.seen.run_for(5)
    return on.verdict().show()


def killed(on: Stage, seconds: float) -> str:
    """kill -9, and a restart with the data."""
    one, two = on.seen.endpoint(), on.seen.endpoint()
    on.set([one])
    on.seen.wait_answers(one)
    on.seen.unreadable()
    on.server.kill()
    on.seen.run_for(seconds)
    on.server.start()
    on.seen.readable()
    on.set([two])
    on.seen.wait_answers(two)
    on.seen.run_for(5)
    return on.verdict().show()


def emptied(on: Stage, seconds: float) -> str:
    """kill -9, a restart without records, and then they are written again: within the hold, and long after it."""
    one = on.seen.endpoint()
    on.set([one])
    on.seen.wait_answers(one)
    for pause in (0.5, 5.0):
        on.seen.unreadable()
        on.server.kill()
        on.server.records = []
        on.server._write()
        # Before it can be asked: hostmesh may hear of it sooner than we, and its hold begins then.
        on.seen.set_to([])
        on.server.start()
        on.seen.readable()
        on.seen.run_for(pause)
        on.set([one])
        on.seen.wait_answers(one)
        on.seen.run_for(seconds / 10)
    return on.verdict().show()


def frozen(on: Stage, seconds: float) -> str:
    """SIGSTOP: questions are taken and not answered."""
    one, two = on.seen.endpoint(), on.seen.endpoint()
    on.set([one])
    on.seen.wait_answers(one)
    on.seen.unreadable()
    on.server.freeze()
    on.seen.run_for(seconds)
    on.server.thaw()
    on.server.wait_serial()
    on.seen.readable()
    on.set([two])
    on.seen.wait_answers(two)
    on.seen.run_for(5)
    return on.verdict().show()


def blackholed(on: Stage, seconds: float) -> str:
    """Packets to and from the name server vanish for a while; meanwhile its records change."""
    assert on.link is not None
    one, two = on.seen.endpoint(), on.seen.endpoint()
    on.set([one])
    on.seen.wait_answers(one)
    on.seen.unreadable()
    on.link.stall()
    on.set([two])
    on.seen.run_for(seconds)
    on.link.restore()
    on.seen.readable()
    on.seen.wait_answers(two)
    on.seen.run_for(5)
    return f"{on.verdict().show()}\n  {on.link.said()}"


def mesh_first(on: Stage, seconds: float) -> str:
    """The name server starts after hostmesh and after the first requests."""
    one = on.seen.endpoint()
    on.seen.unreadable()
    on.seen.run_for(seconds / 10)
    on.server.records = srv_lines([(one, 0, 1)])
    on.server._write()
    on.seen.set_to([one])
    on.server.start()
    on.seen.readable()
    begin = time.monotonic()
    on.seen.wait_answers(one)
    learned = time.monotonic() - begin
    on.seen.run_for(4)
    return f"first answer {learned:.2f} s after the name server could be read\n" + on.verdict().show()


def rebooted(on: Stage, seconds: float) -> str:
    """hostmesh is started anew while the name server is away: names from before are routed."""
    one, two = on.seen.endpoint(), on.seen.endpoint()
    on.set([one, two])
    on.seen.wait_answers(one, two)
    on.seen.unreadable()
    on.server.kill()
    on.seen.paused = True
    on.mesh.close()
    on.mesh.start()
    on.seen.reconnect()
    on.seen.paused = False
    begin = time.monotonic()
    on.seen.wait_answers(one, two)
    took = time.monotonic() - begin
    on.seen.run_for(seconds / 10)
    on.server.records = srv_lines([(two, 0, 1)])
    on.server._write()
    on.server.start()
    on.seen.set_to([two])
    on.seen.readable()
    on.seen.run_for(6)
    return f"first answers {took:.2f} s after the start\n" + on.seen.judge().check().show()


def flips(on: Stage, seconds: float) -> str:
    """A record of TTL 1 changes again and again, each change as soon as the last has been followed."""
    # More than can be tried within the hold, so that none is still known from its last turn.
    ends = [on.seen.endpoint() for _ in range(12)]
    on.seen.paused = True
    times = []
    count = max(3, round(seconds * 100 / 60))
    with Prober(on.mesh.port) as prober:
        for flip in range(count):
            on.set([ends[flip % len(ends)]])
            times.append(prober.time_to_route(ends[flip % len(ends)].key))
    times.sort()
    on.seen.paused = False
    on.seen.run_for(5)
    on.verdict()
    return (
        f"{count} changes of a record with TTL 1, seconds until the first request went there: "
        f"p50 {times[len(times) // 2]:.2f}, p99 {times[int(len(times) * 0.99)]:.2f}, max {times[-1]:.2f}"
    )


def shipped(on: Stage, seconds: float) -> str:
    """config/dns.yaml as it is, but for its ports and its domain."""
    text = (ROOT / "config" / "dns.yaml").read_text()
    ports = {"9990": "@admin@", "4140": "@port@", "8600": "@dns@"}
    text = re.sub(r"(?<=port: )(9990|4140|8600)", lambda found: ports[found[1]], text)
    text = text.replace("service.example", "example")
    one = on.seen.endpoint()
    with (
        tempfile.TemporaryDirectory() as name,
        Hostmesh(Path(name), text, ports={"dns": on.server.port}) as mesh,
    ):
        on.server.put(srv_lines([(one, 0, 1)]))
        with Prober(mesh.port) as prober:
            took = prober.time_to_route(one.key)
    return f"routed after {took:.2f} s"


def weights(on: Stage, seconds: float) -> str:
    """Requests go by weight, to the preferred priority only; when that is gone, to the next."""
    ends = [on.seen.endpoint() for _ in range(4)]
    records = [(ends[0], 1, 10), (ends[1], 1, 30), (ends[2], 1, 0), (ends[3], 2, 50)]
    on.server.put(srv_lines(records))
    on.seen.set_to(ends)
    on.seen.wait_answers(ends[0], ends[1])
    begin = len(on.seen.answers)
    on.seen.run_for(max(10.0, seconds))
    got = Counter(answer.endpoint for answer in on.seen.answers[begin:])
    shares = [got[end.key] / sum(got.values()) for end in ends]
    assert abs(shares[0] - 0.25) < 0.05, shares
    assert abs(shares[1] - 0.75) < 0.05, shares
    assert shares[2] < 0.02, shares
    assert shares[3] == 0, shares
    on.server.put(srv_lines([records[3]]))
    on.seen.set_to([ends[3]])
    on.seen.wait_answers(ends[3])
    on.seen.wait_quiet(*ends[:3])
    verdict = on.seen.judge().check()
    shown = ", ".join(f"{share:.1%}" for share in shares)
    return f"weights 10, 30, 0 and one of the next priority: shares {shown}\n{verdict.show()}"


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        changes,
        killed,
        emptied,
        frozen,
        blackholed,
        mesh_first,
        rebooted,
        flips,
        shipped,
        weights,
    )
}


def play(name: str, seconds: float = 60.0) -> str:
    """Run one; what is to be printed of it. ``seconds`` is how long the outage lasts. AssertionError if it fails."""
    with stage(mesh_first=name == "mesh_first", far=name == "blackholed") as on:
        return SCENARIOS[name](on, seconds)


if __name__ == "__main__":
    for wanted in sys.argv[1:] or list(SCENARIOS):
        print(f"{wanted}: {SCENARIOS[wanted].__doc__}\n{play(wanted)}\n", flush=True)
