"""``hostmesh names log NAME``: the journal of a running daemon, in lines for people."""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from attrs import frozen

from hostmesh.base.errors import ConfigError
from hostmesh.protocol.tls.server_name import server_name_of

TIMEOUT_S = 10.0
"""For the daemon to answer."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes; a dozen full journals."""


def main_names(args: argparse.Namespace) -> int:
    """Print the journal of ``args.name``; 0 if it has entries, else 1. ConfigError when the daemon does not answer."""
    target = f"/namer_journal.json?name={quote(args.name, safe='/')}"
    tls = AdminTls(args.admin_ca, args.admin_cert, args.admin_key, args.admin_name)
    entries = list(entries_of(fetch(args.admin, target, tls)))
    for line in lines(entries):
        sys.stdout.write(line + "\n")
    if not entries:
        sys.stderr.write(f"{args.name}: no entry in the journals: not in use, or nothing has changed\n")
    return 0 if entries else 1


@frozen
class AdminTls:
    """How an admin with https is spoken to; PEM files, and the name that its certificate must carry."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    name: str | None = None

    def context(self, host: str) -> ssl.SSLContext:
        """One that verifies. ConfigError for files that cannot be used."""
        from hostmesh.config.tls import ClientAuthConfig, ClientTlsConfig
        from hostmesh.registry.tls_context import client_context

        auth = None
        if self.cert is not None:
            auth = ClientAuthConfig(cert_path=self.cert, key_path=self.key or self.cert)
        elif self.key is not None:
            raise ConfigError("--admin-key: needs --admin-cert")
        try:
            return client_context(
                ClientTlsConfig(trust_certs_bundle=self.ca, client_auth=auth), self.name or host
            )
        except OSError as error:
            raise ConfigError(str(error)) from error


class _HttpsConnection(http.client.HTTPSConnection):
    """One that asks for another name than that of the host."""

    def __init__(self, host: str, port: int, tls: AdminTls) -> None:
        self._name = tls.name or host
        self._verifying = tls.context(host)
        super().__init__(host, port, timeout=TIMEOUT_S, context=self._verifying)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._verifying.wrap_socket(self.sock, server_hostname=server_name_of(self._name))


def fetch(admin: str, target: str, tls: AdminTls = AdminTls()) -> object:
    """The JSON at an admin page; ``admin`` is ``host:port``, or ``https://host:port``."""
    scheme, separator, rest = admin.rpartition("://")
    host, _, port = rest.rstrip("/").rpartition(":")
    if not host or not port.isdecimal() or (separator and scheme not in ("http", "https")):
        raise ConfigError(f"--admin: expected HOST:PORT or https://HOST:PORT, found {admin!r}")
    host = host.strip("[]")
    connection: http.client.HTTPConnection
    if scheme == "https":
        connection = _HttpsConnection(host, int(port), tls)
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER + 1)
    except ssl.SSLError as error:
        from hostmesh.registry.tls_trouble import told

        raise ConfigError(f"no TLS with admin at {admin}: {told(error, 'admin')}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(f"admin at {admin} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status == 400 and scheme != "https" and b"https" in body:
        raise ConfigError(f"admin at {admin} speaks TLS: --admin https://{rest}, and --admin-ca for its CA")
    if answer.status != 200 or len(body) > MAX_ANSWER:
        raise ConfigError(f"admin at {admin}: {target}: status {answer.status}, {len(body)} bytes")
    try:
        return json.loads(body)
    except ValueError as error:
        raise ConfigError(f"admin at {admin}: {target}: {error}") from error


def entries_of(page: object) -> Iterator[Mapping[str, object]]:
    """The entries of all journals on the page, each journal oldest first."""
    journals = page.get("journals", ()) if isinstance(page, dict) else ()
    for journal in journals:
        yield from journal["entries"]


def lines(entries: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """One line per entry, in order of time (UTC)."""
    for entry in sorted(entries, key=lambda entry: float(str(entry["at"]))):
        at = datetime.fromtimestamp(float(str(entry["at"])) / 1000, UTC)
        when = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
        index = f" at {entry['index']}" if entry["index"] else ""
        said = f"  ({entry['source']}{index})" if entry["source"] or index else ""
        # What registries say may hold anything; a terminal must not obey it.
        line = f"{when}  {entry['action']:<9}  {entry['what']}  {entry['name']}{said}"
        yield "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
