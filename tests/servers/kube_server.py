"""A real kube-apiserver on its own etcd, in processes of their own with private folders and random ports."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.far_network import FAR_DIRECT, FAR_VIA, Link
from tests.servers.fetch import required
from tests.servers.fetch_kube import etcd, kube_apiserver, kubectl
from tests.servers.running import eventually, free_port

ADMIN = "admin-token"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


class KubeServer:
    """etcd and kube-apiserver, stopped and started as a test wants, with data that stay."""

    def __init__(self, folder: Path, *, flags: tuple[str, ...] = (), link: Link | None = None) -> None:
        self.folder = folder
        self.flags = flags
        self.etcd_program = required(etcd)
        self.program = required(kube_apiserver)
        self.kubectl = required(kubectl)
        self.port = free_port()
        self.etcd_port, self.peer_port = free_port(), free_port()
        self.link = link or Link()
        self.url = f"https://{self.link.direct}:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.acks: list[tuple[float, str, str, str]] = []
        self._write_files()
        self.http = httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=str(folder / "ca.crt")),
            headers={"authorization": f"Bearer {ADMIN}"},
            trust_env=False,
            timeout=20,
        )

    def _write_files(self) -> None:
        ca = trustme.CA()
        (self.folder / "ca.crt").write_bytes(ca.cert_pem.bytes())
        pair = ca.issue_cert("127.0.0.1", FAR_VIA, FAR_DIRECT, "localhost", "kubernetes.default.svc")
        (self.folder / "server.key").write_bytes(pair.private_key_pem.bytes())
        (self.folder / "server.crt").write_bytes(b"".join(each.bytes() for each in pair.cert_chain_pems))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self.folder / "sa.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        (self.folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
        # A client certificate for kubeconfig users. Without an alternative name trustme writes an empty critical list,
        # which Go refuses.
        client = ca.issue_cert("user.test", common_name="cert-user", organization_name="system:masters")
        (self.folder / "client.key").write_bytes(client.private_key_pem.bytes())
        (self.folder / "client.crt").write_bytes(client.cert_chain_pems[0].bytes())
        self.write_kubeconfig(self.folder / "kubeconfig", {"token": ADMIN})

    def write_kubeconfig(self, path: Path, user: dict[str, Any], url: str | None = None) -> Path:
        """A kubeconfig (JSON, which is YAML) for this server and ``user``."""
        ca = base64.b64encode((self.folder / "ca.crt").read_bytes()).decode()
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "here", "user": "me"}}],
                    "clusters": [
                        {
                            "name": "here",
                            "cluster": {"server": url or self.url, "certificate-authority-data": ca},
                        }
                    ],
                    "users": [{"name": "me", "user": user}],
                }
            )
        )
        return path

    # Processes.

    def _spawn(self, name: str, command: list[str]) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self.processes[name] = subprocess.Popen(
                [*self.link.prefix, *command], stdout=output, stderr=output, cwd=self.folder
            )

    def start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        command = [str(self.etcd_program), "--data-dir", str(self.folder / "etcd"), "--log-level", "error"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]
        if "--unsafe-no-fsync" not in _help(self.etcd_program):
            command.remove("--unsafe-no-fsync")
        self._spawn("etcd", command)

    def start_api(self, *, wait: bool = True) -> None:
        f = self.folder
        command = [
            str(self.program),
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--bind-address={self.link.listen}",
            f"--secure-port={self.port}",
            # Nobody is told it; without a default route it would have to be found.
            "--advertise-address=192.0.2.1",
            f"--tls-cert-file={f / 'server.crt'}",
            f"--tls-private-key-file={f / 'server.key'}",
            f"--client-ca-file={f / 'ca.crt'}",
            f"--token-auth-file={f / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={f / 'sa.key'}",
            f"--service-account-key-file={f / 'sa.pub'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount,NamespaceLifecycle",
            "--enable-priority-and-fairness=false",
            "--max-requests-inflight=2000",
            "--profiling=false",
            *self.flags,
        ]
        self._spawn("api", command)
        if wait:
            self.wait_ready()

    def start(self) -> KubeServer:
        self.start_etcd()
        self.start_api()
        return self

    def wait_ready(self, seconds: float = 90) -> None:
        def ready() -> bool | None:
            process = self.processes["api"]
            assert process.poll() is None, (self.folder / "api.log").read_text(errors="replace")[-3000:]
            try:
                return True if self.http.get("/readyz").status_code == 200 else None
            except httpx.HTTPError:
                return None

        eventually(ready, seconds)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.http.close()
        for name in ("api", "proxy", "etcd"):
            if name in self.processes:
                self.processes[name].send_signal(signal.SIGCONT)
                self.kill(name)

    def start_kubectl_proxy(self, port: int = 0) -> int:
        """``kubectl proxy`` as the admin; returns its port, ``port`` if given."""
        port = port or free_port()
        self._spawn(
            "proxy",
            [
                str(self.kubectl),
                "--kubeconfig",
                str(self.folder / "kubeconfig"),
                "proxy",
                f"--port={port}",
            ],
        )

        def ready() -> bool | None:
            try:
                return (
                    httpx.get(f"http://127.0.0.1:{port}/version", trust_env=False).status_code == 200 or None
                )
            except httpx.HTTPError:
                return None

        eventually(ready)
        return port

    # The API.

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer, which must be a success; the time of its arrival is the acknowledgement."""
        answer = self.http.request(method, path, json=body)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        found: dict[str, Any] = answer.json()
        return found

    def namespace(self, name: str) -> None:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def put_slice(
        self,
        name: str,
        service: str,
        endpoints: list[tuple[str, int]],
        *,
        namespace: str = "default",
        port_name: str = "http",
        labels: dict[str, str] | None = None,
    ) -> float:
        """Make or replace a slice whose endpoints all have one port; returns when it was acknowledged."""
        ports = {port for _ip, port in endpoints} or {1}
        assert len(ports) == 1, "a slice has one port of a name"
        body: dict[str, Any] = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/service-name": service, **(labels or {})},
            },
            "addressType": "IPv4",
            "ports": [{"name": port_name, "port": ports.pop(), "protocol": "TCP"}],
            "endpoints": [
                {"addresses": [ip], "conditions": {"ready": True}, "nodeName": f"node-{ip.split('.')[2]}"}
                for ip, _port in endpoints
            ],
        }
        path = SLICES.format(namespace)
        answer = self.http.put(f"{path}/{name}", json=body)
        if answer.status_code == 404:
            answer = self.http.post(path, json=body)
        at = time.monotonic()
        assert answer.status_code < 300, answer.text
        return at

    def delete_slice(self, name: str, namespace: str = "default") -> float:
        self.call("DELETE", f"{SLICES.format(namespace)}/{name}")
        return time.monotonic()

    def put_service(
        self,
        name: str,
        ports: list[dict[str, Any]],
        *,
        namespace: str = "default",
        kind: str = "ClusterIP",
    ) -> None:
        body = {"metadata": {"name": name}, "spec": {"ports": ports, "type": kind}}
        self.call("POST", f"/api/v1/namespaces/{namespace}/services", body)

    def compact_etcd(self) -> None:
        """Throw the history away, so that watches cannot go on from before."""
        with httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{self.etcd_port}") as http:
            key = base64.b64encode(b"/registry").decode()
            revision = http.post("/v3/kv/range", json={"key": key}).json()["header"]["revision"]
            done = http.post("/v3/kv/compaction", json={"revision": revision, "physical": True})
            assert done.status_code == 200, done.text

    # Identities.

    def account(self, name: str, namespace: str = "default") -> None:
        """A service account without rights."""
        self.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def allow(self, name: str, account: str, rules: list[dict[str, Any]], namespace: str = "default") -> None:
        """A cluster role for the account."""
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        self.call("POST", f"{rbac}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        self.call(
            "POST",
            f"{rbac}/clusterrolebindings",
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            },
        )

    def token(self, account: str, *, secret: str | None = None, namespace: str = "default") -> str:
        """A token of the account; bound to a Secret it ends when that is deleted."""
        spec: dict[str, Any] = {"expirationSeconds": 600}
        if secret is not None:
            made = self.call(
                "POST", f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": secret}}
            )
            spec["boundObjectRef"] = {
                "kind": "Secret",
                "apiVersion": "v1",
                "name": secret,
                "uid": made["metadata"]["uid"],
            }
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        token: str = self.call("POST", path, {"spec": spec})["status"]["token"]
        return token


READ_SLICES = [
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
]
READ_CORE = [
    {"apiGroups": [""], "resources": ["endpoints", "services"], "verbs": ["get", "list", "watch"]},
]


def _help(program: Path) -> str:
    done = subprocess.run(
        [str(program), "--help"], capture_output=True, text=True, check=False, env=os.environ
    )
    return done.stdout + done.stderr


@contextmanager
def kube_server(folder: Path, **options: Any) -> Iterator[KubeServer]:
    """A server that is ready, and gone afterwards."""
    server = KubeServer(folder, **options)
    try:
        yield server.start()
    finally:
        server.close()
