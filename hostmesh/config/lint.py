"""What is legal and mostly a slip: advice of ``hostmesh check`` on TLS and on the admin port (rules X1, X4, X6 of
docs/threat-model.md).

Nothing here refuses a configuration: each of these can be meant, or is put right where it runs. Files of TLS are read
if they are there, so that what ``run`` would refuse is known before; the others may be made elsewhere, or later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from os.path import exists

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
                found = _pair(each.value)
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
    keys = {path: f"trustCerts[{index}]" for index, path in enumerate(tls.trust_certs)}
    if tls.trust_certs_bundle is not None:
        keys = {tls.trust_certs_bundle: "trustCertsBundle"}
    yield from _trust(keys, tls.crl_path)


def _server(tls: ServerTlsConfig) -> Iterator[tuple[str, str]]:
    if tls.ca_cert_path is not None and not tls.require_client_auth:
        yield (
            "caCertPath",
            "found without requireClientAuth: true: who shows a certificate must show a good one, and who shows none "
            "is let in",
        )
    yield from _pair(tls.own[0])
    if tls.ca_cert_path is not None:
        yield from _trust({tls.ca_cert_path: "caCertPath"}, tls.crl_path)


def _pair(files: CertificateFiles) -> Iterator[tuple[str, str]]:
    yield from _key(files.key_path)
    keys = {files.cert_path: "certPath", files.key_path: "keyPath"}
    more = files.intermediate_certs_path
    if more is not None:
        keys[more] = "intermediateCertsPath"

    def read() -> None:
        KeyPair.read(
            read_pem(files.cert_path), read_pem(files.key_path), None if more is None else read_pem(more)
        )

    if all(map(exists, keys)):
        # Only here: cryptography is for those who use it.
        from hostmesh.protocol.tls.credentials import KeyPair
        from hostmesh.registry.pem import read_pem

        yield from _told(keys, read)


def _trust(keys: dict[str, str], crl: str | None) -> Iterator[tuple[str, str]]:
    cas = list(keys)
    if crl is not None:
        keys = {**keys, crl: "crlPath"}

    def read() -> None:
        Trust.read([read_pem(path) for path in cas], [] if crl is None else [read_pem(crl)])

    if keys and all(map(exists, keys)):
        # Only here, as above.
        from hostmesh.protocol.tls.credentials import Trust
        from hostmesh.registry.pem import read_pem

        yield from _told(keys, read)


def _told(keys: dict[str, str], read: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """What ``read`` finds wrong, at the key of the file that its text begins with."""
    try:
        read()
    except ValueError as error:
        path = str(error).partition(": ")[0]
        yield keys.get(path, next(iter(keys.values()))), f"run refuses this: {error}"


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
