"""The same proxies with TLS towards callers, endpoints or both."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.h2_proxies import ENVOY_OPTIONS
from tests.bench.proxies import Envoy, Haproxy, Hostmesh, Nginx, Proxy, Topology
from tests.bench.tls_load import NAME, WAYS, Way, combined
from tests.tls_files import TlsFiles

SOCKETS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


class _Tls:
    """What a proxy of this file knows besides its folder and core."""

    files: TlsFiles
    way: Way

    def use(self, files: TlsFiles, way: Way) -> None:
        self.files, self.way = files, way


class TlsNginx(_Tls, Nginx):
    def command(self, topology: Topology) -> list[str]:
        command = super().command(topology)
        files = self.files
        file = self.folder / "nginx.conf"
        text = file.read_text()
        if self.way.callers:
            listen = f"listen 127.0.0.1:{self.port}"
            text = text.replace(listen, f"{listen} ssl")
            text = text.replace(
                "  server {\n",
                f"  ssl_certificate {files.web.chain};\n  ssl_certificate_key {files.web.key};\n"
                "  ssl_protocols TLSv1.2 TLSv1.3;\n  ssl_session_timeout 1h;\n  server {\n",
            )
            if self.way.mutual:
                demand = f"  ssl_client_certificate {files.ca};\n  ssl_verify_client on;\n  server {{\n"
                text = text.replace("  server {\n", demand)
        if self.way.endpoints:
            trust = (
                f"proxy_ssl_trusted_certificate {files.ca};\n  proxy_ssl_verify on;\n"
                f"  proxy_ssl_name {NAME};\n  proxy_ssl_server_name on;\n"
                "  proxy_ssl_protocols TLSv1.2 TLSv1.3;\n"
            )
            if self.way.mutual:
                trust += (
                    f"  proxy_ssl_certificate {files.client.chain};\n"
                    f"  proxy_ssl_certificate_key {files.client.key};\n"
                )
            text = text.replace("proxy_pass http://", "proxy_pass https://")
            text = text.replace("  server {\n", f"  {trust}  server {{\n")
        file.write_text(text)
        return command


class TlsHaproxy(_Tls, Haproxy):
    def command(self, topology: Topology) -> list[str]:
        command = super().command(topology)
        ca = f"ca-file {self.files.ca}"
        bind, server = "", " proto h2" if self.way.h2 else ""
        if self.way.callers:
            bind = f" ssl crt {combined(self.files.web, self.folder)} alpn {'h2,' * self.way.h2}http/1.1"
            if self.way.mutual:
                bind += f" {ca} verify required"
        if self.way.endpoints:
            server = f" ssl verify required {ca} sni str({NAME}) verifyhost {NAME}"
            if self.way.mutual:
                server += f" crt {combined(self.files.client, self.folder)}"
        file = self.folder / "haproxy.cfg"
        lines = [
            line + (bind if "  bind " in line else server if "  server " in line else "")
            for line in file.read_text().splitlines()
        ]
        file.write_text("\n".join(lines) + "\n")
        return command


class TlsEnvoy(_Tls, Envoy):
    def command(self, topology: Topology) -> list[str]:
        command = super().command(topology)
        file = self.folder / "envoy.json"
        config = json.loads(file.read_text())
        if self.way.callers:
            chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
            chain["transport_socket"] = self.towards_callers()
        file.write_text(json.dumps(config, indent=1))
        return command

    def towards_callers(self) -> dict[str, object]:
        common: dict[str, Any] = {
            "tls_certificates": [self.pair(self.files.web.chain, self.files.web.key)],
            "alpn_protocols": ["h2", "http/1.1"] if self.way.h2 else ["http/1.1"],
        }
        if self.way.mutual:
            common["validation_context"] = {"trusted_ca": {"filename": str(self.files.ca)}}
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{SOCKETS}.DownstreamTlsContext",
                "require_client_certificate": self.way.mutual,
                "common_tls_context": common,
            },
        }

    def replica_set(self, name: str, endpoints: list[tuple[str, int]]) -> dict[str, object]:
        made = super().replica_set(name, endpoints)
        if self.way.h2:
            made["typed_extension_protocol_options"] = {
                ENVOY_OPTIONS: {
                    "@type": f"type.googleapis.com/{ENVOY_OPTIONS}",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            }
        if self.way.endpoints:
            made["transport_socket"] = self.towards_endpoints()
        return made

    def towards_endpoints(self) -> dict[str, object]:
        common: dict[str, Any] = {
            "validation_context": {
                "trusted_ca": {"filename": str(self.files.ca)},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": NAME}}],
            }
        }
        if self.way.mutual:
            common["tls_certificates"] = [self.pair(self.files.client.chain, self.files.client.key)]
        return {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{SOCKETS}.UpstreamTlsContext",
                "sni": NAME,
                "common_tls_context": common,
            },
        }

    def pair(self, certificate: Path, key: Path) -> dict[str, object]:
        return {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}


class TlsHostmesh(_Tls, Hostmesh):
    def command(self, topology: Topology) -> list[str]:
        self.write_endpoints(topology)
        files = self.files
        server: dict[str, Any] = {"ip": "127.0.0.1", "port": self.port}
        client: dict[str, Any] = {}
        if self.way.callers:
            server["tls"] = {"certPath": str(files.web.cert), "keyPath": str(files.web.key)}
            if self.way.mutual:
                server["tls"] |= {"caCertPath": str(files.ca), "requireClientAuth": True}
        if self.way.endpoints:
            client["tls"] = {"commonName": NAME, "trustCertsBundle": str(files.ca)}
            if self.way.mutual:
                shown = {"certPath": str(files.client.cert), "keyPath": str(files.client.key)}
                client["tls"]["clientAuth"] = shown
        router = {
            "protocol": "h2" if self.way.h2 else "http",
            "dtab": "/svc => /#/io.l5d.fs",
            "servers": [server],
            **({"client": client} if client else {}),
        }
        config = {
            "admin": {"ip": "127.0.0.1", "port": self.admin},
            "namers": [{"kind": "io.l5d.fs", "rootDir": f"{self.folder}/disco"}],
            "routers": [router],
        }
        file = self.folder / "hostmesh.json"
        file.write_text(json.dumps(config))
        return [str(Path(sys.executable).parent / "hostmesh"), "run", str(file)]


AnyTls = TlsNginx | TlsHaproxy | TlsEnvoy | TlsHostmesh
Make = Callable[[Path, int], Proxy]


def tls_kinds(topology: str, files: TlsFiles) -> dict[str, Make]:
    """The proxies of one of WAYS."""

    def maker(kind: Callable[[Path, int], AnyTls]) -> Make:
        def make(folder: Path, core: int) -> Proxy:
            proxy = kind(folder, core)
            proxy.use(files, WAYS[topology])
            if proxy.way.callers:
                proxy.ready_context = files.client_context(files.client)
            return proxy

        return make

    kinds: tuple[type[AnyTls], ...] = (TlsNginx, TlsHaproxy, TlsEnvoy, TlsHostmesh)
    # nginx speaks HTTP/2 to callers only.
    return {kind.name: maker(kind) for kind in kinds if not (WAYS[topology].h2 and kind is TlsNginx)}
