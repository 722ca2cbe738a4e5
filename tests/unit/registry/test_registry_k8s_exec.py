"""Credentials from the programs of a kubeconfig."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hostmesh.base.errors import ConfigError
from hostmesh.registry.k8s_exec import ANEW_S, MARGIN_S, VERSIONS, ExecPlugins

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z"""


class Program:
    """A kubeconfig beside a program that prints what it is told to, with a clock that is set by hand."""

    def __init__(self, folder: Path, output: str | dict[str, Any], *, status: int = 0) -> None:
        self.kubeconfig = folder / "config"
        self.kubeconfig.touch(0o600)
        self.folder = folder
        self.print(output)
        self.file = folder / "login"
        self.file.write_text(
            '#!/bin/sh\nprintf %s "$KUBERNETES_EXEC_INFO" > info\n'
            f'echo "$0 $* $WHO" >> runs\necho why >&2\ncat output\nexit {status}\n'.replace(
                "info", str(folder / "info")
            )
            .replace("runs", str(folder / "runs"))
            .replace("cat output", f"cat {folder / 'output'}")
        )
        self.file.chmod(0o755)
        self.time = NOW
        self.plugins = ExecPlugins(lambda: self.time)

    def print(self, output: str | dict[str, Any]) -> None:
        text = output if isinstance(output, str) else json.dumps({"status": output})
        (self.folder / "output").write_text(text)

    def token(self, **more: Any) -> str:
        said = {"apiVersion": VERSIONS[0], "command": "./login", **more}
        cluster = {"server": "https://x"}
        return self.plugins.credential("me", said, cluster, str(self.kubeconfig)).token


def test_a_program_is_run_as_client_go_runs_it(tmp_path: Path) -> None:
    """Beside the kubeconfig, with its arguments and environment, told of the server if it asks for that."""
    program = Program(tmp_path, {"token": "secret"})
    env = [{"name": "WHO", "value": "me"}]

    assert program.token(args=["get", "token"], env=env, provideClusterInfo=True) == "secret"

    assert (tmp_path / "runs").read_text().endswith("/login get token me\n")
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": VERSIONS[0],
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": "https://x"}},
    }


def test_a_certificate_is_a_credential(tmp_path: Path) -> None:
    """With its key, instead of a token."""
    program = Program(tmp_path, {"clientCertificateData": "C", "clientKeyData": "K"})

    found = program.plugins.credential(
        "me", {"apiVersion": VERSIONS[1], "command": str(program.file)}, {}, str(program.kubeconfig)
    )

    assert (found.token, found.certificate, found.key, found.fresh_until) == ("", "C", "K", None)


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [("2027-01-15T09:00:00Z", 3600 - MARGIN_S), ("2027-01-15T08:05:00+00:00", 150.0)],
)
def test_a_credential_is_used_until_it_is_about_to_expire(
    tmp_path: Path, lifetime: str, expected: float
) -> None:
    """Before a watch could outlive it, or half-way if it is short-lived."""
    program = Program(tmp_path, {"token": "one", "expirationTimestamp": lifetime})
    assert program.token() == "one"
    program.print({"token": "two"})

    program.time = NOW + expected - 1
    assert program.token() == "one"
    program.time = NOW + expected
    assert program.token() == "two"
    assert program.plugins.runs == 2


def test_a_refused_credential_is_replaced(tmp_path: Path) -> None:
    """But not at once: a program that is always refused is not run all the time."""
    program = Program(tmp_path, {"token": "one"})
    assert program.token() == "one"
    program.print({"token": "two"})

    program.plugins.forget()
    assert program.token() == "one"
    program.time += ANEW_S
    program.plugins.forget()
    assert program.token() == "two"


@pytest.mark.parametrize(
    ("output", "said", "expected"),
    [
        ("no json", {}, "expected an ExecCredential, found something else"),
        ({}, {}, "expected a token or a certificate with its key, found neither"),
        ({"clientCertificateData": "C"}, {}, "found neither"),
        ({"token": "x", "expirationTimestamp": "soon"}, {}, "expected a time, found 'soon'"),
        (
            {"token": "x"},
            {"apiVersion": "v1"},
            "apiVersion: expected one of client.authentication.k8s.io/v1,",
        ),
        ({"token": "x"}, {"interactiveMode": "Always"}, "it needs a terminal"),
        ({"token": "x"}, {"command": ""}, "expected a command and a list of args"),
        ({"token": "x"}, {"args": [1]}, "expected a command and a list of args"),
        ({"token": "x"}, {"command": "./nothing"}, "No such file"),
    ],
)
def test_x8_what_is_no_credential_says_so(
    tmp_path: Path, output: str | dict[str, Any], said: dict[str, Any], expected: str
) -> None:
    """Whatever a kubeconfig or a program holds ends in a sentence."""
    with pytest.raises(ConfigError, match=expected.replace("(", r"\(")):
        Program(tmp_path, output).token(**said)


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    """With the end of what it writes to its standard error."""
    with pytest.raises(ConfigError, match=r"/login: exit status 3: why"):
        Program(tmp_path, {"token": "x"}, status=3).token()


def test_nobody_else_says_what_is_run(tmp_path: Path) -> None:
    """A kubeconfig that others may write to is not obeyed."""
    program = Program(tmp_path, {"token": "x"})
    program.kubeconfig.chmod(0o622)

    with pytest.raises(ConfigError, match="only its owner may write to"):
        program.token()
    assert program.plugins.runs == 0
