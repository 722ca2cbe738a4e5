"""The directory of a mesh CA: its ledger, its keys, its bundle and its revocation lists, as one set of files."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.base.errors import ConfigError
from hostmesh.certs.issuing import Authority
from hostmesh.certs.ledger import Ledger, from_json, to_json
from hostmesh.certs.publish import (
    CURRENT,
    MAX_FILE,
    PRIVATE_FILE,
    Content,
    current_version,
    holds_only_leftovers,
    make_folder,
    publish,
    read_regular,
)
from hostmesh.registry.trusted_file import read_trusted

LEDGER: Final = "ledger.json"
BUNDLE: Final = "ca.pem"
CRL: Final = "crl.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"


@frozen(kw_only=True)
class Mesh:
    """What the directory holds."""

    ledger: Ledger
    authorities: Mapping[int, Authority]
    """By serial number, one for each signer of the ledger."""
    crls: Mapping[int, x509.CertificateRevocationList]
    """The list of each authority, by its serial number."""

    def signing(self, now: datetime) -> Authority:
        """The CA that signs now."""
        return self.authorities[self.ledger.signer(now).serial]

    def bundle(self) -> bytes:
        """All CAs to be trusted, PEM, oldest first."""
        return b"".join(pem(self.authorities[each.serial].certificate) for each in self.ledger.signers)

    def crl_file(self) -> bytes:
        """The lists of all of them, PEM, in the same order."""
        return b"".join(
            self.crls[each.serial].public_bytes(serialization.Encoding.PEM) for each in self.ledger.signers
        )


class Store:
    """The files of a CA below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def ledger_file(self) -> Path:
        return self.root / CURRENT / LEDGER

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the directory: a timer and a person may come at once. Waits for the other, without a limit."""
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(
                f"{self.root}: expected the directory of a CA: {error.strerror}; `hostmesh certs init` makes one"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def create(self, mesh: Mesh, now: datetime) -> None:
        """Write a new CA. ConfigError if there is one already, or anything else."""
        if os.path.lexists(self.root / CURRENT):
            raise ConfigError(
                f"{self.root}: holds a CA already, which is left as it is; expected no directory"
            )
        if self.root.exists() and not (self.root.is_dir() and holds_only_leftovers(self.root)):
            raise ConfigError(f"{self.root}: expected no directory or an empty one, found something in it")
        make_folder(self.root)
        self.root.chmod(0o700)
        self.save(mesh, now)

    def save(self, mesh: Mesh, now: datetime) -> None:
        """Replace all of it."""
        text = json.dumps(to_json(mesh.ledger), indent=1) + "\n"
        files = {
            LEDGER: Content(text.encode(), PRIVATE_FILE),
            BUNDLE: Content(mesh.bundle()),
            CRL: Content(mesh.crl_file()),
        }
        for signer in mesh.ledger.signers:
            authority = mesh.authorities[signer.serial]
            files[certificate_file(signer.serial)] = Content(pem(authority.certificate))
            files[key_file(signer.serial)] = Content(key_pem(authority.key), PRIVATE_FILE)
        publish(self.root, files, now, links=(BUNDLE, CRL))

    def load(self) -> Mesh:
        """Read all of it. ConfigError naming the file that is missing, spoilt, or writable by others."""
        version = current_version(self.root)
        if version is None:
            raise ConfigError(
                f"{self.root}: expected the directory of a CA, found none; `hostmesh certs init` makes one"
            )
        folder = self.root / version
        file = folder / LEDGER
        try:
            page = json.loads(_trusted(file))
        except ValueError as error:
            raise ConfigError(f"{file}: found {error}, expected JSON") from error
        ledger = from_json(str(file), page)
        authorities = {
            each.serial: read_authority(
                folder / certificate_file(each.serial), folder / key_file(each.serial)
            )
            for each in ledger.signers
        }
        return Mesh(
            ledger=ledger, authorities=authorities, crls=_read_crls(folder / CRL, authorities.values())
        )

    def folder_of(self, folder: str) -> Path:
        """Where a holder's files are."""
        return self.root / folder  # an absolute one stays what it is


@frozen(kw_only=True)
class Pair:
    """A certificate and its key, as they are in files."""

    certificate: x509.Certificate
    certificate_pem: bytes
    key_pem: bytes


def read_pair(folder: Path) -> Pair:
    """What a holder has. ConfigError, naming the file, when it is not a certificate with its key."""
    version = current_version(folder)
    for name in (CERTIFICATE, KEY):
        if version is not None and not (folder / name).exists():
            raise ConfigError(f"{folder / name}: cannot be read: No such file or directory")
    # By the version, not by the links: both files are of the same set for sure.
    place = folder if version is None else folder / version
    certificate_pem, private = read_regular(place / CERTIFICATE), read_regular(place / KEY)
    certificate = _certificate(place / CERTIFICATE, certificate_pem)
    key = _private_key(place / KEY, private)
    if certificate.public_key() != key.public_key():
        raise ConfigError(f"{folder / KEY}: expected the key of {folder / CERTIFICATE}, found another one")
    return Pair(certificate=certificate, certificate_pem=certificate_pem, key_pem=private)


def read_authority(certificate_path: Path, key_path: Path) -> Authority:
    """A CA from its two files."""
    certificate = _certificate(certificate_path, _trusted(certificate_path))
    key = _private_key(key_path, _trusted(key_path))
    if certificate.public_key() != key.public_key():
        raise ConfigError(f"{key_path}: expected the key of {certificate_path}, found another one")
    return Authority(certificate=certificate, key=key)


def certificate_file(serial: int) -> str:
    """The file of a CA's certificate."""
    return f"ca-{serial:x}.pem"


def key_file(serial: int) -> str:
    """The file of a CA's key."""
    return f"ca-{serial:x}-key.pem"


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, as Linkerd wants it; not encrypted, since daemons start without a person."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _trusted(path: Path) -> bytes:
    try:
        return read_trusted(str(path), MAX_FILE)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _certificate(path: Path, data: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        raise ConfigError(f"{path}: found {error}, expected a certificate in PEM") from error


def _private_key(path: Path, data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        # Not the error's own text: nothing of a key file belongs into a message.
        raise ConfigError(f"{path}: expected an unencrypted private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: expected an ECDSA key, found one of another kind")
    return key


def _read_crls(path: Path, authorities: Iterable[Authority]) -> dict[int, x509.CertificateRevocationList]:
    data = _trusted(path)
    end = b"-----END X509 CRL-----\n"
    found: dict[int, x509.CertificateRevocationList] = {}
    try:
        lists = [x509.load_pem_x509_crl(part + end) for part in data.split(end) if part.strip()]
    except ValueError as error:
        raise ConfigError(f"{path}: found {error}, expected CRLs in PEM") from error
    for authority in authorities:
        for each in lists:
            if each.is_signature_valid(authority.key.public_key()):
                found[authority.serial] = each
    return found
