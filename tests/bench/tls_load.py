"""TLS peers of the bench: the endpoint behind proxies that speak TLS to it, and the callers that speak TLS to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from tests.bench.load import BUILD, HERE, Outcome, on_core, outcome
from tests.bench.proxies import Absent, Nginx, Topology, installed
from tests.servers.fetch import nginx
from tests.tls_files import Issued, TlsFiles

NAME = "web.mesh"
"""In the certificates, on both sides."""


@frozen(kw_only=True)
class Way:
    """Where a proxy speaks TLS."""

    callers: bool
    endpoints: bool
    mutual: bool = False
    """Callers have to show a certificate, and endpoints are shown one."""
    h2: bool = False
    """Callers come with HTTP/2, and it goes on to the endpoints."""


WAYS = {
    "tls-in": Way(callers=True, endpoints=False),
    "tls-out": Way(callers=False, endpoints=True),
    "mtls": Way(callers=True, endpoints=True, mutual=True),
    "tls-h2": Way(callers=True, endpoints=False, h2=True),
}
"""By the name of their topology."""


def compile_tls() -> None:
    """Build the generators: apart from the other tools, since they need OpenSSL's headers."""
    compiler = installed("gcc", "gcc libc6-dev")
    BUILD.mkdir(parents=True, exist_ok=True)
    for name, source in (("tls", HERE / "tls.c"), ("h2tls", HERE / "h2.c")):
        binary = BUILD / name
        if binary.exists() and binary.stat().st_mtime >= source.stat().st_mtime:
            continue
        command = [compiler, "-O2", "-DTLS", "-o", str(binary), str(source), "-lssl", "-lcrypto"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Absent(f"apt-get install libssl-dev ({done.stderr.strip().splitlines()[0]})")


class TlsEndpoint(Nginx):
    """An nginx that answers 64 bytes over TLS, on the core of the load."""

    name = "tls-endpoint"

    def __init__(self, folder: Path, core: int, files: TlsFiles, size: int = 64) -> None:
        super().__init__(folder, core)
        self.files = files
        self.size = size
        self.ready_context = files.client_context()
        self.start({NAME: []})

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/"

    def command(self, topology: Topology) -> list[str]:
        pair = self.files.web
        file = self.folder / "nginx.conf"
        file.write_text(
            f"""{"user root;" if os.getuid() == 0 else ""}
worker_processes 1;
pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{self.port} ssl backlog=4096;
    listen 127.0.0.2:{self.port} ssl backlog=4096;
    ssl_certificate {pair.chain};
    ssl_certificate_key {pair.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_client_certificate {self.files.ca};
    ssl_verify_client optional;
    location / {{ return 200 "{"x" * self.size}"; }}
  }}
}}
"""
        )
        return [
            str(nginx()),
            "-p",
            str(self.folder),
            "-c",
            str(file),
            "-g",
            "daemon off;",
        ]


def tls(
    core: int,
    port: int,
    connections: int,
    seconds: float,
    requests: Path,
    mode: str,
    files: TlsFiles,
    shown: Issued | None,
) -> Outcome:
    """Requests on connections that stay (``keep``), or each on a new one (``full``, ``resumed``)."""
    arguments = [str(port), str(connections), str(seconds), str(requests), mode, NAME, str(files.ca)]
    if shown is not None:
        arguments += [str(shown.chain), str(shown.key)]
    command = on_core(core, str(BUILD / "tls"), *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=abs(seconds) + 60)
    if done.returncode:
        raise RuntimeError(f"tls: {done.stderr}")
    seen = json.loads(done.stdout)
    share = seen["resumed"] / max(1, seen["handshakes"])
    return outcome(seen, resumed=None if mode == "keep" else share)


def combined(pair: Issued, folder: Path) -> Path:
    """Chain and key in one file, as HAProxy wants them."""
    file = folder / f"{pair.name}.pem"
    with file.open("wb") as out:
        for part in (pair.chain, pair.key):
            with part.open("rb") as source:
                shutil.copyfileobj(source, out)
    return file
