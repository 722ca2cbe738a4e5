"""What is legal and mostly a slip: advice of ``hostmesh check`` on TLS and on the admin port (rules X1, X4, X6 of
docs/threat-model.md).

Nothing here refuses a file or is said by ``run``: each of these can be meant. The key files that are named are looked
at, and not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from hostmesh.config.convert import Made
from hostmesh.config.model import AdminConfig
from hostmesh.config.report import KeyPath, Report
from hostmesh.config.tls import CertificateFiles, ClientTlsConfig, ServerTlsConfig
from hostmesh.config.tree import Node, line_at


def lint(report: Report, root: Node, made: Sequence[Made]) -> None:
    """Add to ``report.advice``; ``made`` are the objects of a file without mistakes."""
    for each in made:
        match each.value:
            case ClientTlsConfig():
                found = _client(each.value)
            case ServerTlsConfig():
                found = _server(each.value)
            case AdminConfig():
                found = _admin(each.value)
            case CertificateFiles():
                found = _key(each.value.key_path)
            case _:
                continue
        for key, message in found:
            path: KeyPath = (*each.path, key)
            report.advise(line_at(root, path), path, message)


def _client(tls: ClientTlsConfig) -> Iterator[tuple[str, str]]:
    if not tls.enabled:
        return
    if tls.disable_validation:
        yield (
            "disableValidation",
            "found true, expected commonName and trustCertsBundle: whoever can answer at the address is believed, "
            "and TLS hides the traffic from nobody who can change the route",
        )
    elif not tls.authorities:
        yield (
            "commonName",
            "found without trustCertsBundle, expected the CA that signs it: every CA of this system is believed for "
            "this name, which is meant for hosts of the internet only",
        )


def _server(tls: ServerTlsConfig) -> Iterator[tuple[str, str]]:
    if tls.ca_cert_path is not None and not tls.require_client_auth:
        yield (
            "caCertPath",
            "found without requireClientAuth: true: who shows a certificate must show a good one, and who shows none "
            "is let in",
        )
    yield from _key(tls.key_path)


def _admin(admin: AdminConfig) -> Iterator[tuple[str, str]]:
    if ip_address(admin.ip).is_loopback or not admin.security.control_enabled:
        return
    if admin.tls is None:
        yield (
            "ip",
            f"found {admin.ip} without tls, expected a loopback address, tls with requireClientAuth, or "
            "security.controlEnabled: false: other hosts can read everything here and stop the daemon",
        )
    elif not admin.tls.require_client_auth:
        yield (
            "ip",
            f"found {admin.ip} with tls and without requireClientAuth, expected one of: a loopback address, "
            "tls.requireClientAuth, security.controlEnabled: false: other hosts can read everything here and stop "
            "the daemon",
        )


def _key(path: str) -> Iterator[tuple[str, str]]:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return  # made elsewhere, or later
    if mode & 0o077:
        yield (
            "keyPath",
            f"found {path} with mode {mode:04o}, expected 0600: others may read or replace the key",
        )
