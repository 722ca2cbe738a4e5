"""Endpoints that fail: retries within a budget, ejection without refusal, fail-fast, and deadlines over two routers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.wire.endpoint import Answer, EndpointServer
from tests.wire.harness import Hostmesh
from tests.wire.load import Call, by_endpoint, failed
from tests.wire.scenarios.world import HEAD, Figures, World

CLIENT = "rt/http/client/#/io.l5d.fs/web/"
SERVICE = "rt/http/service/svc/web/"


def config(client: str, *, service: str = "") -> str:
    return (
        HEAD
        + f"""\
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs;
  service:
    responseClassifier: {{kind: io.l5d.http.retryableRead5XX}}
{service}  client:
{client}  servers:
  - port: @port@
    ip: 127.0.0.1
"""
    )


def retry_storm(folder: Path, *, seconds: float, rate: float) -> Figures:
    """An endpoint that answers nothing but 500 gets at most requests x 1.2 + 10/s attempts (budget of 10 s)."""
    with World(folder) as world:
        bad = world.endpoint("bad", status=500)
        mesh = world.serve(config("    failureAccrual: {kind: none}\n"), web=[bad])
        begin = time.monotonic()
        outcomes = world.load(mesh.port, Call(), rate=rate, total=int(rate * seconds)).finish()
        took = time.monotonic() - begin
        requests = len(outcomes)
        # The ten per second may be spent ahead, for the budget's whole time to live.
        bound = requests * 1.2 + 10 * (took + 10)
        metrics = mesh.metrics()
        assert {o.status for o in outcomes} == {500}
        assert bad.count <= bound, (bad.count, bound)
        assert bad.count - requests == metrics[SERVICE + "retries/total"]
        # And it was tried: the budget was used up.
        assert bad.count >= requests * 1.15, (bad.count, requests)
        assert metrics[SERVICE + "retries/budget_exhausted"] > 0
        return {"requests": requests, "attempts": bad.count, "bound": round(bound), "seconds": round(took, 1)}


ACCRUAL = """\
    failureAccrual:
      kind: io.l5d.consecutiveFailures
      failures: 5
      backoff: {kind: constant, ms: 300}
"""


def all_dead(folder: Path, *, total: int) -> Figures:
    """Both endpoints fail and are ejected: every request still reaches one of them; healed they are alive again."""
    with World(folder) as world:
        web = [world.endpoint(f"web-{n}", status=500) for n in (1, 2)]
        mesh = world.serve(config(ACCRUAL), web=web)
        # POSTs, which are not retried: one request is one attempt.
        outcomes = world.load(mesh.port, Call("POST", body_bytes=10), connections=4, total=total).finish()
        metrics = mesh.metrics()
        assert {o.status for o in outcomes} == {500}
        assert sum(endpoint.count for endpoint in web) == total
        assert min(endpoint.count for endpoint in web) >= 5
        assert metrics[CLIENT + "failure_accrual/removals"] >= 2
        last_resort = metrics[CLIENT + "loadbalancer/last_resort"]
        # Each endpoint takes five failures to be ejected; all that follow, probes aside, are the last resort.
        probes = metrics[CLIENT + "failure_accrual/probes"]
        assert total - 10 - 8 - probes <= last_resort <= total - 10, (total, last_resort, probes)

        for endpoint in web:
            endpoint.heal()
        load = world.load(mesh.port, Call(), rate=200, prefix="healed")
        load.wait(lambda: set(by_endpoint(load.outcomes[-20:])) == {"web-1", "web-2"}, "both serve")
        settled = len(load.outcomes)
        load.more(100)
        outcomes = load.stop()
        assert failed(outcomes[settled:]) == []
        after = mesh.metrics()
        assert after[CLIENT + "failure_accrual/revivals"] == 2
        assert after[CLIENT + "loadbalancer/available"] == 2
        return {
            "requests while all were dead": total,
            "refused": 0,
            "last resort": last_resort,
            "probes": after[CLIENT + "failure_accrual/probes"],
            "revivals": after[CLIENT + "failure_accrual/revivals"],
        }


def fail_fast(folder: Path, *, rate: float) -> Figures:
    """With failFast an endpoint that refuses connections is left alone and counted apart from failure accrual."""
    with World(folder) as world:
        web = [world.endpoint(f"web-{n}") for n in (1, 2)]
        mesh = world.serve(config("    failFast: true\n    failureAccrual: {kind: none}\n"), web=web)
        web[0].kill()
        load = world.load(mesh.port, Call(), rate=rate)
        load.more(200)
        metrics = mesh.metrics()
        assert failed(load.outcomes) == []
        assert set(by_endpoint(load.outcomes)) == {"web-2"}
        assert metrics[CLIENT + "failfast/marked_dead"] == 1
        assert metrics.get(CLIENT + "failure_accrual/removals", 0) == 0
        tries = metrics[CLIENT + "service_creation/failures"]
        assert tries < 20, "a refusing endpoint is dialled by requests"
        web[0].start()
        load.wait(lambda: load.outcomes[-1].endpoint == "web-1", "it is found again without a request lost")
        outcomes = load.stop()
        assert failed(outcomes) == []
        metrics = mesh.metrics()
        assert metrics[CLIENT + "failfast/marked_available"] == 1

        for endpoint in web:
            endpoint.kill()
        mesh.wait(lambda: "all-ejected" in (mesh.get().get("l5d-err") or ""), "all refuse: said so at once")
        answer = mesh.get()
        assert answer.status == 503
        return {
            "requests": len(outcomes),
            "failed": 0,
            "dials of the dead endpoint": tries,
            "marked dead, available": (
                metrics[CLIENT + "failfast/marked_dead"],
                metrics[CLIENT + "failfast/marked_available"],
            ),
            "all refuse": answer.get("l5d-err"),
        }


TWO_ROUTERS = (
    HEAD
    + """\
routers:
- protocol: http
  label: first
  dtab: |
    /svc => /#/io.l5d.fs;
    /svc/web => /$/inet/127.0.0.1/@second@;
    /svc/slow => /$/inet/127.0.0.1/@second@;
  service:
    kind: io.l5d.static
    configs:
    - prefix: /svc
      totalTimeoutMs: 1000
    - prefix: /svc/slow
      totalTimeoutMs: 400
  servers:
  - port: @port@
    ip: 127.0.0.1
- protocol: http
  label: second
  dtab: |
    /svc/* => /#/io.l5d.fs/web;
  service:
    kind: io.l5d.static
    configs:
    - prefix: /svc
      totalTimeoutMs: 500
    - prefix: /svc/slow
      totalTimeoutMs: 60000
  servers:
  - port: @second@
    ip: 127.0.0.1
"""
)


def deadlines(folder: Path) -> Figures:
    """The time left shrinks with each hop, and when it is over everything behind is given up."""
    with World(folder) as world, EndpointServer("web") as web:
        mesh = Hostmesh(folder, TWO_ROUTERS, start=False)
        mesh.set_endpoints("web", [web])
        mesh.set_endpoints("spy", [web])
        mesh.start()
        world.enter_context(mesh)

        def left(host: str, port: str, own_ms: int | None) -> float:
            """Milliseconds from the moment of the request to the deadline that the endpoint sees."""
            now = time.time_ns()
            fields = () if own_ms is None else (("l5d-ctx-deadline", f"{now} {now + own_ms * 1_000_000}"),)
            answer = mesh.send("GET", host=host, port=port, fields=fields)
            assert answer.status == 200, answer.text
            words = (answer.seen("l5d-ctx-deadline") or "").split()
            assert len(words) == 2, words
            return (int(words[1]) - now) / 1e6

        seen = {
            "caller 2000, first router 1000": left("spy", "port", 2000),
            "caller 2000, first 1000, second 500": left("web", "port", 2000),
            "no caller's, first 1000, second 500": left("web", "port", None),
            "caller 300, first 1000, second 500": left("web", "port", 300),
        }
        wanted = (1000, 500, 500, 300)
        for (what, value), most in zip(seen.items(), wanted, strict=True):
            if most == 300:
                # The caller's own is handed on as it is: never later, and earlier by what two clocks differ.
                assert most - 100.0 <= value <= most, seen
            else:
                # A router's own begins when the request arrives there, which is after it was sent.
                assert most - 100.0 <= value <= most + 250.0, (what, seen)

        go = threading.Event()
        web.respond = lambda _: Answer(wait=go)
        before = len(web.requests)
        begin = time.monotonic()
        late = mesh.get(host="slow")
        took = time.monotonic() - begin
        # The endpoint's connection is closed by then or at once: nobody waits for its answer any more.
        mesh.wait(lambda: closed_by_peer(web), "the endpoint's connection is closed", within=5.0)
        given_up = time.monotonic() - begin
        go.set()
        pending = {
            label: mesh.metrics()[f"rt/{label}/service/svc/slow/pending"] for label in ("first", "second")
        }
        assert late.status == 503
        assert 0.39 < took < 5, took
        assert given_up < 6, given_up
        assert len(web.requests) - before == 1
        assert pending == {"first": 0, "second": 0}

        expired = mesh.send("GET", fields=(("l5d-ctx-deadline", f"{time.time_ns()} {time.time_ns() - 1}"),))
        assert expired.status == 503
        assert "deadline" in (expired.get("l5d-err") or "")
        assert len(web.requests) - before == 1
        return {
            **{f"ms left at the endpoint ({what})": round(value, 1) for what, value in seen.items()},
            "answer after (ms, allowed 400)": round(took * 1000),
            "endpoint given up after (ms)": round(given_up * 1000),
            "said": late.get("l5d-err"),
            "attempts": 1,
        }


def closed_by_peer(server: EndpointServer) -> bool:
    """Whether a connection on which the endpoint is still thinking has been closed by the other side."""
    from select import POLLHUP, POLLRDHUP, poll

    with server.changed:
        peers = list(server.peers.values())
    watcher = poll()
    for peer in peers:
        watcher.register(peer.fileno(), POLLRDHUP)
    return any(mask & (POLLRDHUP | POLLHUP) for _fd, mask in watcher.poll(0))
