"""Keys, certificates and the CAs that are trusted, read from PEM text and judged before a handshake needs them.

A handshake that fails for a bad file says so in OpenSSL's words, to the caller, in the night. So everything that
can be wrong with a file by itself is found here, and the text of every error begins with the file's path. No
text ever contains a part of a key file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

PrivateKey: TypeAlias = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
"""The kinds of keys that TLS 1.2 and 1.3 both sign with; DSA is gone from TLS 1.3."""

_Parsed = TypeVar("_Parsed")
_ExtensionT = TypeVar("_ExtensionT", bound=x509.ExtensionType)

MAX_BLOCKS: Final = 1000
"""Certificates or CRLs in one file. A system's bundle of CAs has about 150; checking them costs time at start."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class CredentialError(ValueError):
    """A file that cannot be used; the text names it and says what is wrong with it."""


@frozen
class Pem:
    """What a file contains, with its path for error texts."""

    path: str
    data: bytes = field(repr=False)


@frozen(kw_only=True)
class KeyPair:
    """A certificate, those between it and a root, and its private key.

    Two are equal if they show the same certificates: the key follows from them.
    """

    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...] = ()
    key: PrivateKey = field(repr=False, eq=False)
    path: str
    """The certificate's file."""

    @classmethod
    def read(cls, cert: Pem, key: Pem, intermediates: Pem | None = None) -> KeyPair:
        """Of a certificate (or a chain, ours first), its unencrypted key, and more of the chain.

        Raises :class:`CredentialError` for what is no PEM, lacks a certificate, is encrypted, of a kind that TLS
        cannot use, or if the key belongs to another certificate.
        """
        chain = _certificates(cert)
        more = _certificates(intermediates) if intermediates is not None else []
        private = _private_key(key)
        public = _public_bytes(private)
        if _certified_bytes(chain[0], cert.path) != public:
            if any(_certified_bytes(other, cert.path) == public for other in chain[1:]):
                raise CredentialError(
                    f"{cert.path}: the certificate of the key {key.path} must be the first one in the file"
                )
            raise CredentialError(
                f"{key.path}: this is not the key of the certificate in {cert.path}; "
                "replace both, or write both again from the same source"
            )
        if not _signs(private):
            raise CredentialError(f"{key.path}: the private key in it is damaged: its signatures are wrong")
        # A chain that is in both files is shown once.
        shown = tuple(dict.fromkeys(c for c in (*chain[1:], *more) if c != chain[0]))
        return cls(certificate=chain[0], intermediates=shown, key=private, path=cert.path)

    @property
    def serial(self) -> int:
        return serial_of(self.certificate)

    @property
    def not_before(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def names(self) -> tuple[str, ...]:
        """The DNS names to choose it by (SNI), lower case.

        Without any subjectAltName it is the common name. That is a choice among our own certificates; the
        caller decides whether to believe a common name.
        """
        alternative = _extension(self.certificate, x509.SubjectAlternativeName)
        if alternative is not None:
            return tuple(name.lower() for name in alternative.get_values_for_type(x509.DNSName))
        common = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common)

    @property
    def is_ca(self) -> bool:
        """Whether it may sign other certificates."""
        constraints = _extension(self.certificate, x509.BasicConstraints)
        return constraints is not None and constraints.ca


@frozen(kw_only=True)
class Trust:
    """The CAs that a peer's certificate must come from, and what they have revoked."""

    cas: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    @classmethod
    def read(cls, cas: Sequence[Pem], crls: Sequence[Pem] = ()) -> Trust:
        """Of files with any number of CAs and of revocation lists.

        Raises :class:`CredentialError` for what is no PEM, holds none, or is a revocation list that claims one
        of these CAs without its signature (OpenSSL would then refuse every certificate of that CA). The issuer
        of a list may also be an intermediate that is not among them.
        """
        trusted = tuple(dict.fromkeys(cert for pem in cas for cert in _certificates(pem)))
        revoked = []
        for pem in crls:
            for crl in _revocation_lists(pem):
                issuers = [ca for ca in trusted if ca.subject == crl.issuer]
                if issuers and not any(_is_signed(crl, ca) for ca in issuers):
                    raise CredentialError(
                        f"{pem.path}: the revocation list of {name_text(crl.issuer)} is not signed by the CA "
                        "of that name that is trusted here"
                    )
                revoked.append(crl)
        return cls(cas=trusted, crls=tuple(revoked))


def serial_of(certificate: x509.Certificate) -> int:
    """The serial number, which should be positive; about one that is not the library would write to stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return certificate.serial_number


def name_text(name: x509.Name) -> str:
    """A subject or issuer for people, RFC 4514."""
    return name.rfc4514_string() or "(no name)"


def _certificates(pem: Pem) -> list[x509.Certificate]:
    blocks = _blocks(pem, "CERTIFICATE")
    return [_parsed(pem, block, x509.load_pem_x509_certificate, "certificate") for block in blocks]


def _revocation_lists(pem: Pem) -> list[x509.CertificateRevocationList]:
    blocks = _blocks(pem, "X509 CRL")
    return [_parsed(pem, block, x509.load_pem_x509_crl, "revocation list") for block in blocks]


def _blocks(pem: Pem, wanted: str) -> list[bytes]:
    """The blocks of one kind; others, and text between them, are passed over as OpenSSL does."""
    found = [(match[1].decode(), match[0]) for match in _BLOCK.finditer(pem.data)]
    blocks = [block for kind, block in found if kind == wanted]
    if not blocks:
        raise CredentialError(f"{pem.path}: found {_kind(pem.data, found)}, expected {wanted} in PEM")
    if len(blocks) > MAX_BLOCKS:
        raise CredentialError(f"{pem.path}: found {len(blocks)} of {wanted}, expected at most {MAX_BLOCKS}")
    return blocks


def _kind(data: bytes, found: Sequence[tuple[str, bytes]]) -> str:
    """What a file seems to be, for error texts; the labels of its blocks only."""
    if found:
        return ", ".join(sorted({kind for kind, _block in found}))
    if not data.strip():
        return "an empty file"
    if b"-----BEGIN" in data:
        return "PEM that ends too early"
    if data[:1] == b"\x30":
        return "DER (convert it with openssl, option -inform DER)"
    return "no PEM"


def _parsed(pem: Pem, block: bytes, parse: Callable[[bytes], _Parsed], noun: str) -> _Parsed:
    """With its names and dates: the library parses them when they are asked for, which would be too late."""
    try:
        with warnings.catch_warnings():
            # Bundles of CAs contain roots of the nineties, with serial numbers that are 0 today and an error some day.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            found = parse(block)
            if isinstance(found, x509.Certificate):
                _used = found.subject, found.issuer, found.not_valid_before_utc, found.not_valid_after_utc
            elif isinstance(found, x509.CertificateRevocationList):
                _read = found.issuer, found.last_update_utc, found.next_update_utc
            return found
    except Exception as error:  # noqa: BLE001 - the library's are many, and some of them nothing but an Exception
        raise CredentialError(f"{pem.path}: a {noun} in it cannot be parsed: {error}") from None


def _private_key(pem: Pem) -> PrivateKey:
    kinds = [match[1] for match in _BLOCK.finditer(pem.data)]
    if not any(kind.endswith(b"PRIVATE KEY") for kind in kinds):
        found = [(kind.decode(), b"") for kind in kinds]
        raise CredentialError(f"{pem.path}: found {_kind(pem.data, found)}, expected PRIVATE KEY in PEM")
    # The library's own texts are not repeated: what they may quote of a key is not ours to promise.
    try:
        # To prove the primes of RSA 4096 takes 0.2 s, on the thread of the data path; a signature tells as much.
        key = load_pem_private_key(pem.data, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise CredentialError(
            f"{pem.path}: the private key is encrypted and there is nobody to ask for a passphrase; "
            "decrypt it (openssl pkey) and protect the file instead"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CredentialError(f"{pem.path}: the private key in it cannot be parsed") from None
    if not isinstance(key, PrivateKey):
        raise CredentialError(f"{pem.path}: found a {type(key).__name__}, expected ECDSA, RSA or EdDSA")
    return key


def _public_bytes(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _signs(key: PrivateKey) -> bool:
    """Whether the private half of a key does what its public half expects."""
    probe = b"hostmesh"
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            key.public_key().verify(key.sign(probe, PKCS1v15(), SHA256()), probe, PKCS1v15(), SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey):
            key.public_key().verify(key.sign(probe, ec.ECDSA(SHA256())), probe, ec.ECDSA(SHA256()))
        else:
            key.public_key().verify(key.sign(probe), probe)
    except (InvalidSignature, ValueError, InternalError):
        return False
    return True


def _certified_bytes(certificate: x509.Certificate, path: str) -> bytes:
    try:
        public = certificate.public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialError(f"{path}: the public key of a certificate cannot be used: {error}") from None


def _is_signed(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]  # a key that cannot sign: below
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _extension(certificate: x509.Certificate, kind: type[_ExtensionT]) -> _ExtensionT | None:
    """One extension; None also if the certificate's extensions cannot be parsed, which no name is read from."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except Exception:  # noqa: BLE001 - none there, or one of many ways in which extensions cannot be parsed
        return None
