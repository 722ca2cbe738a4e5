"""Who a peer is, by the certificate that it has shown, and whether that is whom we meant (RFC 9525, SPIFFE).

TLS checks that a certificate comes from a CA that we trust and that the peer has its key. That says nothing about
*which* of the CA's holders it is; this module does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from service_identity.exceptions import CertificateError, VerificationError
from service_identity.hazmat import (
    DNS_ID,
    CertificatePattern,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)

from hostmesh.protocol.tls.credentials import serial_of

SPIFFE: Final = "spiffe://"

MAX_HEADER_NAMES: Final = 32
"""Names of one certificate that x-forwarded-client-cert repeats. With names of usual length that is 2 KiB, which
fits into the 8 KiB of head that most servers take; the hash stands for the whole certificate anyway."""

MAX_TOLD_NAMES: Final = 5
"""Names of a wrong certificate that an error text repeats."""

MAX_TOLD_CHARS: Final = 100
"""Characters of each of them: a name in a certificate may have any length."""

MAX_NAME_CHARS: Final = 255
"""Characters of the one name for logs and metrics: what a DNS name can have, and more than most SPIFFE ids."""

_PLAIN: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?#[]@!$&'()*+%"
)
"""What a value of x-forwarded-client-cert may contain without quotes: the characters of URIs (RFC 3986) without
those that structure the header (comma, semicolon, equals sign)."""


class NameMismatch(Exception):  # noqa: N818  # the name of a reason, as in tls-name-mismatch
    """The peer's certificate is valid and for somebody else; the text says for whom."""


@frozen(kw_only=True)
class PeerIdentity:
    """Whom a verified certificate names. To be made only of certificates whose chain has been verified."""

    dns_names: tuple[str, ...] = ()
    """subjectAltName, lower case; may begin with ``*.``."""
    uris: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    subject: str = ""
    """RFC 4514, most specific part first; empty in certificates that have alternative names only."""
    common_names: tuple[str, ...] = ()
    """The subject's, for ``commonNameFromSubject``."""
    subject_alone: bool = True
    """There is no subjectAltName: none of any kind, and none that cannot be parsed."""
    fingerprint: str
    """SHA-256 of the certificate (DER), lower case hex."""
    serial: int
    not_after: datetime

    @classmethod
    def of(cls, cert: x509.Certificate) -> PeerIdentity:
        """Names that cannot be parsed are no names: such a certificate is for nobody. Never raises."""
        alternatives = _alternative_names(cert)
        dns, uris, ips = alternatives or ((), (), ())
        subject, common = _subject(cert)
        return cls(
            dns_names=dns,
            uris=uris,
            ips=ips,
            subject=subject,
            common_names=common,
            subject_alone=alternatives is None,
            fingerprint=cert.fingerprint(SHA256()).hex(),
            serial=serial_of(cert),
            not_after=cert.not_valid_after_utc,
        )

    @property
    def name(self) -> str:
        """The one name for logs and metrics: the URI (SPIFFE), else the first DNS name, IP or the subject; visible
        ASCII, bounded. Not for decisions."""
        name = next((n for n in (*self.uris, *self.dns_names, *self.ips, self.subject) if n), "(no name)")
        if len(name) <= MAX_NAME_CHARS and name.isascii() and name.isprintable():
            return name
        return visible(name[:MAX_NAME_CHARS])

    def client_cert_header(self) -> bytes:
        """The value of ``x-forwarded-client-cert`` (linkerd1.md 8.7): ``Hash=…;SAN=…;DNS=…;Subject="…"``.

        SAN and DNS are repeated for each URI and DNS name. A value with other characters than those of URIs is
        a quoted-string (RFC 9110 5.6.4), so that nothing a certificate contains can look like another item or
        another header.
        """
        items = [b"Hash=" + self.fingerprint.encode()]
        items += [b"SAN=" + _item(uri) for uri in self.uris[:MAX_HEADER_NAMES]]
        items += [b"DNS=" + _item(name) for name in self.dns_names[:MAX_HEADER_NAMES]]
        if self.subject:
            items.append(b"Subject=" + _quoted(self.subject, b"\\%02X"))
        return b";".join(items)


def verify_name(peer: PeerIdentity | x509.Certificate, name: str, *, from_subject: bool = False) -> None:
    """Check that a verified certificate is for ``name``; raise :class:`NameMismatch` if not.

    ``name`` is a DNS name (in a certificate's ``*.prod.mesh`` the star stands for one label, RFC 9525 6.3; before
    a single label it counts for nothing), an IP address, or a SPIFFE id, which must be equal to the certificate's
    only URI (X509-SVID 5.2). The subject's common name counts only with ``from_subject``, and only if there is no
    alternative name at all (RFC 6125 6.4.4).
    """
    if isinstance(peer, x509.Certificate):
        peer = PeerIdentity.of(peer)
    if name.startswith(SPIFFE):
        _verify_spiffe(peer, name)
        return
    dns_names = peer.dns_names
    if from_subject and peer.subject_alone:
        dns_names = peer.common_names
    patterns: list[CertificatePattern] = [*_dns_patterns(dns_names)]
    patterns += [IPAddressPattern(ip_address(ip)) for ip in peer.ips]
    try:
        verify_service_identity(patterns, [_service_id(name)], [])
    except (VerificationError, CertificateError):
        raise _mismatch(peer, name) from None


def is_allowed(peer: PeerIdentity, allowed: Collection[str]) -> bool:
    """Whether one of the names that a verified certificate carries is among ``allowed``.

    Those are DNS names, ``*.prod.mesh`` for any one label, and SPIFFE ids, ``spiffe://mesh/ns/prod/*`` for all below
    that path. A certificate with more than one URI is nobody's (X509-SVID 2).
    """
    # A certificate for a star is nobody in particular.
    names = {name.lower().removesuffix(".") for name in peer.dns_names if "*" not in name}
    names |= {"*." + name.partition(".")[2] for name in names}
    ids = set()
    if len(peer.uris) == 1:
        (uri,) = peer.uris
        parts = uri.split("/")
        ids = {uri, *("/".join(parts[:end]) + "/*" for end in range(3, len(parts)))}
    # A URI that reads like a DNS name is none, nor the other way round: a CA may be strict about one kind only.
    return any(each in ids if each.startswith(SPIFFE) else each.lower() in names for each in allowed)


def _verify_spiffe(peer: PeerIdentity, name: str) -> None:
    if peer.uris == (name,):
        return
    if name in peer.uris:
        raise NameMismatch(
            f"peer certificate has {len(peer.uris)} URIs, expected {_told(name)} alone: a SPIFFE certificate "
            "names one workload; see docs/tls.md"
        )
    raise _mismatch(peer, name)


def _service_id(name: str) -> DNS_ID | IPAddress_ID:
    try:
        return IPAddress_ID(name)
    except ValueError:
        pass
    # A final dot says that a name is complete; in certificates it is never written.
    name = name.removesuffix(".")
    try:
        # service-identity takes an empty label for one that a star stands for.
        if "" not in name.split("."):
            return DNS_ID(name)
    except ValueError:
        pass
    raise NameMismatch(
        f"{_told(name)!r} is no name that a certificate can be for (a DNS name, an IP address or "
        "spiffe://...); see commonName in docs/tls.md"
    )


def _dns_patterns(names: Iterable[str]) -> list[DNSPattern]:
    """A name that is no pattern (``*`` alone, an address) matches nothing; the others still count."""
    patterns = []
    for name in names:
        try:
            patterns.append(DNSPattern.from_bytes(name.encode()))
        except CertificateError:
            continue
    return patterns


def _mismatch(peer: PeerIdentity, expected: str) -> NameMismatch:
    names = [*peer.uris, *peer.dns_names, *peer.ips]
    hint = ""
    if not names and peer.common_names:
        hint = (
            f" (its common name {_told(peer.common_names[0])} does not count without commonNameFromSubject)"
            if expected.lower() in (common.lower() for common in peer.common_names)
            else f" (only a common name, {_told(peer.common_names[0])})"
        )
    elif any(name.startswith("*.") and name.count(".") == 1 for name in peer.dns_names):
        hint = " (a * counts only before two labels or more)"
    told = [_told(name) for name in names[:MAX_TOLD_NAMES]]
    if len(names) > MAX_TOLD_NAMES:
        told.append(f"{len(names) - MAX_TOLD_NAMES} more")
    found = (", ".join(told) or "no name") + hint
    return NameMismatch(f"peer certificate is for {found}, expected {_told(expected)}; see docs/tls.md")


def _told(name: str) -> str:
    """For logs and error texts: visible ASCII, bounded."""
    text = visible(name[:MAX_TOLD_CHARS])
    return text + "…" if len(name) > MAX_TOLD_CHARS else text


def visible(text: str) -> str:
    """For logs: what is not visible ASCII is a question mark."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _item(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    return data if data and _PLAIN.issuperset(data) else _quoted(value, b"%%%02X")


def _quoted(value: str, escape: bytes) -> bytes:
    """A quoted-string; a byte that is not visible ASCII is written as ``escape`` says (URI or RFC 4514)."""
    visible = b"".join(
        bytes([byte]) if 0x20 <= byte <= 0x7E else escape % byte for byte in value.encode("utf-8", "replace")
    )
    return b'"' + visible.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _alternative_names(
    cert: x509.Certificate,
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None:
    """DNS names, URIs and addresses; None for a certificate without alternative names of any kind."""
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    except Exception:  # noqa: BLE001 - one of many ways in which extensions cannot be parsed
        return (), (), ()
    return (
        tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)),
        tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        # A network, which belongs into a CA's constraints, is nobody's address.
        tuple(str(ip) for ip in names.get_values_for_type(x509.IPAddress) if not hasattr(ip, "netmask")),
    )


def _subject(cert: x509.Certificate) -> tuple[str, tuple[str, ...]]:
    try:
        subject = cert.subject
        common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return subject.rfc4514_string(), tuple(str(attribute.value) for attribute in common)
    except Exception:  # noqa: BLE001 - parsed when it is asked for, and refused in several ways
        return "", ()


def told_name(identity: PeerIdentity) -> str:
    """:attr:`PeerIdentity.name` for error texts, whoever says so: visible ASCII, bounded."""
    return _told(identity.name)
