"""Issuing, renewing, exchanging the CA and revoking, on a clock of the test."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hostmesh.base.errors import ConfigError
from hostmesh.certs import publish
from hostmesh.certs.command import WATCH_S, watch
from hostmesh.certs.issuing import DEFAULT_LIFE, MIN_LIFE
from hostmesh.certs.show import rows
from hostmesh.certs.work import RENEWED_BELOW, Outcome
from tests.certs_world import CertsWorld, openssl_says
from tests.unit.certs.test_certs_publish import DyingOs, Killed

DUE = DEFAULT_LIFE * (1 - RENEWED_BELOW) + timedelta(minutes=10)


@pytest.fixture
def world(tmp_path: Path) -> CertsWorld:
    return CertsWorld(tmp_path / "ca").init()


def cas(file: Path) -> list[int]:
    return [each.serial_number for each in x509.load_pem_x509_certificates(file.read_bytes())]


def revoked(world: CertsWorld, holder: str) -> set[int]:
    end = b"-----END X509 CRL-----\n"
    parts = (world.folder(holder) / "crl.pem").read_bytes().split(end)
    lists = [x509.load_pem_x509_crl(part + end) for part in parts if part]
    return {each.serial_number for found in lists for each in found}


def problems(world: CertsWorld) -> list[str]:
    return [problem for row in rows(world.store, world.mesh(), world.time) for problem in row.problems]


def check(world: CertsWorld, holder: str) -> str:
    """What openssl says of a holder's own files."""
    folder = world.folder(holder)
    found = openssl_says(folder / "cert.pem", folder / "ca.pem", folder / "crl.pem", world.time, "sslserver")
    return found.removeprefix(f"{folder / 'cert.pem'}: ")


def test_init_refuses_to_replace_a_ca(world: CertsWorld) -> None:
    """A second init fails and leaves everything as it was."""
    before = world.mesh().ledger, world.mesh().bundle()

    with pytest.raises(ConfigError, match=f"{world.root}: holds a CA already"):
        world.init()

    assert (world.mesh().ledger, world.mesh().bundle()) == before


def test_init_refuses_a_directory_with_something_in_it(tmp_path: Path) -> None:
    """A CA does not move in with other files."""
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match="expected no directory or an empty one"):
        CertsWorld(tmp_path).init()


@pytest.mark.server("openssl")
def test_issued_files_are_a_pair_with_cas_and_list(world: CertsWorld) -> None:
    """Four files that OpenSSL is content with."""
    names, folder = world.work.issue("web")

    assert (names.dns, names.spiffe, folder) == (("web.mesh",), "spiffe://mesh/web", world.folder("web"))
    assert {"cert.pem", "key.pem", "ca.pem", "crl.pem"} < set(os.listdir(folder))
    assert check(world, "web") == "OK"
    assert world.pair("web").key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert problems(world) == []


def test_a_second_issue_needs_replace(world: CertsWorld) -> None:
    """Names are not lost by repeating a command with fewer options; with replace they change."""
    world.work.issue("web", dns=("www.example",))

    with pytest.raises(ConfigError, match="web: has a certificate already"):
        world.work.issue("web")
    names, _ = world.work.issue("web", dns=("other.example",), replace=True)

    assert names.dns == ("web.mesh", "other.example")


def test_replace_keeps_the_place(world: CertsWorld, tmp_path: Path) -> None:
    """Whoever gave an --out once need not repeat it."""
    world.work.issue("web", folder=str(tmp_path / "tls"))
    _, folder = world.work.issue("web", replace=True)

    assert folder == tmp_path / "tls"
    assert not world.folder("web").exists()


def test_two_holders_cannot_share_a_place(world: CertsWorld, tmp_path: Path) -> None:
    """They would replace each other's files at every renewal."""
    world.work.issue("web", folder=str(tmp_path / "tls"))

    with pytest.raises(ConfigError, match="tls: holds the files of web; expected another --out"):
        world.work.issue("users", folder=str(tmp_path / "tls"))


def test_a_place_with_other_files_is_refused_before_anything_is_issued(
    world: CertsWorld, tmp_path: Path
) -> None:
    """A key that came from elsewhere stays, and the ledger knows of no certificate."""
    place = tmp_path / "tls"
    place.mkdir()
    (place / "cert.pem").write_text("mine")

    with pytest.raises(ConfigError, match=r"cert.pem: expected nothing or a link"):
        world.work.issue("web", folder=str(place))

    assert dict(world.mesh().ledger.holders) == {}


def test_rotate_renews_when_less_than_a_third_is_left(world: CertsWorld) -> None:
    """Not before; then with a new key and serial number, for the same names and as long."""
    world.work.issue("web", dns=("www.example",))
    first = world.pair("web")

    world.later(days=4)
    assert world.work.rotate() == Outcome()
    world.time += DUE - timedelta(days=4)
    outcome = world.work.rotate()

    second = world.pair("web")
    assert outcome.done == ["web: renewed (less than a third of its life left)"]
    assert second.certificate.serial_number != first.certificate.serial_number
    assert second.certificate.public_key() != first.certificate.public_key()
    assert second.certificate.not_valid_after_utc == world.time + DEFAULT_LIFE
    names = [
        each.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        for each in (first, second)
    ]
    assert names[0] == names[1]


def test_rotate_mends_missing_spoilt_and_mismatched_files(world: CertsWorld) -> None:
    """Whatever happened to the files of a holder, rotate makes them whole; show said it before."""
    world.work.issue("gone")
    world.work.issue("spoilt")
    world.work.issue("mixed")
    world.work.issue("fine")
    before = world.serial("fine")
    os.unlink(world.folder("gone") / "key.pem")
    (world.folder("spoilt") / "cert.pem").resolve().write_text("nonsense")
    (world.folder("mixed") / "key.pem").resolve().write_bytes(world.pair("fine").key_pem)

    said = problems(world)
    outcome = world.work.rotate()

    assert len(said) == 3
    assert "gone/key.pem: cannot be read" in said[0]
    assert "mixed/key.pem: expected the key of" in said[1]
    assert "spoilt" in said[2]
    assert "expected a certificate in PEM" in said[2]
    assert [line.split(":")[0] for line in outcome.done] == ["gone", "mixed", "spoilt"]
    assert problems(world) == []
    assert world.serial("fine") == before


def test_one_holder_that_cannot_be_written_does_not_stop_the_others(
    world: CertsWorld, tmp_path: Path
) -> None:
    """Its failure is reported, everybody else is renewed, and it is tried again next time."""
    place = tmp_path / "tls"
    world.work.issue("a-broken", folder=str(place))
    world.work.issue("web")
    first = world.serial("web")
    place.rename(tmp_path / "away")
    place.write_text("a file in the way")

    outcome = world.work.rotate(everything=True)
    place.unlink()
    again = world.work.rotate()

    assert len(outcome.failed) == 1
    assert outcome.failed[0].startswith("a-broken: ")
    assert world.serial("web") != first
    assert (again.failed, [line.split(":")[0] for line in again.done]) == ([], ["a-broken"])


@pytest.mark.server("openssl")
def test_the_ca_is_exchanged_with_an_overlap(world: CertsWorld) -> None:
    """Trusted by all, then signing, then alone: at every moment every two holders trust each other."""
    world.work.issue("web")
    world.work.issue("users")
    old = world.mesh().ledger.signers[0].serial

    world.work.rotate_ca(overlap=timedelta(hours=24))
    new = world.mesh().ledger.signers[1].serial
    assert [cas(world.folder(name) / "ca.pem") for name in ("web", "users")] == [[old, new]] * 2
    assert (world.work.rotate().done, check(world, "web")) == ([], "OK")

    world.later(hours=24)
    outcome = world.work.rotate()
    assert outcome.done == ["users: renewed (new CA)", "web: renewed (new CA)"]
    assert cas(world.folder("web") / "ca.pem") == [old, new]
    assert check(world, "web") == "OK"

    world.later(days=5, hours=23)
    assert cas(world.folder("web") / "ca.pem") == [old, new]  # certificates of the old CA may still be in use
    world.later(hours=2)
    outcome = world.work.rotate()
    assert f"old CA {old:x}: removed" in outcome.done
    assert cas(world.folder("web") / "ca.pem") == cas(world.root / "ca.pem") == [new]
    assert (check(world, "web"), problems(world)) == ("OK", [])


def test_a_second_exchange_waits_for_the_first(world: CertsWorld) -> None:
    """While a CA is coming there cannot be another."""
    world.work.rotate_ca()

    with pytest.raises(
        ConfigError, match="a new CA is trusted already and signs from 2026-11-24 12:00 UTC on"
    ):
        world.work.rotate_ca()


@pytest.mark.server("openssl")
def test_a_stolen_ca_key_is_replaced_at_once(world: CertsWorld) -> None:
    """One new CA, everybody renewed, and what the old one signed is refused."""
    world.work.issue("web")
    old_leaf = world.folder("web") / "old.pem"
    old_leaf.write_bytes(world.pair("web").certificate_pem)

    world.work.replace_ca()

    folder = world.folder("web")
    assert len(cas(folder / "ca.pem")) == 1
    assert check(world, "web") == "OK"
    assert "unable to get local issuer" in openssl_says(
        old_leaf, folder / "ca.pem", None, world.time, "sslserver"
    )


@pytest.mark.server("openssl")
def test_revoked_holders_are_on_every_list_and_get_nothing_more(world: CertsWorld) -> None:
    """All serial numbers that have not ended, in the files of the others; a rotate leaves the revoked one alone."""
    world.work.issue("web")
    world.work.issue("thief")
    serials = {world.serial("thief")}
    world.work.rotate(everything=True)
    serials.add(world.serial("thief"))
    number = world.mesh().ledger.crl_number

    world.work.revoke(["thief"])
    world.work.rotate(everything=True)

    thief = world.folder("thief") / "cert.pem"
    web = world.folder("web")
    assert revoked(world, "web") == serials
    assert world.mesh().ledger.crl_number == number + 1
    assert world.serial("thief") in serials
    assert "certificate revoked" in openssl_says(
        thief, web / "ca.pem", web / "crl.pem", world.time, "sslclient"
    )


def test_a_revoked_holder_can_be_issued_again(world: CertsWorld) -> None:
    """A new certificate for the host that was cleaned; the old serial numbers stay revoked."""
    world.work.issue("web")
    old = world.serial("web")
    world.work.revoke(["web"])
    world.work.issue("web")

    assert revoked(world, "web") == {old}
    assert world.serial("web") != old
    assert world.work.rotate() == Outcome()


def test_revoking_the_unknown_or_the_revoked(world: CertsWorld) -> None:
    """The message says whom one can revoke, or when it was done."""
    world.work.issue("web")

    with pytest.raises(ConfigError, match=r"wbe: not known to .* expected one of web"):
        world.work.revoke(["wbe"])
    world.work.revoke(["web"])
    with pytest.raises(ConfigError, match="web: was revoked at 2026-11-23 12:00 UTC"):
        world.work.revoke(["web"])


@pytest.mark.server("openssl")
def test_revocation_lists_are_made_again_before_they_end(world: CertsWorld) -> None:
    """A verifier refuses everything once a list has ended: a quiet mesh must not stop after a month."""
    world.work.issue("web", life=timedelta(days=90))

    world.later(days=21)
    outcome = world.work.rotate()
    world.later(days=20)

    assert outcome.done == ["web: CAs and revocations updated"]
    assert check(world, "web") == "OK"


def test_a_ca_that_has_ended_issues_nothing(tmp_path: Path) -> None:
    """The message says what to do."""
    world = CertsWorld(tmp_path / "ca")
    world.work.init(trust_domain="mesh", name="test", life=timedelta(days=1))
    world.later(days=2)

    with pytest.raises(ConfigError, match=r"the CA has ended at 2026-11-24 12:00 UTC; .*--ca --now"):
        world.work.issue("web")


def test_a_ca_that_ends_soon_is_a_problem_until_the_next_one_is_there(tmp_path: Path) -> None:
    """A third of its life before the end; the exchange makes one that lives as long as the old one was meant to."""
    world = CertsWorld(tmp_path / "ca")
    world.work.init(trust_domain="mesh", name="test", life=timedelta(days=30))
    world.later(days=19)
    assert problems(world) == []

    world.later(days=2)
    world.work.rotate()
    assert problems(world) == ["ends soon; `hostmesh certs rotate --ca` begins its exchange"]
    world.work.rotate_ca()

    assert problems(world) == []
    assert world.mesh().ledger.signers[-1].not_after == world.time + timedelta(days=30)


def test_show_names_the_states_of_cas_and_revoked_holders(world: CertsWorld) -> None:
    """A CA signs, or is coming, or old; a revoked holder is shown as long as its certificates last."""
    world.work.issue("web")
    world.work.issue("thief")
    world.work.revoke(["thief"])
    world.work.rotate_ca()
    before = [row.name for row in rows(world.store, world.mesh(), world.time)]
    world.later(hours=25)
    world.work.rotate()
    after = [row.name for row in rows(world.store, world.mesh(), world.time)]
    world.later(days=7)
    world.work.rotate()

    assert before == ["CA (signs)", "CA (coming)", "thief (revoked)", "web"]
    assert after == ["CA (old)", "CA (signs)", "thief (revoked)", "web"]
    assert [row.name for row in rows(world.store, world.mesh(), world.time)] == ["CA (signs)", "web"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda folder: (folder / "ledger.json").write_text("{"), "ledger.json: found .* expected JSON"),
        (lambda folder: (folder / "ledger.json").unlink(), "ledger.json: cannot be read: No such file"),
        (
            lambda folder: (folder / "ledger.json").chmod(0o666),
            "ledger.json: expected a file that only its owner",
        ),
        (lambda folder: (folder / "crl.pem").write_text("x"), "crl.pem: found .* expected CRLs in PEM"),
        (
            lambda folder: next(folder.glob("ca-*-key.pem")).write_text("SECRET"),
            r"-key\.pem: expected an unencrypted private key in PEM$",
        ),
    ],
)
def test_a_spoilt_ca_is_refused_by_the_name_of_the_file(world: CertsWorld, spoil, why: str) -> None:  # type: ignore[no-untyped-def]
    """What is wrong and where; never what was in a key file."""
    spoil((world.root / "current").resolve())

    with pytest.raises(ConfigError, match=why):
        world.work.rotate()


def test_another_key_than_that_of_the_ca(world: CertsWorld) -> None:
    """A CA signs nothing with a key that does not belong to its certificate."""
    world.work.issue("web")
    key = next((world.root / "current").resolve().glob("ca-*-key.pem"))
    key.write_bytes(world.pair("web").key_pem)

    with pytest.raises(ConfigError, match=r"-key\.pem: expected the key of .* found another one"):
        world.work.rotate()


def test_killed_anywhere_in_a_rotate_everything_is_usable_and_the_next_one_finishes(
    world: CertsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of the disk: every holder has a pair, its CA is in its bundle, and nothing unknown was issued."""
    for name in ("users", "web"):
        world.work.issue(name)
    step, survived = 0, False
    while not survived:
        step += 1
        with monkeypatch.context() as patch:
            patch.setattr(publish, "os", DyingOs(step))
            try:
                world.work.rotate(everything=True)
                survived = True
            except Killed:
                pass
        known = {each.serial for holder in world.mesh().ledger.active() for each in holder.certificates}
        for name in ("users", "web"):
            certificate = world.pair(name).certificate
            assert certificate.serial_number in known, step
            assert certificate.extensions
        world.work.rotate()
        assert problems(world) == [], step
        assert world.work.rotate() == Outcome(), step
    assert step > 30


def test_killed_anywhere_in_init_it_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leftovers of an init that did not finish are no CA; one that did is kept."""
    root = tmp_path / "ca"
    for step in range(1, 100):
        with monkeypatch.context() as patch:
            patch.setattr(publish, "os", DyingOs(step))
            try:
                CertsWorld(root).init()
                break
            except (Killed, ConfigError):
                pass
        if (root / "current").exists():
            break

    world = CertsWorld(root)
    world.work.issue("web")
    assert problems(world) == []


def test_watch_renews_again_and_again_without_a_gap(world: CertsWorld) -> None:
    """A month of five-minute looks in virtual time: at each one a valid certificate with a tenth of its life left."""
    world.work.issue("web", life=MIN_LIFE)
    serials, said, warned = set(), [], []
    looks = 0

    def wait(seconds: float) -> bool:
        nonlocal looks
        looks += 1
        assert seconds == WATCH_S
        certificate = world.pair("web").certificate
        serials.add(certificate.serial_number)
        assert certificate.not_valid_after_utc - world.time > MIN_LIFE / 10
        world.time += timedelta(seconds=seconds)
        return looks < 200

    assert watch(world.work.rotate, wait, say=said.append, warn=warned.append) == 0
    assert len(serials) == len(said) + 1 > 15
    assert warned == []


def test_watch_survives_trouble_and_says_it(world: CertsWorld) -> None:
    """A CA that cannot be read is reported at each look, and work goes on when it can be again."""
    world.work.issue("web")
    world.time += DUE
    link = world.root / "current"
    warned: list[str] = []
    said: list[str] = []
    looks = 0

    def wait(_seconds: float) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            (world.root / "hidden").rename(link)
        return looks < 3

    link.rename(world.root / "hidden")
    watch(world.work.rotate, wait, say=said.append, warn=warned.append)

    assert len(warned) == 2
    assert "expected the directory of a CA" in warned[0]
    assert said == ["web: renewed (less than a third of its life left)"]
