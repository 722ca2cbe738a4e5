"""``hostmesh certs show``: what there is, how long it lasts, and what is wrong with it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509

from hostmesh.base.errors import ConfigError
from hostmesh.certs.issuing import Authority
from hostmesh.certs.ledger import Holder
from hostmesh.certs.publish import CURRENT, read_regular
from hostmesh.certs.store import BUNDLE, CRL, KEY, Mesh, Store, key_file, read_pair
from hostmesh.certs.work import is_low

CA_WARNED: Final = timedelta(days=180)
"""Before the end of a CA, or a third of its life if that is less: an exchange takes days, and has to be planned."""


@frozen(kw_only=True)
class Row:
    """One certificate."""

    name: str
    is_ca: bool
    serial: int | None
    """None: nothing was issued, or it has ended."""
    not_after: datetime | None
    issuer: str
    key_path: str
    key_mode: int | None
    key_owner: str
    names: tuple[str, ...]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "isCa": self.is_ca,
            "serial": f"{self.serial:x}" if self.serial is not None else None,
            "notAfter": self.not_after.isoformat() if self.not_after is not None else None,
            "issuer": self.issuer,
            "keyPath": self.key_path,
            "keyMode": f"{self.key_mode:04o}" if self.key_mode is not None else None,
            "keyOwner": self.key_owner,
            "names": list(self.names),
            "problems": list(self.problems),
        }


def rows(store: Store, mesh: Mesh, now: datetime) -> list[Row]:
    """The CAs, oldest first, then the holders by name."""
    found = [_ca(store, mesh, mesh.authorities[each.serial], now) for each in mesh.ledger.signers]
    return found + [
        _leaf(store, mesh, mesh.ledger.holders[name], now) for name in sorted(mesh.ledger.holders)
    ]


def table(found: list[Row], now: datetime) -> str:
    """For people: one line per certificate, and one more for each of its problems."""
    lines = [("NAME", "EXPIRES (UTC)", "LEFT", "ISSUER", "KEY", "SERIAL")]
    for row in found:
        end = row.not_after
        mode = f"{row.key_mode:04o} {row.key_owner}" if row.key_mode is not None else "-"
        lines.append(
            (
                row.name,
                f"{end:%Y-%m-%d %H:%M}" if end is not None else "?",
                left(end - now) if end is not None else "?",
                row.issuer,
                mode,
                f"{row.serial:x}" if row.serial is not None else "?",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    out = []
    for at, line in enumerate(lines):
        out.append("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
        if at:
            out += [f"  ! {problem}" for problem in found[at - 1].problems]
    return "\n".join(out) + "\n"


def left(rest: timedelta) -> str:
    """A rest of life in its two largest units."""
    if rest <= timedelta():
        return "none"
    hours, minutes = divmod(int(rest.total_seconds()) // 60, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"


def _ca(store: Store, mesh: Mesh, authority: Authority, now: datetime) -> Row:
    certificate = authority.certificate
    path = store.root / CURRENT / key_file(authority.serial)
    problems = [*_exposed(path), *_exposed(store.root)]
    if certificate.not_valid_after_utc <= now:
        problems.append("has ended")
    elif (
        authority.serial == mesh.ledger.signers[-1].serial
        and certificate.not_valid_after_utc - now < CA_WARNED
        and is_low(certificate, now)
    ):
        problems.append("ends soon; `hostmesh certs rotate --ca` begins its exchange")
    crl = mesh.crls.get(authority.serial)
    if crl is None or crl.next_update_utc is None or crl.next_update_utc <= now:
        problems.append(
            "its revocation list has ended or is missing; `hostmesh certs rotate` makes a new one"
        )
    coming = mesh.ledger.coming(now)
    if authority is mesh.signing(now):
        state = "signs"
    else:
        state = "coming" if coming is not None and authority.serial == coming.serial else "old"
    return _row(f"CA ({state})", certificate, path, _own_names(certificate), problems, is_ca=True)


def _leaf(store: Store, mesh: Mesh, holder: Holder, now: datetime) -> Row:
    folder = store.folder_of(holder.folder)
    names = (*holder.names.dns, holder.names.spiffe, *holder.names.ips)
    name = holder.names.holder
    last = holder.certificates[-1] if holder.certificates else None
    if holder.revoked_at is not None:
        return Row(
            name=f"{name} (revoked)",
            is_ca=False,
            serial=last.serial if last is not None else None,
            not_after=last.not_after if last is not None else None,
            issuer="",
            key_path=str(folder / KEY),
            key_mode=None,
            key_owner="",
            names=names,
            problems=(),
        )
    try:
        found = read_pair(folder).certificate
    except ConfigError as error:
        return Row(
            name=name,
            is_ca=False,
            serial=last.serial if last is not None else None,
            not_after=None,
            issuer="?",
            key_path=str(folder / KEY),
            key_mode=_mode(folder / KEY),
            key_owner=_owner(folder / KEY),
            names=names,
            problems=(f"{error}; `hostmesh certs rotate` makes a new one",),
        )
    problems = _exposed(folder / KEY)
    if found.not_valid_after_utc <= now:
        problems.append("has ended; `hostmesh certs rotate` makes a new one")
    elif is_low(found, now):
        problems.append("less than a third of its life left; does `hostmesh certs rotate` run?")
    if last is None or found.serial_number != last.serial:
        problems.append("is not the last one issued; `hostmesh certs rotate` makes a new one")
    for file, data in ((BUNDLE, mesh.bundle()), (CRL, mesh.crl_file())):
        if not _holds(folder / file, data):
            problems.append(f"{folder / file}: not up to date; `hostmesh certs rotate` writes it")
    return _row(name, found, folder / KEY, names, problems, is_ca=False)


def _row(
    name: str,
    certificate: x509.Certificate,
    key: Path,
    names: tuple[str, ...],
    problems: Iterable[str],
    *,
    is_ca: bool,
) -> Row:
    return Row(
        name=name,
        is_ca=is_ca,
        serial=certificate.serial_number,
        not_after=certificate.not_valid_after_utc,
        issuer=_common_name(certificate.issuer),
        key_path=str(key),
        key_mode=_mode(key),
        key_owner=_owner(key),
        names=names,
        problems=tuple(problems),
    )


def _own_names(certificate: x509.Certificate) -> tuple[str, ...]:
    return (certificate.subject.rfc4514_string(),)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _exposed(path: Path) -> list[str]:
    mode = _mode(path)
    if mode is None or not mode & 0o077:
        return []
    expected = "0700" if path.is_dir() else "0600"
    return [f"{path}: mode {mode:04o}, expected {expected}: others can get at the key; chmod go= it"]


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode & 0o7777
    except OSError:
        return None


def _owner(path: Path) -> str:
    try:
        uid = path.stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _holds(file: Path, data: bytes) -> bool:
    try:
        return read_regular(file) == data
    except ConfigError:
        return False


def folder_problem(path: Path) -> str | None:
    """What is wrong with who may enter a directory of keys; None if nothing is."""
    found = _exposed(path)
    return found[0] if found and os.path.isdir(path) else None
