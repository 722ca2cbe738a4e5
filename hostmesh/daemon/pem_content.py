"""What credentials consist of, for people and clocks: certificates, CAs and revocation lists, each with its end."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Generic, TypeAlias, TypeVar

from attrs import frozen
from cryptography import x509

from hostmesh.protocol.tls.credentials import KeyPair, Pem, Trust, name_text, serial_of

T = TypeVar("T")

Read: TypeAlias = Callable[[str], Pem]
"""The content of a file; CredentialError if there is none."""

DAY_S: Final = 86_400.0

NEVER: Final = datetime.max.replace(tzinfo=UTC)

WARN_PART: Final = 0.2
"""A certificate is warned about when no more than this part of its life is left: whoever renews it automatically does
so earlier (at a third, as a rule)."""

WARN_CA_S: Final = 30 * DAY_S
"""And a CA when it has no more than this: a fifth of ten years would be two years of warnings."""


@frozen(kw_only=True)
class Item:
    """One certificate, CA or revocation list in a file."""

    kind: str
    """``certificate``, ``ca`` or ``crl``."""
    path: str
    name: str
    serial: int | None
    not_before: datetime
    not_after: datetime

    @property
    def label(self) -> str:
        """For a line in the log."""
        return self.name if self.serial is None else f"{self.name} (serial {self.serial:x})"

    def ending(self, wall: float) -> str:
        """How long it will last, for people."""
        return f"{self.path}: {self.name} ends in {duration(self.left(wall))}"

    def left(self, wall: float) -> float:
        """Seconds of life that are left at ``wall`` (seconds since the epoch); negative after its end."""
        return self.not_after.timestamp() - wall

    def days(self, wall: float) -> float:
        """The same in days."""
        return self.left(wall) / DAY_S

    def is_ending(self, wall: float) -> bool:
        """Whether it is time to warn."""
        life = self.not_after.timestamp() - self.not_before.timestamp()
        limit = life * WARN_PART
        return self.left(wall) <= (min(limit, WARN_CA_S) if self.kind == "ca" else limit)

    def problem(self, wall: float) -> str | None:
        """Why it cannot be used at ``wall``, if so."""
        if self.left(wall) <= 0:
            return f"{self.path}: {self.name} has expired on {self.not_after:%Y-%m-%d %H:%M} UTC"
        if self.kind != "crl" and self.not_before.timestamp() > wall:
            return f"{self.path}: {self.name} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        return None


@frozen
class Content(Generic[T]):
    """What was read, and of what it consists."""

    value: T
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    """What works and should not be left so."""

    def problem(self, wall: float) -> str | None:
        """Why handshakes would fail with it. One expired CA of several is the business of those that it has signed."""
        cas = [item for item in self.items if item.kind == "ca"]
        if cas and all(item.problem(wall) for item in cas):
            return cas[0].problem(wall)
        others = (item.problem(wall) for item in self.items if item.kind != "ca")
        return next((problem for problem in others if problem), None)


def read_pair(cert: str, key: str, intermediates: str | None) -> Callable[[Read], Content[KeyPair]]:
    """What reads a key pair of these files."""

    def read(pem: Read) -> Content[KeyPair]:
        more = pem(intermediates) if intermediates is not None else None
        pair = KeyPair.read(pem(cert), pem(key), more)
        item = Item(
            kind="certificate",
            path=cert,
            name=", ".join(pair.names[:3]) or name_text(pair.certificate.subject),
            serial=pair.serial,
            not_before=pair.not_before,
            not_after=pair.not_after,
        )
        chain = [_ca_item(each, intermediates or cert) for each in pair.intermediates]
        return Content(pair, (item, *chain), (*_chain_notes(pair), *_key_notes(key)))

    return read


def read_trust(cas: Sequence[str], crl: str | None) -> Callable[[Read], Content[Trust]]:
    """What reads CAs, and the revocation lists of them."""

    def read(pem: Read) -> Content[Trust]:
        trust = Trust.read([pem(path) for path in cas], [pem(crl)] if crl is not None else [])
        items = [_ca_item(ca, path) for path in cas for ca in Trust.read([pem(path)]).cas]
        notes = []
        if crl is not None:
            items += [
                Item(
                    kind="crl",
                    path=crl,
                    name=f"the revocation list of {name_text(each.issuer)}",
                    serial=None,
                    not_before=each.last_update_utc,
                    not_after=each.next_update_utc
                    or datetime.max.replace(tzinfo=each.last_update_utc.tzinfo),
                )
                for each in trust.crls
            ]
            listed = {each.issuer for each in trust.crls}
            # A list of nobody's here is an intermediate's: then a root need not have signed anybody, nor have a list.
            notes = [
                f"{crl}: no revocation list of {name_text(ca.subject)}: what it has signed is refused"
                for ca in trust.cas
                if ca.subject not in listed and listed <= {each.subject for each in trust.cas}
            ]
        return Content(trust, tuple(items), tuple(notes))

    return read


def _ca_item(ca: x509.Certificate, path: str) -> Item:
    return Item(
        kind="ca",
        path=path,
        name=name_text(ca.subject),
        serial=serial_of(ca),
        not_before=ca.not_valid_before_utc,
        not_after=ca.not_valid_after_utc,
    )


def _chain_notes(pair: KeyPair) -> list[str]:
    """What peers would refuse, and we cannot know: which CAs they have."""
    if pair.is_ca:
        return [f"{pair.path}: this is the certificate of a CA, which peers need not accept as anybody's own"]
    subjects = {each.subject for each in pair.intermediates}
    if subjects and pair.certificate.issuer not in subjects:
        issuer = name_text(pair.certificate.issuer)
        return [f"{pair.path}: the chain lacks {issuer}, which has signed this certificate"]
    return []


def _key_notes(path: str) -> list[str]:
    """A private key that others may read is theirs as well (X4). Not refused: a Kubernetes secret is mounted so."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return []  # gone in this moment: its own event is on its way
    if mode & 0o077:
        return [f"{path}: this private key has mode {mode:04o}, expected 0600: others may read or replace it"]
    return []


def duration(seconds: float) -> str:
    """Of a remaining life, for people."""
    if seconds >= 2 * DAY_S:
        return f"{seconds / DAY_S:.0f} days"
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} hours"
    return f"{max(seconds, 0) / 60:.0f} minutes"
