"""Start, stop and what ends them: ports in use, signals, drains, ordinary users."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.running import eventually
from tests.wire.harness import (
    COMMAND,
    Answer,
    EndpointServer,
    Hostmesh,
    RawClient,
    compose,
    free_port,
)
from tests.wire.scenarios.drain import drain_under_load
from tests.wire.scenarios.world import ROUTER

SHORT_GRACE = ROUTER.replace("5000", "300")


def run_once(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """``hostmesh run`` on a configuration that cannot be started."""
    file = folder / "linker.yaml"
    file.write_text(text)
    return subprocess.run(
        [str(COMMAND), "run", str(file)], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("whose", ["admin", "router"])
def test_port_in_use_is_named(tmp_path: Path, whose: str) -> None:
    """A port that is taken ends the start with status 1 and one line that names it and says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"admin": free_port(), "router": free_port(), whose: port}
        text = ROUTER.replace("@admin@", str(ports["admin"])).replace("@port@", str(ports["router"]))

        done = run_once(tmp_path, text.replace("@dir@", str(tmp_path)))

    assert done.returncode == 1
    assert done.stderr == (
        f"cannot listen on 127.0.0.1:{port}: Address already in use "
        "(another process listens there; stop it or choose another port)\n"
    )


def test_a_failed_start_holds_no_port(tmp_path: Path) -> None:
    """When the second of two ports is taken, the first is free again."""
    first = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = ROUTER.replace("@admin@", str(free_port())).replace("@port@", str(first))
        text += f"  - port: {taken.getsockname()[1]}\n    ip: 127.0.0.1\n"

        done = run_once(tmp_path, text.replace("@dir@", str(tmp_path)))

    assert done.returncode == 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", first))


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    """A configuration with mistakes does not start: status 1, a line each, nothing on standard output."""
    done = run_once(tmp_path, "routerz: []\nadmin: {port: many}\n")

    assert done.returncode == 1
    assert "linker.yaml:1: " in done.stderr
    assert "linker.yaml:2: admin.port: " in done.stderr
    assert done.stdout == ""


def ordinary(folder: Path) -> list[str]:
    """What to put before a command so that it runs without any privilege."""
    if os.getuid() != 0:
        return []
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare (util-linux) is needed to give up root")
    command = [unshare, "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no user namespaces here")
    return command


def test_runs_as_an_ordinary_user(tmp_path: Path, endpoint: Callable[..., EndpointServer]) -> None:
    """Without root and without a capability it serves, answers admin and ends cleanly."""
    prefix = ordinary(tmp_path)
    web = endpoint("web-1")
    mesh = Hostmesh(tmp_path, ROUTER, start=False, prefix=prefix)
    mesh.set_endpoints("web", [web])
    mesh.start()
    with mesh:
        status = Path(f"/proc/{mesh.pid}/status").read_text()
        effective = status.partition("CapEff:")[2].split()[0]
        answer = mesh.get()
        mesh.terminate()

        assert int(effective, 16) == 0
        assert answer.endpoint == "web-1"
        assert mesh.wait_exit() == 0
        assert "Traceback" not in mesh.log()


def test_drain_answers_everything_that_was_sent(tmp_path: Path) -> None:
    """SIGTERM at 800 requests/s: no request is lost, connections end by Connection: close or at rest."""
    figures = drain_under_load(tmp_path, rate=800, connections=8, delay_ms=20, warm=200)

    assert figures["failed"] == 0


def test_slow_exchanges_are_waited_for(
    hostmesh: Callable[..., Hostmesh], endpoint: Callable[..., EndpointServer]
) -> None:
    """A request in flight at SIGTERM is answered when its endpoint answers, with Connection: close."""
    web = endpoint("web-1")
    go = threading.Event()
    web.script.append(Answer(wait=go))
    mesh = hostmesh(web=[web])
    with mesh.client() as client:
        client.send(compose())
        web.wait_for(lambda: len(web.requests) == 1)
        mesh.terminate()
        mesh.wait_log('"event": "stopping"')
        go.set()
        response = client.response()

        assert (response.status, response.get("connection")) == (200, "close")
        assert client.is_closed()
    assert mesh.wait_exit() == 0


def test_download_in_flight_is_completed(
    hostmesh: Callable[..., Hostmesh], endpoint: Callable[..., EndpointServer]
) -> None:
    """A body whose head left before SIGTERM arrives whole, although its caller was promised keep-alive."""
    web = endpoint("web-1")
    go = threading.Event()
    web.script.append(Answer(body=b"x" * 3_000_000, pause_before_body=go))
    mesh = hostmesh(web=[web])
    with mesh.client() as client:
        client.send(compose())
        web.wait_for(lambda: len(web.requests) == 1)
        mesh.wait_metric("rt/http/server/127.0.0.1/" + str(mesh.port) + "/pending", lambda n: n == 1)
        mesh.terminate()
        mesh.wait_log('"event": "stopping"')
        go.set()
        response = client.response()

        assert response.body_bytes == 3_000_000
        assert client.is_closed()
    assert mesh.wait_exit() == 0


def test_request_on_a_resting_connection_is_answered_during_the_drain(
    hostmesh: Callable[..., Hostmesh], endpoint: Callable[..., EndpointServer]
) -> None:
    """Another exchange keeps the drain going; a keep-alive caller that asks right after SIGTERM gets its answer."""
    web = endpoint("web-1")
    mesh = hostmesh(web=[web])
    go = threading.Event()
    with mesh.client() as slow, mesh.client() as resting:
        resting.request()
        web.script.append(Answer(wait=go))
        slow.send(compose())
        web.wait_for(lambda: len(web.requests) == 2)
        resting.request()
        mesh.terminate()
        mesh.wait_log('"event": "stopping"')
        late = resting.request()
        go.set()

        assert (late.status, late.get("connection")) == (200, "close")
        assert slow.response().status == 200
    assert mesh.wait_exit() == 0


def test_new_connections_are_refused_during_the_drain(
    hostmesh: Callable[..., Hostmesh], endpoint: Callable[..., EndpointServer]
) -> None:
    """They fail at once instead of waiting in a queue that nobody serves; admin still answers, and says draining."""
    web = endpoint("web-1")
    go = threading.Event()
    web.script.append(Answer(wait=go))
    mesh = hostmesh(web=[web])
    with mesh.client() as client:
        client.send(compose())
        web.wait_for(lambda: len(web.requests) == 1)
        mesh.terminate()
        mesh.wait_log('"event": "stopping"')

        with pytest.raises(ConnectionRefusedError):
            mesh.client()
        assert mesh.admin("/admin/metrics.json").status == 200
        go.set()
        assert client.response().status == 200
    assert mesh.wait_exit() == 0


def test_drain_has_a_deadline(tmp_path: Path, endpoint: Callable[..., EndpointServer]) -> None:
    """What takes longer than shutdownGraceMs is answered 503, the log counts it, and the status is still 0."""
    web = endpoint("web-1")
    go = threading.Event()
    web.script.append(Answer(wait=go))
    with Hostmesh.routing(tmp_path, SHORT_GRACE, web=[web]) as mesh:
        with mesh.client() as client:
            client.send(compose())
            web.wait_for(lambda: len(web.requests) == 1)
            begin = time.monotonic()
            mesh.terminate()
            status = mesh.wait_exit(within=5)
            took = time.monotonic() - begin
            go.set()

            answer = client.response()
        assert (answer.status, answer.get("connection")) == (503, "close")
        assert (answer.get("l5d-err") or "").startswith("draining")
        assert status == 0
        assert 0.3 <= took < 3
        assert '"cut": 1' in mesh.log()


def test_second_signal_stops_at_once(
    hostmesh: Callable[..., Hostmesh], endpoint: Callable[..., EndpointServer]
) -> None:
    """Who sends SIGTERM twice does not wait for the drain."""
    web = endpoint("web-1")
    go = threading.Event()
    web.script.append(Answer(wait=go))
    mesh = hostmesh(web=[web])
    with mesh.client() as client:
        client.send(compose())
        web.wait_for(lambda: len(web.requests) == 1)
        mesh.terminate()
        mesh.wait_log('"event": "stopping"')
        mesh.signal(signal.SIGINT)
        status = mesh.wait_exit(within=3)
        go.set()

    assert status == 0
    assert "stopping at once" in mesh.log()


def test_standard_input_cannot_be_reloaded(tmp_path: Path, endpoint: Callable[..., EndpointServer]) -> None:
    """`run -` works; SIGHUP says why it changes nothing."""
    web = endpoint("web-1")
    admin, port = free_port(), free_port()
    (tmp_path / "disco").mkdir()
    (tmp_path / "disco" / "web").write_text(f"127.0.0.1 {web.port}\n")
    text = ROUTER.replace("@admin@", str(admin)).replace("@port@", str(port)).replace("@dir@", str(tmp_path))
    with (
        (tmp_path / "log").open("w+b") as log,
        subprocess.Popen(
            [str(COMMAND), "run", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log
        ) as process,
    ):
        try:
            assert process.stdin is not None
            process.stdin.write(text.encode())
            process.stdin.close()

            def logged(word: str) -> bool:
                return word in (tmp_path / "log").read_text()

            eventually(lambda: logged('"started"') or None)
            process.send_signal(signal.SIGHUP)
            eventually(lambda: logged("did not come from a file") or None)
            with RawClient(port) as client:
                assert client.request().endpoint == "web-1"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
