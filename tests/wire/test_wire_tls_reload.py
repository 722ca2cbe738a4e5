"""A reload that changes how a port meets its callers: nobody goes on who came in by rules that are no more."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tls_files import TlsFiles
from tests.wire.harness import Answer, EndpointServer, Hostmesh, RawClient, compose
from tests.wire.tls_peers import TlsClient, config, server_tls, tls_mesh


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    with EndpointServer() as made:
        yield made


def reload(mesh: Hostmesh, tls: dict[str, Any] | None, **more: Any) -> None:
    """Apply a configuration in which the port has this ``tls``."""
    before = mesh.log().count('"event": "reloaded"')
    mesh.write_config(config(server=tls, **more))
    mesh.wait(lambda: mesh.log().count('"event": "reloaded"') > before, "the reload")


def is_sent_away(caller: RawClient) -> bool:
    """Whether the next answer on this connection is the last, or there is none."""
    try:
        answer = caller.request()
    except (OSError, AssertionError):
        return True
    assert answer.status == 200
    return answer.get("connection") == "close" and caller.is_closed()


def test_callers_in_plain_text_leave_when_tls_begins(
    tmp_path: Path, tls_files: TlsFiles, endpoint: EndpointServer
) -> None:
    """And callers over TLS when it ends; whoever comes next is met by the new rules."""
    with tls_mesh(tmp_path, config(), endpoint) as mesh:
        with RawClient(mesh.port) as plain:
            assert plain.request().status == 200
            reload(mesh, server_tls(tls_files))
            assert is_sent_away(plain)
        assert mesh.get("/").status == 400

        with TlsClient(mesh.port, tls_files.client_context()) as secret:
            assert secret.request().status == 200
            reload(mesh, None)
            assert is_sent_away(secret)
        assert mesh.get("/").status == 200


def test_x5_callers_leave_whom_new_rules_would_not_let_in(
    tmp_path: Path, tls_files: TlsFiles, endpoint: EndpointServer
) -> None:
    """requireClientAuth and allowedCallers hold for those who are connected, too."""
    nobody, known = tls_files.client_context(), tls_files.client_context(tls_files.client)
    with tls_mesh(tmp_path, config(server=server_tls(tls_files)), endpoint) as mesh:
        with TlsClient(mesh.port, nobody) as caller:
            assert caller.request().status == 200
            reload(mesh, server_tls(tls_files, callers=True))
            assert is_sent_away(caller)
        with TlsClient(mesh.port, known) as caller:
            assert caller.request().status == 200
            reload(mesh, server_tls(tls_files, callers=True, allowedCallers=["shop.mesh"]))
            assert is_sent_away(caller)


def test_callers_stay_where_the_rules_are_the_same(
    tmp_path: Path, tls_files: TlsFiles, endpoint: EndpointServer
) -> None:
    """Whatever else of the configuration has changed."""
    known = tls_files.client_context(tls_files.client)
    rules = server_tls(tls_files, callers=True)
    with (
        tls_mesh(tmp_path, config(server=rules), endpoint) as mesh,
        TlsClient(mesh.port, known) as caller,
    ):
        assert caller.request().status == 200
        reload(mesh, rules, bindingTimeoutMs=5000)
        assert not is_sent_away(caller)


def test_x3_stalled_handshakes_do_not_hold_up_the_end(
    tmp_path: Path, tls_files: TlsFiles, endpoint: EndpointServer
) -> None:
    """Who has connected and says nothing is not waited for, however much time a drain may take."""
    rules = server_tls(tls_files)
    with tls_mesh(tmp_path, config(server=rules).replace("5000", "60000"), endpoint) as mesh:
        name = f"rt/r/server/127.0.0.1/{mesh.port}/tls/in_progress"
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(RawClient(mesh.port))
            mesh.wait_metric(name, lambda value: value == 20)
            mesh.terminate()
            assert mesh.wait_exit(within=20) == 0


def test_a_drain_waits_for_those_whom_a_reload_sends_away(
    tmp_path: Path, tls_files: TlsFiles, endpoint: EndpointServer
) -> None:
    """Their requests are answered, although their port has other rules by now."""
    go = threading.Event()
    endpoint.script.append(Answer(wait=go))
    with tls_mesh(tmp_path, config(), endpoint) as mesh, RawClient(mesh.port) as caller:
        caller.send(compose())
        endpoint.wait_for(lambda: len(endpoint.requests) == 1)
        reload(mesh, server_tls(tls_files))
        mesh.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            mesh.wait_exit(within=1)
        go.set()
        assert caller.response().status == 200
        assert mesh.wait_exit() == 0
