"""grpc-go as caller and as server, through a hostmesh on real sockets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.go_peers import GoPeer, GoServer
from tests.servers.fetch import required
from tests.servers.fetch_go_peers import go_peers
from tests.wire.harness import Hostmesh

KINDS = ["unary", "client", "server", "bidi"]
ANSWERS = {"unary": ["x"], "client": ["1 1"], "server": ["x 0"], "bidi": ["x"]}
LARGE = 8_000_000
TEXT = "größer als erlaubt: 100 %, ≥ ∞"

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, shutdownGraceMs: 20000}
namers:
- {kind: io.l5d.fs, rootDir: @dir@/disco}
routers:
- protocol: h2
  label: grpc
  dtab: /svc => /#/io.l5d.fs
  service:
    responseClassifier: {kind: io.l5d.h2.grpc.default}
  client:
    # these tests end many calls badly on purpose
    failureAccrual: {kind: none}
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""

FASTER = 500
"""How many times sooner than others the hostmesh of :func:`hasty` asks whether an endpoint is there."""

HASTY = f"""
import sys
from hostmesh.proxy import h2_client_life, h2_liveness
for name in ("PING_IDLE", "PING_QUIET", "PING_AGAIN"):
    setattr(h2_liveness, name, getattr(h2_liveness, name) / {FASTER})
h2_client_life.PING_QUIET = h2_liveness.PING_QUIET
from hostmesh.cli import main
del sys.argv[0]
sys.exit(main())
"""

MIN_PING_MS = 300_000 // FASTER
"""MinTime of grpc-go's default EnforcementPolicy, in the same proportion."""


@pytest.fixture(scope="module")
def program() -> Path:
    return required(go_peers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("go")


@pytest.fixture(scope="module")
def mesh(folder: Path) -> Iterator[Hostmesh]:
    with Hostmesh(folder, CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def server(program: Path, mesh: Hostmesh) -> Iterator[GoServer]:
    with GoServer(program, "serve", name="a") as running:
        mesh.set_endpoints("web", [running])
        yield running


@pytest.fixture
def caller(program: Path, mesh: Hostmesh, server: GoServer) -> Iterator[GoPeer]:
    with channel(program, mesh) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def patient(program: Path, mesh: Hostmesh, server: GoServer) -> Iterator[GoPeer]:
    """A caller with keepalive as often as Go has it, 10 s, and a call that waits beside all other tests."""
    with channel(program, mesh, keepalive_ms=1) as running:
        before = server.count("started")
        running.ask("start", kind="unary", messages=["x"], metadata=[["x-hold", "1"]])
        server.wait(started=before + 1)
        yield running


def channel(program: Path, *meshes: Hostmesh, authority: str = "web", **options: Any) -> GoPeer:
    return GoPeer(program, "call", ports=[mesh.port for mesh in meshes], authority=authority, **options)


def ok(kind: str) -> dict[str, Any]:
    return {"code": 0, "details": "", "messages": ANSWERS[kind]}


def picked(found: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: found[name] for name in names}


# -- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_four_kinds(caller: GoPeer, kind: str) -> None:
    """Each kind of call has its answers, with metadata in the head and in the trailers."""
    octets = "".join(map(chr, range(256)))
    metadata = [["x-echo-a", "1"], ["x-echo-a", "2"], ["x-echo-b-bin", octets]]
    found = caller.ask("call", kind=kind, messages=["x"], metadata=metadata)

    assert picked(found, "code", "details", "messages") == ok(kind)
    for part in ("header", "trailer"):
        assert picked(found[part], "x-echo-a", "x-echo-b-bin") == {
            "x-echo-a": ["1", "2"],
            "x-echo-b-bin": [octets],
        }
    assert found["trailer"]["x-served-by"] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_passes(caller: GoPeer, server: GoServer, kind: str) -> None:
    """The caller is told, and the server's call ends, which knew how much time there was."""
    before = server.count("cancelled")
    found = caller.ask("call", kind=kind, messages=["x"], metadata=[["x-hold", "1"]], timeout_ms=150)

    assert found["code"] == 4
    assert server.wait(cancelled=before + 1)["cancelled"] == before + 1
    # and one that is met
    met = caller.ask("call", kind=kind, messages=["x"], timeout_ms=20_000)
    assert picked(met, "code", "details", "messages") == ok(kind)
    assert 10_000 < int(met["trailer"]["x-time-left-ms"][0]) <= 20_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_sees_a_cancel(caller: GoPeer, server: GoServer, kind: str) -> None:
    """Cancelling a call ends it at the server."""
    before = server.wait()
    id = caller.ask("start", kind=kind, messages=["x"], metadata=[["x-hold", "1"]])["id"]
    server.wait(started=before["started"] + 1)
    caller.ask("cancel", id=id)

    assert caller.ask("result", id=id)["code"] == 1
    server.wait(cancelled=before.get("cancelled", 0) + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_large_messages(caller: GoPeer, kind: str) -> None:
    """8 MB in each direction."""
    metadata = [["x-size", str(LARGE)]]
    found = caller.ask("call", kind=kind, messages=["x"], size=LARGE, metadata=metadata)

    assert picked(found, "code", "details", "sizes") == {"code": 0, "details": "", "sizes": [LARGE]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_keys(caller: GoPeer, kind: str) -> None:
    """As many keys of metadata as anybody has, there and back, in the head and in the trailers."""
    keys = {f"x-echo-{number}": [f"value {number}"] for number in range(100)}
    metadata = [[key, value] for key, (value,) in keys.items()]
    found = caller.ask("call", kind=kind, messages=["x"], metadata=metadata)

    assert picked(found, "code", "details", "messages") == ok(kind)
    for part in ("header", "trailer"):
        assert {key: found[part].get(key) for key in keys} == keys


@pytest.mark.parametrize("rich", [False, True], ids=["text", "details-bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_status_with_text(caller: GoPeer, kind: str, rich: bool) -> None:
    """Code, UTF-8 text, and the details in ``grpc-status-details-bin``; nothing before them: trailers only."""
    metadata = [["x-status", "9"], ["x-details-bin", TEXT.encode().decode("latin-1")], ["x-count", "0"]]
    metadata += [["x-rich", "1"]] if rich else []
    found = caller.ask("call", kind=kind, messages=[] if kind == "bidi" else ["x"], metadata=metadata)

    assert picked(found, "code", "details", "rich", "messages", "trailers_only") == {
        "code": 9,
        "details": TEXT,
        "rich": [TEXT] if rich else [],
        "messages": [],
        "trailers_only": True,
    }
    assert found["trailer"]["x-served-by"] == ["a"]


def test_a_status_after_messages(caller: GoPeer) -> None:
    """A stream may fail after answers, which have reached the caller."""
    metadata = [["x-status", "8"], ["x-count", "3"], ["x-details-bin", "full"]]
    found = caller.ask("call", kind="server", messages=["x"], metadata=metadata)

    assert picked(found, "code", "details", "messages", "trailers_only") == {
        "code": 8,
        "details": "full",
        "messages": ["x 0", "x 1", "x 2"],
        "trailers_only": False,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_messages(caller: GoPeer, kind: str) -> None:
    """gzip both ways: ``grpc-encoding`` and the bytes are the peers' business."""
    found = caller.ask(
        "call", kind=kind, messages=["x"], size=100_000, gzip=True, metadata=[["x-size", "99999"]]
    )

    assert picked(found, "code", "details", "sizes", "compression") == {
        "code": 0,
        "details": "",
        "sizes": [99_999],
        "compression": "gzip",
    }
    assert found["trailer"]["x-compression"] == ["gzip"]


def test_many_messages_both_ways(caller: GoPeer) -> None:
    """Two thousand messages each way in one call, in order."""
    messages = [f"message {number}" for number in range(2000)]
    found = caller.ask("call", kind="bidi", messages=messages)

    assert picked(found, "code", "messages") == {"code": 0, "messages": messages}


@pytest.mark.parametrize(
    ("name", "lines", "text"),
    [
        ("nobody", None, "name-negative: Unable to route request! /svc/nobody is"),
        ("empty", [], "no-endpoints: Unable to route request! /#/io.l5d.fs/empty is"),
        ("closed", ["127.0.0.1 1"], "connect-refused: Unable to establish connection to 127.0.0.1:1"),
    ],
    ids=["no name", "no endpoint", "no listener"],
)
def test_nobody_is_there(
    program: Path, mesh: Hostmesh, name: str, lines: list[str] | None, text: str
) -> None:
    """UNAVAILABLE, with a text that says who was looked for, or where."""
    if lines is not None:
        mesh.set_endpoints(name, lines)
    found: dict[str, Any] = {}
    with channel(program, mesh, authority=name) as caller:

        def told() -> bool:
            found.update(caller.ask("call", kind="unary", messages=["x"]))
            return text in found["details"]

        mesh.wait(told, f"details: {text}")

    assert (found["code"], found["trailers_only"]) == (14, True)


def test_health_is_watched(program: Path, mesh: Hostmesh, caller: GoPeer, server: GoServer) -> None:
    """``grpc.health.v1.Health/Watch``: a stream that speaks when something changes."""
    server.ask("health", service="shop", status="SERVING")
    caller.ask("watch", service="shop")
    assert caller.ask("next") == {"status": "SERVING"}
    for status in ("NOT_SERVING", "SERVING"):
        server.ask("health", service="shop", status=status)
        assert caller.ask("next") == {"status": status}


# -- the lives of connections -----------------------------------------------------------------------------------------


def test_a_server_that_stops_gracefully_loses_no_call(
    program: Path, folder: Path, mesh: Hostmesh, cleanup: ExitStack
) -> None:
    """GracefulStop of one of two servers, with calls that run and calls that come: all are served."""
    first, second = (cleanup.enter_context(GoServer(program, "serve", name=name)) for name in ("b", "c"))
    mesh.set_endpoints("stopping", [first])
    caller = cleanup.enter_context(channel(program, mesh, authority="stopping"))
    held = [
        caller.ask("start", kind=kind, messages=["x"], metadata=[["x-hold", "1"]])["id"] for kind in KINDS
    ]
    first.wait(started=4)
    mesh.set_endpoints("stopping", [first, second])
    caller.ask("begin", kind="unary", messages=["x"], number=8)
    caller.wait(**{"served b": 50, "served c": 50})
    first.ask("stop")
    first.wait(sent_goaways=1)
    served = caller.count("served c")
    caller.wait(**{"served c": served + 100})
    assert first.count("stopped") == 0
    first.ask("release")

    assert [caller.ask("result", id=id)["code"] for id in held] == [0, 0, 0, 0]
    first.wait(stopped=1)
    served = caller.count("served c")
    caller.wait(**{"served c": served + 100})
    assert caller.ask("end")["failed"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_reach_their_age_lose_no_call(
    program: Path, mesh: Hostmesh, cleanup: ExitStack, kind: str
) -> None:
    """MaxConnectionAge with calls all the time: GOAWAY by GOAWAY, and none of them fails."""
    server = cleanup.enter_context(GoServer(program, "serve", name="d", max_age_ms=60))
    mesh.set_endpoints("aging", [server])
    caller = cleanup.enter_context(channel(program, mesh, authority="aging"))
    caller.ask("begin", kind=kind, messages=["x", "y"][: 1 + (kind in ("client", "bidi"))], number=8)
    server.wait(connections=12)
    found = caller.ask("end")

    assert found["failed"] == []
    assert found["served"]["d"] > 50


def test_two_meshes_by_round_robin(program: Path, mesh: Hostmesh, server: GoServer, tmp_path: Path) -> None:
    """A channel with two hostmeshes uses both; one that is told to stop takes no call with it."""
    with Hostmesh(tmp_path, CONFIG, start=False) as other:
        other.set_endpoints("web", [server])
        other.start()
        with channel(program, mesh, other) as caller:
            caller.ask("begin", kind="unary", messages=["x"], number=8)
            caller.wait(connections=2, **{"served a": 100})
            other.wait_metric("rt/grpc/service/svc/web/requests", lambda value: value > 30)
            other.terminate()
            assert other.wait_exit() == 0
            caller.wait(**{"served a": caller.count("served a") + 100})
            assert caller.ask("end")["failed"] == []


def test_a_full_server_is_not_overrun(program: Path, mesh: Hostmesh, cleanup: ExitStack) -> None:
    """A server that takes two streams at once gets another connection for more, and no call is refused."""
    server = cleanup.enter_context(GoServer(program, "serve", name="e", max_streams=2))
    mesh.set_endpoints("narrow", [server])
    caller = cleanup.enter_context(channel(program, mesh, authority="narrow"))
    ids = [
        caller.ask("start", kind="unary", messages=["x"], metadata=[["x-hold", "1"]])["id"] for _ in range(12)
    ]
    server.wait(started=12)
    server.ask("release")

    assert [caller.ask("result", id=id)["code"] for id in ids] == [0] * 12


# -- PINGs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Hostmesh]:
    """A hostmesh that finds rests and silences long FASTER times sooner: 20 ms and 60 ms."""
    with Hostmesh(tmp_path, CONFIG, prefix=[sys.executable, "-c", HASTY]) as running:
        yield running


def no_complaint(counts: dict[str, int]) -> bool:
    return not any(name.startswith("sent_goaway") for name in counts)


def test_pings_after_rests_are_few_enough_for_grpc_go(
    program: Path, hasty: Hostmesh, cleanup: ExitStack
) -> None:
    """Each request after a rest brings a PING, which the answers to the requests before it allow."""
    server = cleanup.enter_context(GoServer(program, "serve", name="f", min_ping_ms=MIN_PING_MS))
    hasty.set_endpoints("web", [server])
    caller = cleanup.enter_context(channel(program, hasty))

    def asked_after_a_rest(before: int) -> bool:
        # Between two looks the harness waits for about as long as a rest.
        assert caller.ask("call", kind="unary", messages=["x"])["code"] == 0
        return server.count("pings") > before

    for _ in range(6):
        hasty.wait(partial(asked_after_a_rest, server.count("pings")), "a PING with a request")

    found = server.wait()
    assert no_complaint(found), found
    assert found["connections"] == 1


def test_pings_with_requests_that_nobody_answers_are_few_enough_for_grpc_go(
    program: Path, hasty: Hostmesh, cleanup: ExitStack
) -> None:
    """A server that takes requests and answers none is asked whether it is there, but not with each of them."""
    server = cleanup.enter_context(GoServer(program, "serve", name="f", min_ping_ms=MIN_PING_MS))
    hasty.set_endpoints("web", [server])
    caller = cleanup.enter_context(channel(program, hasty))
    while server.count("pings") < 5:
        found = caller.ask("call", kind="unary", messages=["x"], metadata=[["x-hold", "1"]], timeout_ms=50)
        assert found["code"] == 4

    counts = server.wait()
    assert no_complaint(counts), counts


@pytest.mark.parametrize("kind", ["unary", "server"])
def test_pings_to_a_quiet_server_are_few_enough_for_grpc_go(
    program: Path, hasty: Hostmesh, cleanup: ExitStack, kind: str
) -> None:
    """A call that is silent both ways is asked about, but not so often that the server complains."""
    server = cleanup.enter_context(GoServer(program, "serve", name="g", min_ping_ms=MIN_PING_MS))
    hasty.set_endpoints("web", [server])
    caller = cleanup.enter_context(channel(program, hasty))
    id = caller.ask("start", kind=kind, messages=["x"], metadata=[["x-hold", "1"]])["id"]
    server.wait(pings=5)
    server.ask("release")

    assert caller.ask("result", id=id)["code"] == 0
    counts = server.wait()
    assert no_complaint(counts), counts


def test_pings_to_a_server_that_only_listens_are_few_enough_for_grpc_go(
    program: Path, hasty: Hostmesh, cleanup: ExitStack
) -> None:
    """A client stream with a message now and then: the server's PINGs, WINDOW_UPDATEs and SETTINGS are no data."""
    server = cleanup.enter_context(GoServer(program, "serve", name="h", min_ping_ms=MIN_PING_MS))
    hasty.set_endpoints("web", [server])
    caller = cleanup.enter_context(channel(program, hasty))
    caller.ask("open")
    for pings in range(1, 6):
        assert caller.ask("send", messages=["x"]) == {"error": "<nil>"}
        server.wait(pings=pings)

    assert caller.ask("finish") == {"code": 0, "details": "<nil>", "message": "5 5"}
    counts = server.wait()
    assert no_complaint(counts), counts


def test_keepalive_of_callers_is_not_refused(patient: GoPeer) -> None:
    """A caller with keepalive that sends PINGs, with a silent call and nothing else, is answered each time."""
    found = patient.wait(sent_pings=2, pongs=2, within=40)

    assert found.get("goaways", 0) == 0
    assert found["connections"] == 1
