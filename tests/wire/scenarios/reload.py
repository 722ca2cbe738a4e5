"""The configuration changes under load, for better or worse."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.wire.harness import Hostmesh, free_port
from tests.wire.load import Call, by_endpoint, failed
from tests.wire.scenarios.world import HEAD, Figures, World, agree

CLIENTS = "rt/main/client/#/io.l5d.fs/"


def config(weight: int, extra: int, *, more: str = "") -> str:
    """``main`` splits v1 and v2 by weight : 10 - weight; ``extra`` further routers have a port each."""
    routers = [
        f"""\
- protocol: http
  label: main
  dtab: |
    /svc/web => {weight} * /#/io.l5d.fs/v1 & {10 - weight} * /#/io.l5d.fs/v2;
  servers:
  - port: @port@
    ip: 127.0.0.1
{more}"""
    ]
    routers += [
        f"""\
- protocol: http
  label: extra{n}
  dtab: |
    /svc/web => /#/io.l5d.fs/{"v2" if n % 2 else "v1"};
  servers:
  - port: @extra{n}@
    ip: 127.0.0.1
"""
        for n in range(extra)
    ]
    return HEAD + "routers:\n" + "".join(routers)


def reloads(mesh: Hostmesh) -> int:
    """How many have succeeded. The log would not do: it drops what repeats more than twenty times."""
    count = int(str(mesh.admin("/admin/server_info").json()["reloads"]))
    assert mesh.metrics()["config/reloads"] >= count
    return count


def reload_under_load(folder: Path, *, times: int, rate: float, per_phase: int) -> Figures:
    """``times``: another weight and one more router. Nothing fails, nothing that was learned is lost."""
    with World(folder) as world:
        v1, v2 = world.endpoint("v1"), world.endpoint("v2")
        mesh = world.serve(config(5, 0), v1=[v1], v2=[v2])
        load = world.load(mesh.port, Call(), rate=rate)
        load.more(per_phase)
        connects = {name: mesh.metrics()[f"{CLIENTS}{name}/connects"] for name in ("v1", "v2")}
        accepted = mesh.metrics()[f"rt/main/server/127.0.0.1/{mesh.port}/connects"]
        server_pid = mesh.pid
        shares: list[str] = []
        for n in range(1, times + 1):
            weight = 9 if n % 2 else 1
            before = reloads(mesh)
            mesh.write_config(config(weight, n))
            mesh.wait(lambda before=before: reloads(mesh) > before, f"reload {n}")  # type: ignore[misc]
            load.more(int(rate / 20))
            # The new port answers, and so do those of the reloads before.
            for extra in range(n):
                answer = mesh.get(port=f"extra{extra}", X_Id="extra")
                assert answer.text == f"{'v2' if extra % 2 else 'v1'} extra"
            settled = len(load.outcomes)
            load.more(per_phase)
            phase = load.outcomes[settled : settled + per_phase]
            share = by_endpoint(phase)["v1"] / per_phase
            wide = 5 * (0.1 * 0.9 / per_phase) ** 0.5
            assert abs(share - weight / 10) < wide, (n, share, weight)
            shares.append(f"{weight}:{10 - weight} {share:.1%}")
        worst = max(o.done - o.sent for o in load.outcomes)
        outcomes = load.stop()
        metrics = mesh.metrics()

        assert failed(outcomes) == []
        assert load.closed_idle == load.told_to_close == 0, "a reload ended a caller's connection"
        delivered = sorted(
            x for endpoint in (v1, v2) for x in endpoint.delivered() if not x.endswith("extra")
        )
        assert delivered == sorted(f"GET {o.id}" for o in outcomes)
        # Counters go on from where they were, for servers, services and clients.
        total = len(outcomes)
        assert metrics[f"rt/main/server/127.0.0.1/{mesh.port}/requests"] == total
        assert metrics["rt/main/service/svc/web/requests"] == total
        assert sum(metrics[f"{CLIENTS}{name}/requests"] for name in ("v1", "v2")) == total
        # Pools survive: no connection was given up, and new ones come only with peaks of load.
        assert metrics[f"{CLIENTS}v1/closes"] + metrics[f"{CLIENTS}v2/closes"] == 0
        assert metrics[f"rt/main/server/127.0.0.1/{mesh.port}/connects"] - accepted == load.opened - accepted
        assert mesh.pid == server_pid
        return {
            "reloads": times,
            "requests": total,
            "failed": 0,
            "share of v1": ", ".join(shares),
            "connects to endpoints before, after": (
                sum(connects.values()),
                metrics[f"{CLIENTS}v1/connects"] + metrics[f"{CLIENTS}v2/connects"],
            ),
            "slowest answer (ms)": round(worst * 1000, 1),
            "longest pause of the loop (ms)": round(metrics["process/loop/worst_pause_ms"], 1),
        }


def refused_reloads(folder: Path, *, rate: float) -> Figures:
    """An unknown key, half a file and a port in use are refused, each saying why; the old one serves on."""
    with World(folder) as world, socket.socket() as taken:
        v1, v2 = world.endpoint("v1"), world.endpoint("v2")
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        mesh = world.serve(config(9, 0), v1=[v1], v2=[v2])
        load = world.load(mesh.port, Call(), rate=rate)
        load.more(50)
        bad = {
            "hostmesh.yaml:": config(9, 0).replace("dtab:", "dtabb:"),
            "hostmesh.yaml:3: ": "seed: 42\nadmin: {",
            f"cannot listen on 127.0.0.1:{port}": config(9, 0, more=f"  - port: {port}\n    ip: 127.0.0.1\n"),
        }
        said: list[str] = []
        for wanted, text in bad.items():
            refusals = mesh.log().count("reload refused")
            mesh.write_config(text)
            mesh.wait(lambda n=refusals: mesh.log().count("reload refused") > n, f"refusal of {wanted}")  # type: ignore[misc]
            entry = [e for e in mesh.log_entries() if "reload refused" in str(e.get("event"))][-1]
            assert wanted in str(entry["mistakes"]), entry
            said.append(str(entry["mistakes"][0]))  # type: ignore[index]
            load.more(50)
        before = reloads(mesh)
        assert before == 0
        mesh.write_config(config(1, 1))
        mesh.wait(lambda: reloads(mesh) > 0, "a good file after the bad ones")
        mesh.hup()
        mesh.wait(lambda: reloads(mesh) > 1, "SIGHUP reloads")
        mesh.wait_log('"why": "SIGHUP"')
        load.more(100)
        assert mesh.get(port="extra0", X_Id="x").text == "v1 x"
        outcomes = load.stop()
        assert failed(outcomes) == []
        v2.close()
        agree([v2], outcomes)
        return {"requests": len(outcomes), "failed": 0, "said": said}


def rebuilt_under_load(folder: Path, *, times: int, rate: float) -> Figures:
    """Namers, balancers, classifiers and pools change, twice in a row each time: what is in flight goes on."""
    kinds = ("p2c", "ewma", "aperture", "roundRobin")

    def text(n: int) -> str:
        return (
            HEAD
            + f"""\
  holdMs: {2000 + n}
routers:
- protocol: http
  label: main
  dtab: |
    /svc => /#/io.l5d.fs;
  service:
    totalTimeoutMs: {5000 + n}
    responseClassifier: {{kind: io.l5d.http.{"retryableRead5XX" if n % 3 else "nonRetryable5XX"}}}
  client:
    loadBalancer: {{kind: {kinds[n % len(kinds)]}}}
    failureAccrual: {{kind: {"none" if n % 2 else "io.l5d.consecutiveFailures"}}}
    hostConnectionPool: {{maxSize: {4 + n}}}
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
        )

    with World(folder) as world:
        web = [world.endpoint(f"web-{n}", delay_ms=20) for n in (1, 2)]
        mesh = world.serve(text(0), web=web)
        load = world.load(mesh.port, lambda n: Call("POST", body_bytes=300) if n % 2 else Call(), rate=rate)
        load.more(int(rate / 4))
        for n in range(1, times + 1):
            before = reloads(mesh)
            mesh.write_config(text(2 * n - 1))
            mesh.wait(lambda b=before: reloads(mesh) > b, f"reload {n}")  # type: ignore[misc]
            # The next one at once, on the heels of the first.
            mesh.write_config(text(2 * n))
            mesh.hup()
            mesh.wait(lambda b=before: reloads(mesh) > b + 1, f"second reload {n}")  # type: ignore[misc]
            load.more(int(rate / 4))
        outcomes = load.stop()
        assert failed(outcomes) == []
        agree(web, outcomes)
        metrics = mesh.metrics()
        assert metrics["rt/main/service/svc/web/requests"] == len(outcomes)
        assert metrics[f"{CLIENTS}web/requests"] == len(outcomes)
        assert metrics[f"{CLIENTS}web/pending"] == 0
        # Connections of stacks that were replaced are closed when their exchange ends, and not kept.
        assert (
            metrics[f"{CLIENTS}web/connects"] - metrics[f"{CLIENTS}web/closes"]
            == metrics[f"{CLIENTS}web/connections"]
        ), (metrics[f"{CLIENTS}web/connects"], metrics[f"{CLIENTS}web/closes"])
        return {
            "reloads": reloads(mesh),
            "requests": len(outcomes),
            "failed": 0,
            "connects": metrics[f"{CLIENTS}web/connects"],
            "closes": metrics[f"{CLIENTS}web/closes"],
        }
