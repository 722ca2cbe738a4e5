"""``kill -9`` of one of three endpoints under load, and its return."""

from __future__ import annotations

import time
from pathlib import Path

from tests.wire.counting import deliveries
from tests.wire.load import Call, failed
from tests.wire.scenarios.world import HEAD, Figures, World

CONFIG = (
    HEAD
    + """\
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs;
  service:
    responseClassifier:
      kind: io.l5d.http.retryableRead5XX
  client:
    failureAccrual:
      kind: io.l5d.consecutiveFailures
      failures: 5
      backoff:
        kind: constant
        ms: @probe_ms@
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
)

PROBE_MS = 500
CLIENT = "rt/http/client/#/io.l5d.fs/web/"


def mixed(n: int) -> Call:
    """Every other request a POST with a body."""
    return Call("POST", body_bytes=300) if n % 2 else Call()


def kill_under_load(folder: Path, *, seconds: float, rate: float = 500.0, delay_ms: float = 40.0) -> Figures:
    """Three endpoints, half GETs and half POSTs; one is killed for a third of the time and then comes back.

    With ``retryableRead5XX`` no GET fails. POSTs fail only if they were with the killed process or on their way to it
    at that moment, and no POST is delivered twice, whether it failed or not.
    """
    third = int(rate * seconds / 3)
    with World(folder) as world:
        web = [world.endpoint(f"web-{n}", delay_ms=delay_ms) for n in (1, 2, 3)]
        mesh = world.serve(CONFIG.replace("@probe_ms@", str(PROBE_MS)), web=web)
        load = world.load(mesh.port, mixed, rate=rate)
        load.more(third)
        killed = time.monotonic()
        web[0].kill()
        dead = time.monotonic()
        delivered_before = web[0].count
        load.more(third)
        lost = [o for o in load.outcomes if o.endpoint == "web-1" and o.sent > dead]
        assert not lost, "a dead process answered"

        web[0].start()
        back = time.monotonic()
        load.wait(
            lambda: any(o.endpoint == "web-1" and o.sent > back for o in load.outcomes[-50:]),
            "the revived endpoint answers",
        )
        returned = time.monotonic() - back
        load.more(third)
        outcomes = load.stop()
        metrics = mesh.metrics()

        gets, posts = failed(outcomes, "GET"), failed(outcomes, "POST")
        assert gets == []
        counts = deliveries(web)
        again = sum(n > 1 for each, n in counts.items() if each.startswith("GET"))
        assert len(posts) + again > 0, "nothing was in flight: the kill proved nothing"
        # On their way: sent to hostmesh before the process was gone. The margin is for what the kernel and hostmesh
        # had between them then: the reset has to be read before the connection is known to be dead.
        assert [o for o in posts if not killed - 1.0 < o.sent < dead + 0.1] == []
        assert all(o.status == 502 and o.err.startswith("reset-by-endpoint") for o in posts), posts
        assert [each for each, n in counts.items() if each.startswith("POST") and n > 1] == []
        answered = {f"{o.method} {o.id}" for o in outcomes if o.ok}
        assert answered <= counts.keys()
        # Whatever else failed was delivered at most to the process that was killed, never to another one.
        others = deliveries(web[1:])
        assert [o.id for o in posts if f"POST {o.id}" in others] == []
        assert returned < PROBE_MS / 1000 + 1.0, returned
        share = sum(o.endpoint == "web-1" for o in outcomes[-third // 2 :]) / len(outcomes[-third // 2 :])
        assert 0.2 < share < 0.5
        return {
            "requests": len(outcomes),
            "GETs failed": len(gets),
            "POSTs failed": len(posts),
            "of them delivered to the killed process": sum(f"POST {o.id}" in counts for o in posts),
            "delivered to it before": delivered_before,
            "POSTs delivered twice": 0,
            "GETs delivered twice": again,
            "requeues": metrics[CLIENT + "retries/requeues"],
            "removals": metrics[CLIENT + "failure_accrual/removals"],
            "serves again after (ms, probe every 500)": round(returned * 1000),
            "share of the revived endpoint": round(share, 3),
        }


REFUSED = CONFIG.replace(
    """\
    failureAccrual:
      kind: io.l5d.consecutiveFailures
      failures: 5
      backoff:
        kind: constant
        ms: @probe_ms@
""",
    """\
    failureAccrual:
      kind: none
    loadBalancer:
      kind: roundRobin
""",
)
"""Nobody is avoided: every third request meets the endpoint that refuses."""


def refused_connects(folder: Path, *, total: int) -> Figures:
    """One of three endpoints refuses connections: every method goes elsewhere, streamed bodies included."""

    each = total // 8
    requeued: dict[str, float] = {}
    with World(folder) as world:
        web = [world.endpoint(f"web-{n}") for n in (1, 2, 3)]
        web[0].kill()
        mesh = world.serve(REFUSED, web=web)
        before = 0.0
        count = 0
        # 20 KB is above streamAfterContentLengthKB: such a body is not kept, so it could not be sent a second time.
        for method, body in (
            ("GET", 0),
            ("POST", 0),
            ("POST", 300),
            ("POST", 20_000),
            ("PUT", 20_000),
            ("DELETE", 0),
            ("PATCH", 300),
            ("OPTIONS", 0),
        ):
            prefix = f"{method}{body}-"
            outcomes = world.load(
                mesh.port, Call(method, body_bytes=body), connections=4, total=each, prefix=prefix
            ).finish()
            assert failed(outcomes) == []
            count += len(outcomes)
            now = mesh.metrics()[CLIENT + "retries/requeues"]
            requeued[f"{method} {body} B"] = now - before
            before = now

        assert world.twice() == [], world.twice()[:5]
        assert web[0].count == 0
        assert sum(endpoint.count for endpoint in web) == count
        # Between every third request, when those of four connections interleave, and every second: a requeue takes the
        # turn behind the one it was refused at.
        assert all(each / 6 < n < each * 0.65 for n in requeued.values()), requeued
        failures = mesh.metrics()[CLIENT + "service_creation/failures"]
        assert failures == before
        return {"requests": count, "failed": 0, "connect failures": failures, "requeued": requeued}
