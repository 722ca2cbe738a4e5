"""How to reach an API server: plain, as a pod, with a kubeconfig."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import trustme

from hostmesh.base.errors import ConfigError
from hostmesh.registry.k8s_access import Access, K8sApi, access_of


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def kubeconfig(folder: Path, user: dict[str, Any], server: dict[str, Any]) -> str:
    path = folder / "config"
    path.write_text(
        json.dumps(
            {
                "current-context": "one",
                "contexts": [
                    {"name": "one", "context": {"cluster": "c", "user": "u"}},
                    {"name": "two", "context": {"cluster": "c"}},
                ],
                "clusters": [{"name": "c", "cluster": server}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return str(path)


def of(api: K8sApi, environ: dict[str, str] | None = None) -> Access:
    return access_of(api, "localhost", 8001, environ or {})


def test_plain_http_is_the_default() -> None:
    """As through kubectl proxy: no TLS, nothing to prove."""
    access = of(K8sApi())

    assert (access.url, access.headers(), access.context) == ("http://localhost:8001", {}, None)
    assert access_of(K8sApi(), "::1", 80).url == "http://[::1]:80"


def test_a_pod_uses_what_the_kubelet_gives(tmp_path: Path, ca: trustme.CA) -> None:
    """Address from the environment, CA and token from files; the token is read each time."""
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem.bytes())
    (tmp_path / "token").write_text("one\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = of(K8sApi(in_cluster=True, service_account=str(tmp_path)), environ)

    first = access.headers()
    (tmp_path / "token").write_text("two")

    assert access.url == "https://[fd00::1]:6443"
    assert (first, access.headers()) == ({"authorization": "Bearer one"}, {"authorization": "Bearer two"})


def test_outside_of_a_pod_in_cluster_says_so() -> None:
    """The variable that is missing is named."""
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_HOST is not set"):
        of(K8sApi(in_cluster=True))


def test_a_token_with_a_line_in_it_is_no_token(tmp_path: Path, ca: trustme.CA) -> None:
    """It would end up in a header."""
    (tmp_path / "token").write_text("one\r\nx-evil: 1")
    access = of(K8sApi(tls=True, token_file=str(tmp_path / "token")))

    with pytest.raises(OSError, match="a token of one line"):
        access.headers()


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token": "abc"}, {"authorization": "Bearer abc"}),
        ({"tokenFile": "tok"}, {"authorization": "Bearer from-file"}),
        (
            {"username": "me", "password": "pw"},
            {"authorization": "Basic " + base64.b64encode(b"me:pw").decode()},
        ),
        ({}, {}),
    ],
)
def test_kubeconfig_users(
    tmp_path: Path, ca: trustme.CA, user: dict[str, str], expected: dict[str, str]
) -> None:
    """Tokens, token files beside the kubeconfig, passwords, or nothing."""
    (tmp_path / "tok").write_text("from-file")
    data = base64.b64encode(ca.cert_pem.bytes()).decode()
    server = {
        "server": "https://k8s.example:6443/",
        "certificate-authority-data": data,
        "tls-server-name": "api",
    }
    access = of(K8sApi(kubeconfig=kubeconfig(tmp_path, user, server)))

    assert (access.url, access.headers(), access.server_name) == ("https://k8s.example:6443", expected, "api")


def test_kubeconfig_client_certificates(tmp_path: Path, ca: trustme.CA) -> None:
    """A certificate and its key, in the file or beside it."""
    pair = ca.issue_cert("me")
    (tmp_path / "me.crt").write_bytes(pair.cert_chain_pems[0].bytes())
    key = base64.b64encode(pair.private_key_pem.bytes()).decode()
    user = {"client-certificate": "me.crt", "client-key-data": key}

    access = of(K8sApi(kubeconfig=kubeconfig(tmp_path, user, {"server": "https://k8s.example"})))

    assert access.context is not None


def test_secrets_are_not_sent_in_the_clear(tmp_path: Path) -> None:
    """A kubeconfig with a plain server URL sends no token."""
    access = of(K8sApi(kubeconfig=kubeconfig(tmp_path, {"token": "abc"}, {"server": "http://k8s.example"})))

    assert access.headers() == {}


@pytest.mark.parametrize(
    ("user", "server", "context", "expected"),
    [
        ({"exec": {"command": "aws"}}, {"server": "https://x"}, None, "exec.apiVersion: expected one of"),
        ({"auth-provider": {}}, {"server": "https://x"}, None, "auth-provider is not supported"),
        ({}, {"server": "ftp://x"}, None, "expected a server URL"),
        ({}, {}, None, "expected a server URL"),
        ({}, {"server": "https://x"}, "three", "expected a context named 'three'"),
        ({}, {"server": "https://x", "certificate-authority-data": "!"}, None, "expected base64"),
    ],
)
def test_kubeconfigs_that_cannot_be_used_say_why(
    tmp_path: Path, user: dict[str, Any], server: dict[str, Any], context: str | None, expected: str
) -> None:
    """Each mistake names the file and what was expected."""
    with pytest.raises(ConfigError, match=expected):
        of(K8sApi(kubeconfig=kubeconfig(tmp_path, user, server), context=context))


def test_a_kubeconfig_that_is_no_yaml_says_so(tmp_path: Path) -> None:
    """The reader's words are passed on."""
    (tmp_path / "config").write_text("a: [")
    with pytest.raises(ConfigError, match="found no YAML"):
        of(K8sApi(kubeconfig=str(tmp_path / "config")))


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (K8sApi(), 0),
        (K8sApi(in_cluster=True, tls=True), 1),
        (K8sApi(token_file="t"), 1),
        (K8sApi(context="c"), 1),
        (K8sApi(tls=True, ca_file="c", token_file="t"), 0),
    ],
)
def test_contradictions_are_found_in_the_config(api: K8sApi, expected: int) -> None:
    """One way to reach a server at a time; tokens need TLS."""
    assert len(api.check()) == expected
