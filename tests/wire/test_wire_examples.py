"""Linkerd's own example configurations run unchanged, and what each sets is observed.

They are not part of hostmesh: ``HOSTMESH_EXAMPLES`` names their folder, by default
``../shared/reference/linkerd-examples`` beside the repository; without it these tests are skipped. Their ports are
fixed, so each test has a network of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.fetch import required, statsd
from tests.servers.running import running
from tests.wire.counting import CountingEndpoint
from tests.wire.endpoint import ROOT
from tests.wire.harness import COMMAND, Answer, EndpointServer, Hostmesh, replace_file
from tests.wire.load import Call, Load, failed
from tests.wire.network import own_network

EXAMPLES = Path(os.environ.get("HOSTMESH_EXAMPLES", ROOT.parent / "shared/reference/linkerd-examples"))

pytestmark = pytest.mark.skipif(not (EXAMPLES / "http.yaml").exists(), reason=f"no examples in {EXAMPLES}")

PORT = 4140
ADMIN = 9990
DOG = CAT = 8888
SERVER = f"rt/http/server/0.0.0.0/{PORT}"

Run = Callable[[str], Hostmesh]
Endpoint = Callable[..., EndpointServer]


@pytest.fixture(scope="session")
def statsd_command() -> list[str]:
    """Fetched before any test has a network of its own, from which nothing can be fetched."""
    return required(statsd)


@pytest.fixture
def network() -> Iterator[ExitStack]:
    """What is entered here lives in the test's own network, and ends before it."""
    with own_network(), ExitStack() as stack:
        yield stack


@pytest.fixture
def endpoint(network: ExitStack) -> Endpoint:
    def build(port: int, name: str = "web-1", **options: object) -> EndpointServer:
        return network.enter_context(EndpointServer(name, port=port, **options))

    return build


@pytest.fixture
def example(network: ExitStack, tmp_path: Path) -> Run:
    """Runs the file of that name from a folder where ``linkerd/examples`` is what it expects."""
    (tmp_path / "linkerd").mkdir()
    (tmp_path / "linkerd" / "examples").symlink_to(EXAMPLES)

    def run(name: str) -> Hostmesh:
        mesh = Hostmesh(tmp_path, start=False)
        mesh.file = Path("linkerd/examples") / name
        mesh.ports = {"port": PORT, "admin": ADMIN}
        mesh.start()
        return network.enter_context(mesh)

    return run


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_passes_the_check(file: Path, tmp_path: Path) -> None:
    """Also those whose kinds cannot run yet: they are named."""
    (tmp_path / "linkerd").mkdir()
    (tmp_path / "linkerd" / "examples").symlink_to(EXAMPLES)
    done = subprocess.run(
        [str(COMMAND), "check", f"linkerd/examples/{file.name}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def named(path: str) -> tuple[tuple[str, str], ...]:
    """The field from which http.yaml takes the name."""
    return (("l5d-name", path),)


def test_http(example: Run, endpoint: Endpoint, tmp_path: Path) -> None:
    """Header and line limits, the header identifier, Forwarded, compression and the access log are as the file says."""
    dog = endpoint(DOG)
    mesh = example("http.yaml")

    filler = tuple((f"x-filler-{n}", "f" * 1000) for n in range(15))
    below = mesh.send("GET", "/" + "p" * 12_000, fields=(*named("/dog"), ("x-small", "1")))
    large = mesh.send("GET", "/large?x=1", fields=(*named("/dog"), *filler, ("User-Agent", "test")))
    above = mesh.send("GET", fields=(*named("/dog"), *filler, ("x-last", "f" * 2000)))
    long_line = mesh.send("GET", "/" + "p" * 17_000, fields=named("/dog"))
    nameless = mesh.get()
    forwarded = large.seen("forwarded")
    dog.script.append(Answer(body=b"compress me " * 500))
    packed = mesh.send("GET", fields=(*named("/dog"), ("Accept-Encoding", "gzip")))
    plain = mesh.send("GET", fields=named("/dog"))

    assert [r.status for r in (below, large, above, long_line, nameless)] == [200, 200, 431, 414, 400]
    assert forwarded is not None
    assert re.fullmatch(r'by="127\.0\.0\.1:4140";for=127\.0\.0\.1;host=web;proto=http', forwarded)
    assert packed.get("content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == b"compress me " * 500
    assert plain.get("content-encoding") is None
    assert mesh.metrics()[f"{SERVER}/requests"] == 7
    mesh.terminate()
    assert mesh.wait_exit() == 0
    log = (tmp_path / "logs" / "access.log").read_text()
    lines = [line for line in log.splitlines() if '"GET /large?x=1 HTTP/1.1" 200' in line]
    assert len(lines) == 1
    assert lines[0].startswith("web ")
    assert '"test"' in lines[0]
    # Requests that no endpoint answered are not in it.
    assert len(log.splitlines()) == 4


def test_fs(network: ExitStack, endpoint: Endpoint, tmp_path: Path) -> None:
    """The dtab comes from the file, and an edit of it is followed without a failed request."""
    first, second = endpoint(9999, "first"), endpoint(9998, "second")
    shutil.copytree(EXAMPLES, tmp_path / "linkerd" / "examples")
    dtab = tmp_path / "linkerd" / "examples" / "example.dtab"
    mesh = Hostmesh(tmp_path, start=False)
    mesh.file = Path("linkerd/examples/fs.yaml")
    mesh.ports = {"port": PORT, "admin": ADMIN}
    mesh.start()
    network.enter_context(mesh)

    before = mesh.get(host="anything").endpoint
    told = mesh.log().count('"interpreter.dtab"')
    replace_file(dtab, dtab.read_text().replace("9999", "9998"))
    mesh.wait(lambda: mesh.log().count('"interpreter.dtab"') > told, "the edit is read")
    after = mesh.get(host="anything").endpoint

    assert (before, after) == ("first", "second")
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_static_namer(example: Run, endpoint: Endpoint) -> None:
    """Every name goes to localhost:8080."""
    endpoint(8080)
    mesh = example("static_namer.yaml")

    answers = [mesh.get(host=host) for host in ("a", "b", "c.example:81")]

    assert {answer.endpoint for answer in answers} == {"web-1"}
    assert {answer.seen("l5d-dst-client") for answer in answers} == {"/$/inet/localhost/8080"}


def test_retries(example: Run, endpoint: Endpoint) -> None:
    """Idempotent 5XX are retried and others not; attempts end after 100 or 200 ms, the whole after 1000 ms."""
    pet = endpoint(DOG)
    mesh = example("retries.yaml")
    service = "rt/http/service/svc/web/"

    pet.script.append(Answer(status=500))
    read = mesh.get()
    retried = mesh.metrics()[service + "retries/total"]
    pet.script.append(Answer(status=500))
    write = mesh.send("POST", body=b"x")
    clients = {request.get("l5d-dst-client") for request in pet.requests}
    for _ in range(20):
        clients.add(mesh.get().seen("l5d-dst-client"))
    go = threading.Event()
    pet.respond = lambda _: Answer(wait=go)
    before = len(pet.requests)
    begin = time.monotonic()
    silent = mesh.get()
    took = time.monotonic() - begin
    attempts = len(pet.requests) - before
    go.set()

    assert (read.status, retried) == (200, 1)
    assert write.status == 500
    assert clients == {"/#/io.l5d.fs/dog", "/#/io.l5d.fs/cat"}
    assert silent.status == 503
    # An attempt ends after 100 or 200 ms; the next begins 10 ms to 10 s later, or never if that is too late.
    assert re.match("(attempt|total)-timeout", silent.get("l5d-err") or "")
    assert 0.1 <= took < 8
    assert 1 <= attempts <= 9
    assert mesh.metrics()[service + "retries/total"] - retried == attempts - 1


def test_loadbalancer(network: ExitStack, example: Run, tmp_path: Path) -> None:
    """The endpoint is ejected only when 1000 requests have shown a success rate under 0.9."""
    dog = network.enter_context(CountingEndpoint(tmp_path, "dog", DOG, status=500))
    mesh = example("loadbalancer.yaml")
    client = "rt/http/client/#/io.l5d.fs/dog/"

    with Load(PORT, Call(host="dog"), total=900) as load:
        load.finish()
    early = mesh.metrics()[client + "failure_accrual/removals"]
    with Load(PORT, Call(host="dog"), total=200, prefix="b") as load:
        outcomes = load.finish()
    metrics = mesh.metrics()

    assert early == 0
    assert metrics[client + "failure_accrual/removals"] == 1
    # It is the only one, so it is still asked.
    assert len(failed(outcomes)) == 200
    assert dog.count == 1100
    assert metrics[client + "loadbalancer/size"] == 1
    assert metrics[client + "loadbalancer/available"] == 0


def test_socket_options(example: Run, endpoint: Endpoint) -> None:
    """The port is shared by SO_REUSEPORT, its backlog is 128, and its connections are kept alive."""
    endpoint(DOG)
    mesh = example("socket-options.yaml")
    with mesh.client() as client:
        assert client.request(host="dog").endpoint == "web-1"
        probes = kernel_timers(client.local_port)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("127.0.0.1", PORT))

    # The backlog of a listening socket is not in /proc/net/tcp.
    if shutil.which("ss"):
        shown = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
        assert re.search(r"LISTEN +\d+ +128 +127\.0\.0\.1:4140 ", shown), shown
    assert probes == ["02"]


def kernel_timers(caller_port: int) -> list[str]:
    """The timers (02 is keep-alive) of the accepted connections whose peer has that port."""
    rows = [row.split() for row in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]]
    peer = f":{caller_port:04X}"
    return [row[5].split(":")[0] for row in rows if row[1].endswith(f":{PORT:04X}") and row[2].endswith(peer)]


def test_service_options(example: Run, endpoint: Endpoint) -> None:
    """The total timeout is 500 ms for every service and 1000 ms for foo; the router's label is foobar."""
    web = endpoint(8080)
    mesh = example("service-options.yaml")
    answered = [mesh.get(host=host).status for host in ("web", "foo", "bar")]
    go = threading.Event()
    web.respond = lambda _: Answer(wait=go)
    took: dict[str, float] = {}
    said: dict[str, str] = {}
    for host in ("web", "foo", "bar"):
        begin = time.monotonic()
        response = mesh.get(host=host)
        took[host] = time.monotonic() - begin
        said[host] = response.text
        assert response.status == 503
    go.set()

    assert answered == [200, 200, 200]
    # How much later than that is the machine's business.
    assert took["web"] >= 0.5
    assert took["foo"] >= 1.0
    assert took["bar"] >= 0.5
    assert {host: re.findall(r"within (\d+) ms", text) for host, text in said.items()} == {
        "web": ["500"],
        "foo": ["1000"],
        "bar": ["500"],
    }
    assert mesh.metrics()["rt/foobar/service/svc/foo/requests"] == 2


def test_rewriting(example: Run, endpoint: Endpoint) -> None:
    """/dog/api is rewritten to /srv/dog; what does not match the pattern is no name."""
    endpoint(DOG)
    mesh = example("rewriting.yaml")

    rewritten = mesh.get("/dog/api/x?y=1")
    other = mesh.get("/dog/web")
    short = mesh.get("/dog")

    assert rewritten.endpoint == "web-1"
    assert rewritten.json()["target"] == "/dog/api/x?y=1"
    assert rewritten.seen("l5d-dst-service") == "/svc/dog/api"
    assert rewritten.seen("l5d-dst-client") == "/#/io.l5d.fs/dog"
    assert (other.status, short.status) == (502, 400)


def test_access_logs(example: Run, tmp_path: Path) -> None:
    """One request passes two routers on its way to the admin port, and is in the access log of each."""
    mesh = example("access-logs.yaml")

    answer = mesh.get("/admin/ping", host="localhost:4140", User_Agent="curl/8")
    recent = mesh.admin("/requests.json")
    mesh.terminate()
    assert mesh.wait_exit() == 0
    logs = [(tmp_path / "logs" / f"access{n}.log").read_text().splitlines() for n in (1, 2)]

    assert (answer.status, answer.text.strip()) == (200, "pong")
    assert answer.get_all("via") == ["1.1 hostmesh", "1.1 hostmesh"]
    assert [len(lines) for lines in logs] == [1, 1]
    assert all('"GET /admin/ping HTTP/1.1" 200' in lines[0] and '"curl/8"' in lines[0] for lines in logs)
    shown = json.loads(recent.body)
    assert {entry["router"] for entry in requests_of(shown)} == {"linkerd1", "linkerd2"}


def requests_of(page: object) -> list[dict[str, str]]:
    """The entries of /requests.json."""
    entries = page["requests"] if isinstance(page, dict) else page
    assert isinstance(entries, list)
    return entries


def test_recent_requests(example: Run, endpoint: Endpoint) -> None:
    """Every request is in the table, with where it went."""
    endpoint(8888)
    mesh = example("recent-requests.yaml")
    for n in range(3):
        assert mesh.get(f"/r{n}", host=f"svc{n}").endpoint == "web-1"

    table = mesh.admin("/requests")
    entries = requests_of(json.loads(mesh.admin("/requests.json").body))

    assert [entry["logicalName"] for entry in reversed(entries)] == ["/svc/svc0", "/svc/svc1", "/svc/svc2"]
    assert "/$/inet/localhost/8888" in table.text
    assert all(f"/svc/svc{n}" in table.text for n in range(3))


@pytest.mark.slow
def test_statsd(statsd_command: list[str], example: Run, endpoint: Endpoint, tmp_path: Path) -> None:
    """Etsy's daemon on port 8125 has counted every request within the 10 s of gaugeIntervalMs."""
    endpoint(DOG)
    folder = tmp_path / "statsd"
    folder.mkdir()
    # The daemon forgets its counters at each flush; one flush a minute leaves them to be asked for.
    settings = {
        "port": 8125,
        "address": "127.0.0.1",
        "mgmt_address": "127.0.0.1",
        "mgmt_port": 8126,
        "flushInterval": 60_000,
        "backends": ["./backends/console"],
    }
    (folder / "config.js").write_text(json.dumps(settings))
    with running([*statsd_command, "config.js"], folder, 8126):
        mesh = example("statsd.yaml")
        for _ in range(25):
            assert mesh.get(host="dog").status == 200

        name = "linkerd.rt.http.service.svc.dog.requests"
        mesh.wait(lambda: f"'{name}': 25" in ask_statsd("counters"), "25 requests at statsd", within=25)


def ask_statsd(what: str) -> str:
    """The answer of the daemon's management port, which ends with END."""
    with socket.create_connection(("127.0.0.1", 8126), timeout=5) as peer:
        peer.sendall(what.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"END\n\n"):
            piece = peer.recv(65536)
            if not piece:
                break
            answer += piece
    return answer.decode().replace('"', "'")


def test_prometheus(example: Run, endpoint: Endpoint) -> None:
    """The page for Prometheus has the counters under Linkerd's names and labels."""
    endpoint(DOG)
    mesh = example("prometheus.yaml")
    for _ in range(4):
        assert mesh.get(host="dog").status == 200

    page = mesh.admin("/admin/metrics/prometheus").text

    assert re.search(r'^rt:service:requests\{rt="http", ?service="svc/dog"\} 4(\.0)?$', page, re.M), page
    assert re.search(r'^rt:server:requests\{rt="http", ?server="127\.0\.0\.1/4140"\} 4(\.0)?$', page, re.M)
