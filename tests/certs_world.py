"""A mesh CA in a folder of a test, on a clock that only moves when told to, and what OpenSSL says of its files."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hostmesh.certs.store import Mesh, Pair, Store, read_pair
from hostmesh.certs.work import Work

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


class CertsWorld:
    """``world.work.issue("web")``, ``world.later(days=5)``, ``world.work.rotate()``."""

    def __init__(self, folder: Path, *, trust_domain: str = "mesh") -> None:
        self.time = NOON
        self.root = folder
        self.store = Store(folder)
        self.work = Work(self.store, lambda: self.time)
        self.trust_domain = trust_domain

    def init(self) -> CertsWorld:
        self.work.init(trust_domain=self.trust_domain, name="test")
        return self

    def later(self, **parts: float) -> None:
        self.time += timedelta(**parts)

    def folder(self, holder: str) -> Path:
        return self.root / "issued" / holder

    def pair(self, holder: str) -> Pair:
        """What a holder has now; ConfigError if certificate and key do not belong together."""
        return read_pair(self.folder(holder))

    def serial(self, holder: str) -> int:
        return self.pair(holder).certificate.serial_number

    def mesh(self) -> Mesh:
        return self.store.load()


def openssl_says(certificate: Path, bundle: Path, crl: Path | None, at: datetime, purpose: str) -> str:
    """What ``openssl verify`` prints, as strict as it can be; ``OK`` at its end, or why not."""
    found = subprocess.run(
        [
            *(openssl(), "verify", "-x509_strict", "-attime", str(int(at.timestamp()))),
            *("-purpose", purpose, "-CAfile", str(bundle)),
            *(("-crl_check", "-CRLfile", str(crl)) if crl is not None else ()),
            str(certificate),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    return (found.stdout + found.stderr).strip()


def openssl() -> str:
    found = shutil.which("openssl")
    assert found is not None, "mark the test with server('openssl')"
    return found


def handshake(
    server_folder: Path, client_folder: Path, name: str, *, client_shows: bool = True, check_crl: bool = True
) -> str | None:
    """A handshake in memory with the files of two holders; None if it succeeds, else what failed.

    Python's own ssl module judges, with the clock of this machine: only for files made with it.
    """
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context, folder in ((server_side, server_folder), (client_side, client_folder)):
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        context.load_verify_locations(folder / "ca.pem")
        if check_crl:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
            context.load_verify_locations(folder / "crl.pem")
        if context is server_side or client_shows:
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    finished: set[object] = set()
    for _ in range(10):
        for side in (client, server):
            try:
                if side not in finished:
                    side.do_handshake()
                    finished.add(side)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return None if len(finished) == 2 else "not finished"
