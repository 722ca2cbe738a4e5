"""What ``hostmesh certs`` does: make a CA, issue, renew, exchange the CA, revoke.

The order is the same everywhere: first the ledger, then the files of holders. Whoever is killed in between leaves
files that belong together, only some of them older, and the next :meth:`Work.rotate` brings the rest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import define, evolve, field
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.base.errors import ConfigError
from hostmesh.certs.issuing import (
    BACKDATED,
    CA_LIFE,
    CRL_LIFE,
    DEFAULT_LIFE,
    Authority,
    issue,
    make_authority,
    revocation_list,
)
from hostmesh.certs.ledger import Holder, Issued, Ledger, Signer
from hostmesh.certs.names import Names, names_of
from hostmesh.certs.publish import PRIVATE_FILE, Content, make_folder, publish, read_regular, refuse_foreign
from hostmesh.certs.store import BUNDLE, CERTIFICATE, CRL, KEY, Mesh, Pair, Store, key_pem, pem, read_pair

RENEWED_BELOW: Final = 1 / 3
"""Of a life. The rest is for machines that are down at that time, and for whoever looks into a failure."""

OVERLAP: Final = timedelta(hours=24)
"""Between trusting a new CA and using it: every host must have got the new bundle by then."""

SERIAL_BITS: Final = 127
"""All but one from the operating system's generator; CA/Browser Forum baseline requirements 7.1 want 64."""


FILES: Final = (CERTIFICATE, KEY, BUNDLE, CRL)
"""What every holder gets."""


def wall_clock() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def new_serial() -> int:
    """Positive, and always of 16 bytes."""
    return 1 << (SERIAL_BITS - 1) | secrets.randbits(SERIAL_BITS - 1)


@define
class Outcome:
    """What was done, and what could not be done for single holders."""

    done: list[str] = field(factory=list)
    failed: list[str] = field(factory=list)


class Work:
    """Work on one CA. Every method takes the lock of its directory; ConfigError and OSError say what went wrong."""

    def __init__(self, store: Store, now: Callable[[], datetime] = wall_clock) -> None:
        self.store = store
        self.now = now

    def init(self, *, trust_domain: str, name: str, life: timedelta = CA_LIFE) -> x509.Certificate:
        """Make a CA where nothing is; returns its certificate."""
        now = self.now()
        authority = make_authority(
            new_key(), name=name, trust_domain=trust_domain, serial=new_serial(), now=now, life=life
        )
        ledger = Ledger(trust_domain=trust_domain, name=name, signers=(_signer(authority, now),))
        mesh = Mesh(ledger=ledger, authorities={authority.serial: authority}, crls={})
        self.store.create(_with_crls(mesh, now, anew=True), now)
        return authority.certificate

    def issue(
        self,
        holder: str,
        *,
        dns: tuple[str, ...] = (),
        spiffe: str | None = None,
        ips: tuple[str, ...] = (),
        life: timedelta = DEFAULT_LIFE,
        folder: str | None = None,
        owner: tuple[int, int] | None = None,
        replace: bool = False,
    ) -> tuple[Names, Path]:
        """A certificate for a holder that has none, or with ``replace`` other names for one that has.

        ``folder`` defaults to ``issued/HOLDER`` below the CA; ``owner`` (uid, gid) gets it. Returns the names and
        where the files are.
        """
        with self.store.locked():
            now = self.now()
            mesh = self._load(now)
            ledger = mesh.ledger
            names = names_of(holder, ledger.trust_domain, dns=dns, spiffe=spiffe, ips=ips)
            known = ledger.holders.get(holder)
            if known is not None and known.revoked_at is None and not replace:
                raise ConfigError(
                    f"{holder}: has a certificate already; `hostmesh certs rotate` renews it, "
                    "`hostmesh certs issue --replace` gives it other names"
                )
            history = known.certificates if known is not None else ()
            place = folder or (known.folder if known is not None else f"issued/{holder}")
            for other in ledger.active():
                if other.folder == place and other.names.holder != holder:
                    raise ConfigError(
                        f"{place}: holds the files of {other.names.holder}; expected another --out"
                    )
            target = self.store.folder_of(place)
            make_folder(target, owner=owner)
            refuse_foreign(target, FILES)
            ledger = ledger.with_holder(Holder(names=names, life=life, folder=place, certificates=history))
            mesh, pair = _issue(evolve(mesh, ledger=ledger), holder, now)
            self.store.save(mesh, now)
            self._deliver(mesh, mesh.ledger.holders[holder], pair, now)
            return names, target

    def rotate(self, *, everything: bool = False) -> Outcome:
        """Renew what is due, refresh revocation lists, and bring every holder's files up to date."""
        with self.store.locked():
            now = self.now()
            mesh = self._load(now)
            outcome = Outcome()
            fresh: dict[str, Pair] = {}
            for holder in mesh.ledger.active():
                why = "asked for" if everything else self.why_due(mesh, holder, now)
                if why is not None:
                    mesh, fresh[holder.names.holder] = _issue(mesh, holder.names.holder, now)
                    outcome.done.append(f"{holder.names.holder}: renewed ({why})")
            self._settle(mesh, now, fresh, outcome)
            return outcome

    def rotate_ca(self, *, overlap: timedelta = OVERLAP) -> Outcome:
        """Begin the exchange of the CA: the new one is trusted now and signs after ``overlap``.

        The following calls of :meth:`rotate` do the rest. ConfigError while another exchange has not come so far.
        """
        with self.store.locked():
            now = self.now()
            mesh = self._load(now)
            coming = mesh.ledger.coming(now)
            if coming is not None:
                raise ConfigError(
                    f"{self.store.root}: a new CA is trusted already and signs from {coming.signs_from:%Y-%m-%d %H:%M} "
                    "UTC on; expected --ca after that"
                )
            mesh = _with_new_authority(mesh, now, now + overlap)
            newest = mesh.ledger.signers[-1]
            outcome = Outcome(
                done=[f"new CA {newest.serial:x}: trusted now, signs from {_at(newest.signs_from)}"]
            )
            self._settle(mesh, now, {}, outcome)
            return outcome

    def replace_ca(self) -> Outcome:
        """Exchange the CA at once, for one whose key was stolen: what the old one signed is worth nothing from now."""
        with self.store.locked():
            now = self.now()
            mesh = _with_new_authority(self._load(now), now, now)
            mesh = _with_ledger(mesh, mesh.ledger.only_newest_signer())
            outcome = Outcome(done=[f"new CA {mesh.ledger.signers[-1].serial:x}: the only one from now on"])
            fresh: dict[str, Pair] = {}
            for holder in mesh.ledger.active():
                mesh, fresh[holder.names.holder] = _issue(mesh, holder.names.holder, now)
                outcome.done.append(f"{holder.names.holder}: renewed (new CA)")
            self._settle(mesh, now, fresh, outcome)
            return outcome

    def revoke(self, holders: list[str]) -> Outcome:
        """Revoke all certificates of these holders and issue them no more. ConfigError for one that is not known."""
        with self.store.locked():
            now = self.now()
            mesh = self._load(now)
            ledger = mesh.ledger
            outcome = Outcome()
            for name in holders:
                known = ledger.holders.get(name)
                if known is None:
                    raise ConfigError(
                        f"{name}: not known to {self.store.root}; expected one of {_list(ledger.holders)}"
                    )
                if known.revoked_at is not None:
                    raise ConfigError(f"{name}: was revoked at {_at(known.revoked_at)}")
                outcome.done.append(f"{name}: revoked, {len(known.certificates)} serial(s)")
                ledger = ledger.with_revoked(name, now)
            self._settle(_with_crls(evolve(mesh, ledger=ledger), now, anew=True), now, {}, outcome)
            return outcome

    def why_due(self, mesh: Mesh, holder: Holder, now: datetime) -> str | None:
        """Why a holder needs a new certificate; None if it does not."""
        try:
            found = read_pair(self.store.folder_of(holder.folder)).certificate
        except ConfigError as error:
            return str(error)
        if not holder.certificates or found.serial_number != holder.certificates[-1].serial:
            # Another one than the last: somebody was interrupted, or it has ended, or it was revoked or renamed since.
            return "found another certificate than the last one issued"
        if found.issuer != mesh.signing(now).certificate.subject:
            return "new CA"
        if is_low(found, now):
            return "less than a third of its life left"
        return None

    def _load(self, now: datetime) -> Mesh:
        """The CA as it is now: without what has ended, and with lists that are not about to end."""
        mesh = self.store.load()
        return _with_crls(_with_ledger(mesh, mesh.ledger.without_ended(now)), now)

    def _settle(self, mesh: Mesh, now: datetime, fresh: dict[str, Pair], outcome: Outcome) -> None:
        """Write the ledger if it says something new, then bring every holder's files up to date."""
        before = self.store.load()
        if (mesh.ledger, mesh.crl_file()) != (before.ledger, before.crl_file()):
            gone = set(before.authorities) - set(mesh.authorities)
            outcome.done += [f"old CA {serial:x}: removed" for serial in sorted(gone)]
            self.store.save(mesh, now)
        for holder in mesh.ledger.active():
            name = holder.names.holder
            try:
                folder = self.store.folder_of(holder.folder)
                make_folder(folder)
                pair = fresh.get(name) or read_pair(folder)
                if self._deliver(mesh, holder, pair, now) and name not in fresh:
                    outcome.done.append(f"{name}: CAs and revocations updated")
            except ConfigError as error:
                outcome.failed.append(f"{name}: {error}")
            except OSError as error:
                outcome.failed.append(f"{name}: {holder.folder}: {error}")

    def _deliver(self, mesh: Mesh, holder: Holder, pair: Pair, now: datetime) -> bool:
        """Write a holder's files unless they are there already; whether something was written."""
        folder = self.store.folder_of(holder.folder)
        files = {
            CERTIFICATE: Content(pair.certificate_pem),
            KEY: Content(pair.key_pem, PRIVATE_FILE),
            BUNDLE: Content(mesh.bundle()),
            CRL: Content(mesh.crl_file()),
        }
        if all(_holds(folder / name, content.data) for name, content in files.items()):
            return False
        publish(folder, files, now)
        return True


def is_low(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether less than a third of a certificate's life is left."""
    return _is_low(certificate.not_valid_before_utc, certificate.not_valid_after_utc, now)


def _is_low(start: datetime, end: datetime, now: datetime) -> bool:
    return end - now < (end - start) * RENEWED_BELOW


def _holds(file: Path, data: bytes) -> bool:
    try:
        return read_regular(file) == data
    except ConfigError:
        return False  # publishing it again is the answer to whatever is wrong with it


def _issue(mesh: Mesh, name: str, now: datetime) -> tuple[Mesh, Pair]:
    """A new key and certificate for a holder, entered in the ledger."""
    holder, authority, key = mesh.ledger.holders[name], mesh.signing(now), new_key()
    if authority.certificate.not_valid_after_utc <= now:
        raise ConfigError(
            f"the CA has ended at {_at(authority.certificate.not_valid_after_utc)}; `rotate --ca --now`"
        )
    certificate = issue(
        authority, key.public_key(), holder.names, serial=new_serial(), now=now, life=holder.life
    )
    issued = Issued(
        serial=certificate.serial_number,
        authority=authority.serial,
        not_after=certificate.not_valid_after_utc,
    )
    pair = Pair(certificate=certificate, certificate_pem=pem(certificate), key_pem=key_pem(key))
    return evolve(mesh, ledger=mesh.ledger.with_issued(name, issued)), pair


def _with_new_authority(mesh: Mesh, now: datetime, signs_from: datetime) -> Mesh:
    """With one more CA, of the same name and life as the newest so far."""
    ledger = mesh.ledger
    newest = mesh.authorities[ledger.signers[-1].serial].certificate
    authority = make_authority(
        new_key(),
        name=ledger.name,
        trust_domain=ledger.trust_domain,
        serial=new_serial(),
        now=now,
        life=newest.not_valid_after_utc - newest.not_valid_before_utc - BACKDATED,
    )
    return _with_crls(
        evolve(
            mesh,
            ledger=evolve(ledger, signers=(*ledger.signers, _signer(authority, signs_from))),
            authorities={**mesh.authorities, authority.serial: authority},
        ),
        now,
    )


def _with_ledger(mesh: Mesh, ledger: Ledger) -> Mesh:
    """With this ledger, and without the authorities that it no longer names."""
    kept = {each.serial for each in ledger.signers}
    return Mesh(
        ledger=ledger,
        authorities={serial: each for serial, each in mesh.authorities.items() if serial in kept},
        crls={serial: each for serial, each in mesh.crls.items() if serial in kept},
    )


def _with_crls(mesh: Mesh, now: datetime, *, anew: bool = False) -> Mesh:
    """With lists that are missing or about to end made again; with ``anew`` all of them."""
    due = [
        each
        for each in mesh.ledger.signers
        if anew or each.serial not in mesh.crls or _ends_soon(mesh.crls[each.serial], now)
    ]
    if not due:
        return mesh
    ledger = evolve(mesh.ledger, crl_number=mesh.ledger.crl_number + 1)
    made = {
        each.serial: revocation_list(
            mesh.authorities[each.serial], ledger.revocations, number=ledger.crl_number, now=now
        )
        for each in due
    }
    return evolve(mesh, ledger=ledger, crls={**mesh.crls, **made})


def _ends_soon(crl: x509.CertificateRevocationList, now: datetime) -> bool:
    end = crl.next_update_utc
    return end is None or _is_low(end - CRL_LIFE, end, now)


def _signer(authority: Authority, signs_from: datetime) -> Signer:
    return Signer(
        serial=authority.serial,
        not_after=authority.certificate.not_valid_after_utc,
        signs_from=signs_from,
    )


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
