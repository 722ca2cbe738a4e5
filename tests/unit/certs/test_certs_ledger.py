"""What a CA remembers, and what it may forget."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from attrs import evolve

from hostmesh.base.errors import ConfigError
from hostmesh.certs.issuing import Revocation
from hostmesh.certs.ledger import Holder, Issued, Ledger, Signer, from_json, to_json
from hostmesh.certs.names import names_of
from tests.certs_world import NOON

DAY = timedelta(days=1)
OLD = Signer(serial=1, not_after=NOON + 1000 * DAY, signs_from=NOON)
NEW = Signer(serial=2, not_after=NOON + 2000 * DAY, signs_from=NOON + DAY)


def ledger_of(*certificates: Issued) -> Ledger:
    holder = Holder(
        names=names_of("web", "mesh"), life=7 * DAY, folder="issued/web", certificates=certificates
    )
    return Ledger(trust_domain="mesh", name="test", signers=(OLD, NEW), holders={"web": holder})


def certificate(serial: int, authority: int = 1, days: int = 7) -> Issued:
    return Issued(serial=serial, authority=authority, not_after=NOON + days * DAY)


def test_the_new_ca_signs_when_its_time_has_come() -> None:
    """Trusted from the start, signing later."""
    ledger = ledger_of()

    assert (ledger.signer(NOON), ledger.coming(NOON)) == (OLD, NEW)
    assert (ledger.signer(NOON + DAY), ledger.coming(NOON + DAY)) == (NEW, None)


def test_a_clock_that_went_back_still_has_a_signer() -> None:
    """Before the first CA signed, the first one does."""
    assert ledger_of().signer(NOON - DAY) == OLD


def test_the_old_ca_stays_until_its_last_certificate_has_ended() -> None:
    """Not when the new one signs, and not when the holder was renewed: it may not have its new files yet."""
    ledger = ledger_of(certificate(10, authority=1, days=7), certificate(11, authority=2, days=8))

    assert ledger.without_ended(NOON + 6 * DAY).signers == (OLD, NEW)
    assert ledger.without_ended(NOON + 7 * DAY).signers == (NEW,)


def test_a_coming_ca_is_not_forgotten() -> None:
    """Nothing was issued by it yet, and it stays."""
    assert ledger_of().without_ended(NOON).signers == (OLD, NEW)


def test_revoking_means_every_certificate_that_has_not_ended() -> None:
    """Also those that were replaced: whose key was stolen is not known. Twice is as once."""
    ledger = ledger_of(certificate(10), certificate(11)).with_revoked("web", NOON)

    assert [each.serial for each in ledger.revocations] == [10, 11]
    assert ledger.active() == []
    assert ledger.with_revoked("web", NOON).revocations == ledger.revocations


def test_revocations_and_revoked_holders_go_when_the_certificates_have_ended() -> None:
    """Lists would grow for ever otherwise."""
    ledger = ledger_of(certificate(10)).with_revoked("web", NOON)

    before, after = ledger.without_ended(NOON + 6 * DAY), ledger.without_ended(NOON + 7 * DAY)

    assert (len(before.revocations), list(before.holders)) == (1, ["web"])
    assert (len(after.revocations), list(after.holders)) == (0, [])


def test_a_holder_without_certificates_is_kept() -> None:
    """A machine that was off for a month is renewed when it is back."""
    assert list(ledger_of(certificate(10)).without_ended(NOON + 99 * DAY).holders) == ["web"]


def test_only_the_newest_signer() -> None:
    """What other CAs issued or revoked does not count any more."""
    ledger = ledger_of(certificate(10, authority=1), certificate(11, authority=2)).only_newest_signer()

    assert ledger.signers == (NEW,)
    assert [each.serial for each in ledger.holders["web"].certificates] == [11]


def test_json_and_back() -> None:
    """Everything survives the file."""
    ledger = evolve(
        ledger_of(certificate(10), certificate(11)).with_revoked("web", NOON),
        crl_number=7,
        revocations=(Revocation(serial=1 << 126, authority=1, at=NOON, not_after=NOON + DAY),),
    )

    assert from_json("ledger.json", json.loads(json.dumps(to_json(ledger)))) == ledger


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"signers": []},
        {"signers": [{"serial": "zz", "notAfter": NOON.isoformat(), "signsFrom": NOON.isoformat()}]},
        {"signers": [{"serial": "1", "notAfter": "2026-11-23T12:00:00", "signsFrom": NOON.isoformat()}]},
        {"holders": []},
        {"holders": {"web": {}}},
        {"crlNumber": "7"},
        {"name": None},
    ],
    ids=lambda change: json.dumps(change)[:30],
)
def test_a_spoilt_ledger_is_refused_by_its_file(change: dict[str, object]) -> None:
    """Whatever is wrong, the message names the file."""
    page = {**to_json(ledger_of()), **change}

    with pytest.raises(ConfigError, match=r"^ca/ledger\.json: found .* expected a ledger"):
        from_json("ca/ledger.json", page)


@pytest.mark.parametrize("page", [None, [], "ledger", 7])
def test_a_file_of_something_else_is_refused(page: object) -> None:
    """JSON that is no object at all."""
    with pytest.raises(ConfigError, match="expected a ledger"):
        from_json("ledger.json", page)
