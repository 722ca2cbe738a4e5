"""Files of one credential, by hand: what is believed, kept, told, and when. The clock and the file watch are set."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from typing import Any

import pytest

from hostmesh.base.var import PENDING, Turn, Var
from hostmesh.daemon.pem_content import DAY_S, duration, read_pair, read_trust
from hostmesh.daemon.pem_files import SETTLE_S, PemFiles, Watching
from hostmesh.protocol.tls.credentials import CredentialError
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.walk import Directory, File, Found, Missing, Unreadable
from tests.tls_making import Authority, Leaf, key_pem, pem

CA = Authority("mesh CA")
OLD, NEW = CA.leaf("web.mesh"), CA.leaf("web.mesh")


class SetEnv:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC).timestamp()

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def rng(self, name: str) -> Any:
        raise NotImplementedError


class SetPath:
    """A watched path whose content is set by hand."""

    def __init__(self, turn: Turn) -> None:
        self.var: Var[Any] = Var(turn, PENDING)


class Desk:
    """Files on disk for the first look, and a watch that says what tests say."""

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.turn = Turn()
        self.env = SetEnv()
        self.alarms = Alarms(self.env)
        self.paths: dict[str, SetPath] = {}
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        self.watching = Watching(
            turn=self.turn,
            env=self.env,
            alarms=self.alarms,
            files=self,  # type: ignore[arg-type]
            report=self._say("report"),
            warn=self._say("warn"),
            alarm=self._say("alarm"),
        )

    def _say(self, level: str) -> Any:
        def say(event: str, facts: Mapping[str, object]) -> None:
            self.told.append((level, event, dict(facts)))

        return say

    def watch(self, path: str, *, max_bytes: int) -> Any:
        return self.paths.setdefault(path, SetPath(self.turn))

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(0o600)
        return str(path)

    def pair(self, leaf: Leaf = OLD) -> PemFiles[Any]:
        cert, key = self.write("c", leaf.cert_pem), self.write("k", leaf.key_pem)
        return PemFiles(self.watching, [cert, key], read_pair(cert, key, None))

    def says(self, **content: bytes | Found) -> None:
        """The watch has looked at these files."""
        for name, what in content.items():
            state = File(what.decode()) if isinstance(what, bytes) else what
            self.paths[self.path(name)].var.set(state)
        self.turn.run()

    def after(self, seconds: float) -> None:
        self.env.time += seconds
        self.alarms.ring()
        self.turn.run()

    def levels(self) -> list[str]:
        return [f"{level} {event}" for level, event, _facts in self.told]


@pytest.fixture
def desk(tmp_path: FilePath) -> Desk:
    return Desk(tmp_path)


def test_files_are_read_before_they_are_watched(desk: Desk) -> None:
    """A configuration that cannot work is refused when it is applied."""
    assert desk.pair().value.value.serial == OLD.serial
    with pytest.raises(CredentialError, match="expected a file, found nothing at"):
        PemFiles(desk.watching, [desk.path("no")], read_pair(desk.path("no"), desk.path("no"), None))
    with pytest.raises(CredentialError, match="expected a file, found a directory"):
        PemFiles(desk.watching, [str(desk.folder)], read_pair(str(desk.folder), desk.path("k"), None))


def test_a_new_pair_is_one_change(desk: Desk) -> None:
    """Also if both files are looked at one after the other in one turn; the log says which serial is in use."""
    pair = desk.pair()
    seen = []
    pair.observe(lambda content: seen.append(content.value.serial))
    desk.says(c=OLD.cert_pem, k=OLD.key_pem)

    desk.says(c=NEW.cert_pem, k=NEW.key_pem)

    assert seen == [NEW.serial]
    assert desk.levels() == ["report tls.reloaded"]
    assert f"{NEW.serial:x}" in str(desk.told)
    assert (pair.reloads, pair.failures, pair.trouble) == (1, 0, None)


@pytest.mark.parametrize("first", ["c", "k"])
def test_x4_half_a_pair_is_waited_for(desk: Desk, first: str) -> None:
    """Key first or certificate first: nothing is said if the other one comes before the settle time is over."""
    pair = desk.pair()
    pair.observe(lambda content: None)
    desk.says(c=OLD.cert_pem, k=OLD.key_pem)
    new = {"c": NEW.cert_pem, "k": NEW.key_pem}

    desk.says(**{first: new.pop(first)})
    desk.after(SETTLE_S * 0.9)
    assert (pair.value.value.serial, pair.trouble) == (OLD.serial, None)
    desk.says(**new)
    desk.after(SETTLE_S)

    assert pair.value.value.serial == NEW.serial
    assert desk.levels() == ["report tls.reloaded"]


def test_x4_a_mismatched_key_is_an_alarm_until_it_is_good_again(desk: Desk) -> None:
    """The old pair stays; the log names the file once, and once more when it is over."""
    pair = desk.pair()
    pair.observe(lambda content: None)

    desk.says(c=OLD.cert_pem, k=NEW.key_pem)
    desk.after(SETTLE_S)
    desk.after(60)

    assert pair.value.value.serial == OLD.serial
    assert pair.trouble == pair.alarm
    assert pair.alarm is not None
    assert pair.alarm.startswith(f"{desk.path('k')}: this is not the key of the certificate in")
    assert desk.levels() == ["alarm tls.old_kept"]
    assert f"serial {OLD.serial:x}" in desk.told[0][2]["kept"][0]
    desk.says(k=OLD.key_pem)
    assert pair.trouble is None
    assert desk.levels() == ["alarm tls.old_kept", "report tls.good_again"]
    assert (pair.reloads, pair.failures) == (0, 1)


@pytest.mark.parametrize(
    "found",
    [
        b"",
        NEW.cert_pem[:300],
        Missing("/etc/web"),
        Unreadable("c: Permission denied", True),
        Directory(),
        CA.leaf("web.mesh", days=-1, key=NEW.key).cert_pem,
        CA.leaf("web.mesh", not_before=datetime.now(UTC) + timedelta(hours=1), key=NEW.key).cert_pem,
    ],
    ids=["empty", "half", "missing", "unreadable", "directory", "expired", "not yet valid"],
)
def test_x4_what_cannot_be_used_changes_nothing(desk: Desk, found: bytes | Found) -> None:
    """Each of them is an alarm after the settle time, and forgotten when the files are good."""
    pair = desk.pair()
    pair.observe(lambda content: None)
    desk.says(c=OLD.cert_pem, k=OLD.key_pem)

    desk.says(c=found, k=NEW.key_pem)
    assert pair.trouble is None
    desk.after(SETTLE_S)
    assert (pair.value.value.serial, pair.alarm is None) == (OLD.serial, False)
    desk.says(c=NEW.cert_pem)

    assert (pair.value.value.serial, pair.trouble) == (NEW.serial, None)
    assert desk.levels() == ["alarm tls.old_kept", "report tls.good_again", "report tls.reloaded"]


def test_x4_one_mistake_after_another_is_told_each_time(desk: Desk) -> None:
    """Whoever repairs files sees what is left to do, without waiting again."""
    pair = desk.pair()
    pair.observe(lambda content: None)

    desk.says(c=Missing(desk.path("c")), k=OLD.key_pem)
    desk.after(SETTLE_S)
    desk.says(c=NEW.cert_pem)

    causes = [facts["cause"] for level, _event, facts in desk.told if level == "alarm"]
    assert len(causes) == 2
    assert "found nothing" in causes[0]
    assert "not the key" in causes[1]


def test_a_certificate_that_becomes_valid_is_taken_then(desk: Desk) -> None:
    """No event says so; the clock does."""
    pair = desk.pair()
    pair.observe(lambda content: None)
    soon = CA.leaf("web.mesh", not_before=datetime.now(UTC) + timedelta(hours=1))
    desk.says(c=soon.cert_pem, k=soon.key_pem)
    desk.after(SETTLE_S)

    desk.after(3600)
    pair.check()
    desk.turn.run()

    assert (pair.value.value.serial, pair.trouble) == (soon.serial, None)


def test_x4_when_nothing_good_is_left_the_newest_is_taken(desk: Desk) -> None:
    """An expired certificate is not kept instead of another expired one: the newer one says more in the log."""
    first = CA.leaf("web.mesh", days=-1)
    second = CA.leaf("web.mesh", days=-0.5)
    pair = desk.pair(first)
    pair.observe(lambda content: None)

    desk.says(c=second.cert_pem, k=second.key_pem)

    assert pair.value.value.serial == second.serial
    assert pair.trouble is not None
    assert "web.mesh has expired on" in pair.trouble
    assert desk.levels() == ["alarm tls.unusable", "report tls.reloaded", "alarm tls.unusable"]


def test_touching_a_file_changes_nothing(desk: Desk) -> None:
    """Sessions may go on to be resumed: new contexts would end that."""
    pair = desk.pair()
    seen: list[object] = []
    pair.observe(seen.append)

    desk.says(c=b"# written again\n" + OLD.cert_pem, k=OLD.key_pem)

    assert (seen, pair.reloads) == ([], 0)


def test_a_warning_at_a_fifth_of_life_and_an_alarm_at_its_end(desk: Desk) -> None:
    """Once each, however often the clock is looked at."""
    pair = desk.pair(CA.leaf("web.mesh", days=10))
    pair.observe(lambda content: None)

    for _day in range(12):
        pair.check()
        pair.check()
        desk.after(DAY_S)

    assert desk.levels() == ["warn tls.expires_soon", "alarm tls.unusable"]
    assert "web.mesh ends in 4" in desk.told[0][2]["cause"]


def test_a_new_certificate_ends_the_warning(desk: Desk) -> None:
    """And its own fifth is warned about again."""
    pair = desk.pair(CA.leaf("web.mesh", days=10))
    pair.observe(lambda content: None)
    desk.after(9 * DAY_S)
    pair.check()
    assert len(pair.notes()) == 1

    desk.says(c=NEW.cert_pem, k=NEW.key_pem)
    assert pair.notes() == []
    desk.after(18 * DAY_S)
    pair.check()

    assert desk.levels() == ["warn tls.expires_soon", "report tls.reloaded", "warn tls.expires_soon"]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_x4_a_key_that_others_may_read_is_warned_about(desk: Desk, mode: int, warned: bool) -> None:
    """Once, and on the page for as long as it is so."""
    cert, key = desk.write("c", OLD.cert_pem), desk.write("k", OLD.key_pem)
    FilePath(key).chmod(mode)
    pair = PemFiles(desk.watching, [cert, key], read_pair(cert, key, None))
    pair.observe(lambda content: None)
    pair.check()

    assert desk.levels() == (["warn tls.note"] if warned else [])
    assert bool(pair.notes()) is warned
    if warned:
        assert f"k: this private key has mode {mode:04o}, expected 0600" in pair.notes()[0]


def test_a_ca_is_warned_about_in_its_last_month(desk: Desk) -> None:
    """A fifth of ten years would be two years of warnings; a CA that has expired beside another is no alarm."""
    ending, gone = Authority("ending CA", days=25), Authority("old CA", days=-1)
    ca = desk.write("ca", CA.pem + ending.pem + gone.pem)
    trust = PemFiles(desk.watching, [ca], read_trust([ca], None))
    trust.observe(lambda content: None)

    assert trust.trouble is None
    assert desk.levels() == ["warn tls.unusable"]
    desk.after(21 * DAY_S)
    trust.check()
    assert desk.levels() == ["warn tls.unusable", "warn tls.expires_soon"]
    desk.after(3650 * DAY_S)
    assert trust.trouble is not None


def test_a_revocation_list_that_ends_or_is_missing(desk: Desk) -> None:
    """Without a list OpenSSL refuses everything that its CA has signed, and with an expired one as well."""
    other = Authority("other CA")
    ca, crl = desk.write("ca", CA.pem + other.pem), desk.write("crl", CA.crl(OLD, days=5))
    trust = PemFiles(desk.watching, [ca, crl], read_trust([ca], crl))
    trust.observe(lambda content: None)

    assert trust.notes() == [f"{crl}: no revocation list of CN=other CA: what it has signed is refused"]
    assert trust.trouble is None
    desk.after(5 * DAY_S + 1)
    assert trust.trouble is not None
    assert "the revocation list of CN=mesh CA has expired" in trust.trouble
    desk.says(ca=CA.pem + other.pem, crl=CA.crl(OLD, days=9) + other.crl(days=9))
    assert (trust.trouble, trust.notes()) == (None, [])


def test_the_list_of_an_intermediate_is_enough(desk: Desk) -> None:
    """Who has signed no certificate of a peer needs no list: only those of the peers themselves are looked up."""
    ca, crl = desk.write("ca", CA.pem), desk.write("crl", CA.child("lower CA").crl())

    assert PemFiles(desk.watching, [ca, crl], read_trust([ca], crl)).notes() == []


def test_a_chain_is_looked_after_as_well(desk: Desk) -> None:
    """An intermediate that ends takes every handshake with it; one that is missing is refused by peers only."""
    lower = CA.child("lower CA")
    leaf = lower.leaf("web.mesh")
    cert, key = desk.write("c", leaf.cert_pem), desk.write("k", leaf.key_pem)
    other = desk.write("i", CA.pem)

    whole = PemFiles(desk.watching, [cert, key], read_pair(cert, key, None))
    wrong = PemFiles(
        desk.watching, [cert, key, other], read_pair(desk.write("c", pem(leaf.certificate)), key, other)
    )

    assert [(item.kind, item.name) for item in whole.value.items] == [
        ("certificate", "web.mesh"),
        ("ca", "CN=lower CA"),
    ]
    assert whole.notes() == []
    assert wrong.notes() == [f"{cert}: the chain lacks CN=lower CA, which has signed this certificate"]


def test_the_certificate_of_a_ca_is_no_bodys_own(desk: Desk) -> None:
    """It works with some peers and is a mistake all the same."""
    cert, key = desk.write("c", CA.pem), desk.write("k", key_pem(CA.key))

    pair = PemFiles(desk.watching, [cert, key], read_pair(cert, key, None))

    assert pair.notes() == [
        f"{cert}: this is the certificate of a CA, which peers need not accept as anybody's own"
    ]


def test_who_is_not_observed_watches_nothing(desk: Desk) -> None:
    """The last one to leave ends the watch and a settle time in progress."""
    gone: list[bool] = []
    cert, key = desk.write("c", OLD.cert_pem), desk.write("k", OLD.key_pem)
    pair = PemFiles(desk.watching, [cert, key], read_pair(cert, key, None), on_idle=lambda: gone.append(True))
    assert not desk.paths
    close = pair.observe(lambda content: None)
    desk.says(c=OLD.cert_pem, k=NEW.key_pem)

    close()
    desk.after(SETTLE_S)

    assert gone == [True]
    assert not any(path.var.observed for path in desk.paths.values())
    assert desk.told == []


def test_durations_are_for_people() -> None:
    """Days, hours, minutes."""
    assert [duration(s) for s in (10 * DAY_S, DAY_S, 3600, -5)] == [
        "10 days",
        "24 hours",
        "60 minutes",
        "0 minutes",
    ]
