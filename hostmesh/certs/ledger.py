"""What a mesh CA remembers: who signs from when, what was issued to whom, what is revoked.

A value: every change makes a new one, and a file is written from it as a whole (:mod:`hostmesh.certs.store`).
A serial number is in the ledger before its certificate is anywhere else, so that whatever there is can be revoked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from attrs import Factory, evolve, frozen

from hostmesh.base.errors import ConfigError
from hostmesh.certs.issuing import Revocation
from hostmesh.certs.names import Names


@frozen(kw_only=True)
class Signer:
    """A CA of the bundle. It is trusted from the moment it is there and signs from ``signs_from`` on."""

    serial: int
    not_after: datetime
    signs_from: datetime


@frozen(kw_only=True)
class Issued:
    """A certificate that was issued and has not ended."""

    serial: int
    authority: int
    not_after: datetime


@frozen(kw_only=True)
class Holder:
    """Who gets certificates, for which names and how long, and where their files go."""

    names: Names
    life: timedelta
    folder: str
    """An absolute path, or one below the directory of the CA."""
    certificates: tuple[Issued, ...] = ()
    """Newest last."""
    revoked_at: datetime | None = None
    """A revoked holder gets nothing any more, and is forgotten when its certificates have ended."""


@frozen(kw_only=True)
class Ledger:
    """All of it."""

    trust_domain: str
    name: str
    signers: tuple[Signer, ...]
    """Oldest first."""
    holders: Mapping[str, Holder] = Factory(dict)
    revocations: tuple[Revocation, ...] = ()
    crl_number: int = 0

    def signer(self, now: datetime) -> Signer:
        """The newest CA that may sign now."""
        ready = [signer for signer in self.signers if signer.signs_from <= now]
        # None is ready only when the clock went back behind the first one.
        return ready[-1] if ready else self.signers[0]

    def coming(self, now: datetime) -> Signer | None:
        """The CA that is trusted already and does not sign yet."""
        newest = self.signers[-1]
        return newest if newest is not self.signer(now) else None

    def active(self) -> list[Holder]:
        """Holders that get certificates, by name."""
        return [self.holders[name] for name in sorted(self.holders) if self.holders[name].revoked_at is None]

    def with_holder(self, holder: Holder) -> Ledger:
        """With this holder instead of what was there of its name."""
        return evolve(self, holders={**self.holders, holder.names.holder: holder})

    def with_issued(self, name: str, issued: Issued) -> Ledger:
        """With one more certificate of a holder."""
        holder = self.holders[name]
        return self.with_holder(evolve(holder, certificates=(*holder.certificates, issued)))

    def with_revoked(self, name: str, now: datetime) -> Ledger:
        """With all certificates of a holder revoked: any of its keys may be the one that was stolen."""
        holder = self.holders[name]
        known = {revocation.serial for revocation in self.revocations}
        more = tuple(
            Revocation(serial=issued.serial, authority=issued.authority, at=now, not_after=issued.not_after)
            for issued in holder.certificates
            if issued.serial not in known
        )
        ledger = self.with_holder(evolve(holder, revoked_at=now))
        return evolve(ledger, revocations=(*self.revocations, *more))

    def without_ended(self, now: datetime) -> Ledger:
        """Without what time has settled: ended certificates, their revocations, and CAs that nobody needs.

        A CA goes when a newer one signs and the last certificate of the old one has ended: not earlier, since a host
        may have got its new files late.
        """
        holders = {
            name: evolve(
                holder, certificates=tuple(each for each in holder.certificates if each.not_after > now)
            )
            for name, holder in self.holders.items()
        }
        holders = {
            name: holder
            for name, holder in holders.items()
            if holder.certificates or holder.revoked_at is None
        }
        needed = {each.authority for holder in holders.values() for each in holder.certificates}
        signing = self.signers.index(self.signer(now))
        signers = tuple(
            signer for at, signer in enumerate(self.signers) if at >= signing or signer.serial in needed
        )
        return evolve(
            self,
            holders=holders,
            signers=signers,
            revocations=tuple(
                each
                for each in self.revocations
                if each.not_after > now and any(each.authority == signer.serial for signer in signers)
            ),
        )

    def only_newest_signer(self) -> Ledger:
        """With one CA, as if there had never been another."""
        newest = self.signers[-1]
        holders = {
            name: evolve(
                holder,
                certificates=tuple(each for each in holder.certificates if each.authority == newest.serial),
            )
            for name, holder in self.holders.items()
            if holder.revoked_at is None
        }
        return evolve(self, signers=(newest,), holders=holders, revocations=())


# As JSON.

VERSION = 1


def to_json(ledger: Ledger) -> dict[str, object]:
    """What :func:`from_json` reads."""
    return {
        "version": VERSION,
        "trustDomain": ledger.trust_domain,
        "name": ledger.name,
        "crlNumber": ledger.crl_number,
        "signers": [
            {
                "serial": f"{signer.serial:x}",
                "notAfter": signer.not_after.isoformat(),
                "signsFrom": signer.signs_from.isoformat(),
            }
            for signer in ledger.signers
        ],
        "holders": {name: _holder_json(holder) for name, holder in sorted(ledger.holders.items())},
        "revocations": [
            {
                "serial": f"{each.serial:x}",
                "authority": f"{each.authority:x}",
                "at": each.at.isoformat(),
                "notAfter": each.not_after.isoformat(),
            }
            for each in ledger.revocations
        ],
    }


def _holder_json(holder: Holder) -> dict[str, object]:
    return {
        "dns": list(holder.names.dns),
        "spiffe": holder.names.spiffe,
        "ips": list(holder.names.ips),
        "lifeS": int(holder.life.total_seconds()),
        "folder": holder.folder,
        "revokedAt": holder.revoked_at.isoformat() if holder.revoked_at is not None else None,
        "certificates": [
            {
                "serial": f"{each.serial:x}",
                "authority": f"{each.authority:x}",
                "notAfter": each.not_after.isoformat(),
            }
            for each in holder.certificates
        ],
    }


def from_json(file: str, page: object) -> Ledger:
    """The ledger that :func:`to_json` wrote. ConfigError naming ``file`` for anything else."""
    try:
        found = _Json(page)
        if found["version"].value != VERSION:
            raise ValueError(f"version {found['version'].value!r}")
        ledger = Ledger(
            trust_domain=found["trustDomain"].text(),
            name=found["name"].text(),
            crl_number=found["crlNumber"].whole(),
            signers=tuple(
                Signer(
                    serial=each["serial"].hex(),
                    not_after=each["notAfter"].time(),
                    signs_from=each["signsFrom"].time(),
                )
                for each in found["signers"].items()
            ),
            holders={name: _read_holder(name, each) for name, each in found["holders"].entries()},
            revocations=tuple(
                Revocation(
                    serial=each["serial"].hex(),
                    authority=each["authority"].hex(),
                    at=each["at"].time(),
                    not_after=each["notAfter"].time(),
                )
                for each in found["revocations"].items()
            ),
        )
        if not ledger.signers:
            raise ValueError("no signers")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}: found {error}, expected a ledger (version {VERSION}) as hostmesh certs writes it"
        ) from error
    return ledger


def _read_holder(name: str, each: _Json) -> Holder:
    return Holder(
        names=Names(
            holder=name,
            dns=tuple(item.text() for item in each["dns"].items()),
            spiffe=each["spiffe"].text(),
            ips=tuple(item.text() for item in each["ips"].items()),
        ),
        life=timedelta(seconds=each["lifeS"].whole()),
        folder=each["folder"].text(),
        revoked_at=each["revokedAt"].time() if each["revokedAt"].value is not None else None,
        certificates=tuple(
            Issued(
                serial=item["serial"].hex(),
                authority=item["authority"].hex(),
                not_after=item["notAfter"].time(),
            )
            for item in each["certificates"].items()
        ),
    )


@frozen
class _Json:
    """A parsed JSON value, read as what it ought to be; ValueError, KeyError or TypeError if it is not."""

    value: object

    def __getitem__(self, key: str) -> _Json:
        return _Json(self._dictionary()[key])

    def _dictionary(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise TypeError(f"{self.value!r} for an object")
        return self.value

    def entries(self) -> Iterable[tuple[str, _Json]]:
        return [(key, _Json(value)) for key, value in self._dictionary().items()]

    def items(self) -> Iterable[_Json]:
        if not isinstance(self.value, list):
            raise TypeError(f"{self.value!r} for a list")
        return [_Json(each) for each in self.value]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise TypeError(f"{self.value!r} for a text")
        return self.value

    def whole(self) -> int:
        if not isinstance(self.value, int):
            raise TypeError(f"{self.value!r} for a number")
        return self.value

    def hex(self) -> int:
        return int(self.text(), 16)

    def time(self) -> datetime:
        at = datetime.fromisoformat(self.text())
        if at.tzinfo is None:
            raise ValueError(f"{self.value!r} without a time zone")
        return at
