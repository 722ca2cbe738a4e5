"""``hostmesh certs`` as a person or a timer runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hostmesh.certs.store import Store, read_pair
from hostmesh.certs.work import Work
from hostmesh.cli import main
from tests.certs_world import handshake
from tests.wire.harness import COMMAND


def certs(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return subprocess.run(
        [COMMAND, "certs", *map(str, arguments)], capture_output=True, check=False, text=True, cwd=cwd
    )


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    root = tmp_path / "ca"
    Work(Store(root)).init(trust_domain="mesh", name="hostmesh")
    return root


def test_from_nothing_to_mutual_tls(tmp_path: Path) -> None:
    """init, issue, and two holders talk to each other; nobody else does."""
    root = tmp_path / "ca"
    made = certs("init", root, "--trust-domain", "prod.mesh", "--name", "Example")
    issued = certs("issue", root, "web", "users")

    assert (made.returncode, made.stderr, issued.returncode, issued.stderr) == (0, "", 0, "")
    assert f"{root}: CA of prod.mesh, until " in made.stdout
    assert f"{root}/issued/web: web.prod.mesh, spiffe://prod.mesh/web; valid for 7 d 0 h\n" in issued.stdout
    web, users = root / "issued" / "web", root / "issued" / "users"
    assert handshake(web, users, "web.prod.mesh") is None
    assert "Hostname mismatch" in str(handshake(web, users, "users.prod.mesh"))
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(
        handshake(web, users, "web.prod.mesh", client_shows=False)
    )


def test_two_cas_do_not_believe_each_other(tmp_path: Path) -> None:
    """The same names from another CA are worth nothing, on either side."""
    for environment in ("prod", "staging"):
        certs("init", tmp_path / environment)
        certs("issue", tmp_path / environment, "web", "users")
    prod, staging = tmp_path / "prod" / "issued", tmp_path / "staging" / "issued"

    assert handshake(prod / "web", prod / "users", "web.mesh") is None
    assert "CERTIFICATE_VERIFY_FAILED" in str(handshake(prod / "web", staging / "users", "web.mesh"))


def test_nothing_of_a_key_is_printed_or_readable_by_others(ca: Path) -> None:
    """Every private key is in a 0600 file in 0700 directories, and in no output."""
    said = [
        certs(*arguments)
        for arguments in (
            ("issue", ca, "web"),
            ("rotate", ca, "--all"),
            ("rotate", ca, "--ca"),
            ("show", ca),
            ("show", ca, "--json"),
        )
    ]

    keys = [path for path in ca.rglob("*.pem") if b"PRIVATE" in path.read_bytes() and not path.is_symlink()]
    assert len(keys) >= 4
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        secret = path.read_text().splitlines()[1]
        assert not [each for each in said if secret in each.stdout + each.stderr]
    assert not [each for each in said if "PRIVATE" in each.stdout + each.stderr]


def test_show_is_a_table_for_people(ca: Path) -> None:
    """One line for each certificate with its end, issuer, key permissions and serial number."""
    certs("issue", ca, "web", "--hours", "12")

    shown = certs("show", ca)

    lines = shown.stdout.splitlines()
    assert (shown.returncode, shown.stderr) == (0, "")
    assert lines[0].split() == ["NAME", "EXPIRES", "(UTC)", "LEFT", "ISSUER", "KEY", "SERIAL"]
    assert lines[1].startswith("CA (signs)  ")
    serial = read_pair(ca / "issued" / "web").certificate.serial_number
    assert re.fullmatch(
        rf"web +[\d-]+ [\d:]+ +11 h 59 min +hostmesh CA [\d-]+ [0-9a-f]{{4}} +0600 \w+ +{serial:x}", lines[2]
    )


def test_show_says_what_is_wrong_and_fails(ca: Path) -> None:
    """A key that others can read is a problem, in the table, in JSON and in the exit code."""
    certs("issue", ca, "web")
    key = ca / "issued" / "web" / "key.pem"
    key.chmod(0o644)

    shown, as_json = certs("show", ca), certs("show", ca, "--json")

    problem = f"{key}: mode 0644, expected 0600: others can get at the key; chmod go= it"
    assert (shown.returncode, as_json.returncode) == (1, 1)
    assert f"  ! {problem}\n" in shown.stdout
    rows = json.loads(as_json.stdout)
    assert [row["isCa"] for row in rows] == [True, False]
    assert rows[1]["name"] == "web"
    assert rows[1]["keyMode"] == "0644"
    assert rows[1]["names"] == ["web.mesh", "spiffe://mesh/web"]
    assert rows[1]["problems"] == [problem]
    assert datetime.fromisoformat(rows[1]["notAfter"]) > datetime.now(UTC)


def test_an_open_directory_is_warned_of(ca: Path) -> None:
    """The work is done, and standard error says who could read the CA's key."""
    ca.chmod(0o755)

    found = certs("issue", ca, "web")

    assert found.returncode == 0
    assert found.stderr == (
        f"{ca}: mode 0755, expected 0700: others can get at the key; chmod go= it (warning)\n"
    )


def test_files_go_where_out_says(ca: Path, tmp_path: Path) -> None:
    """A relative folder is meant from here, also at later renewals from elsewhere."""
    certs("issue", ca, "host-b", "--dns", "web.mesh", "--ip", "127.0.0.1", "--out", "tls", cwd=tmp_path)
    first = read_pair(tmp_path / "tls").certificate

    rotated = certs("rotate", ca, "--all", cwd="/")

    assert rotated.stdout == "host-b: renewed (asked for)\n"
    assert read_pair(tmp_path / "tls").certificate.serial_number != first.serial_number


def test_rotate_without_anything_due(ca: Path) -> None:
    """A person is told that there was nothing to do."""
    certs("issue", ca, "web")

    found = certs("rotate", ca)

    assert (found.returncode, found.stdout, found.stderr) == (0, "nothing is due\n", "")


def test_revoke_and_the_exchange_of_the_ca(ca: Path) -> None:
    """A revoked caller is refused by the others' lists; after --ca --now only the new CA counts."""
    certs("issue", ca, "web", "thief", "users")
    issued = ca / "issued"

    revoked = certs("revoke", ca, "thief")
    assert "thief: revoked, 1 serial(s)\n" in revoked.stdout
    assert "CERTIFICATE_VERIFY_FAILED" in str(handshake(issued / "web", issued / "thief", "web.mesh"))
    assert handshake(issued / "web", issued / "users", "web.mesh") is None

    exchanged = certs("rotate", ca, "--ca", "--now")
    assert exchanged.returncode == 0
    assert handshake(issued / "web", issued / "users", "web.mesh") is None
    assert "CERTIFICATE_VERIFY_FAILED" in str(handshake(issued / "web", issued / "thief", "web.mesh"))


def test_watch_stays_and_ends_with_sigterm(ca: Path) -> None:
    """What is due is renewed at once; then it waits, and SIGTERM ends it with 0."""
    long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=6)
    Work(Store(ca), lambda: long_ago).issue("web")
    before = read_pair(ca / "issued" / "web").certificate.serial_number
    watching = subprocess.Popen([COMMAND, "certs", "rotate", ca, "--watch"], stdout=subprocess.PIPE)
    try:
        assert watching.stdout is not None
        line = watching.stdout.readline()
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(20) == 0
    finally:
        watching.kill()
        watching.communicate()

    assert line == b"web: renewed (less than a third of its life left)\n"
    assert read_pair(ca / "issued" / "web").certificate.serial_number != before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("init", "{ca}"), "{ca}: holds a CA already, which is left as it is; expected no directory\n"),
        (("issue", "{ca}", "Web"), "NAME: found 'Web', expected at most 63 of a-z"),
        (("issue", "{ca}", "a", "b", "--dns", "x.mesh"), "found several NAMEs, expected one with them\n"),
        (
            ("issue", "{ca}", "a", "--spiffe", "spiffe://other/a"),
            "--spiffe: found 'spiffe://other/a', expected ",
        ),
        (("issue", "{ca}", "a", "--owner", "no-such-user"), "--owner: found 'no-such-user', expected a user"),
        (
            ("issue", "{ca}/none", "a"),
            "{ca}/none: expected the directory of a CA: No such file or directory; ",
        ),
        (
            ("rotate", "{ca}/.."),
            "expected the directory of a CA, found none; `hostmesh certs init` makes one\n",
        ),
        (("rotate", "{ca}", "--now"), "--now and --overlap-hours: found no --ca, expected it with them\n"),
        (("rotate", "{ca}", "--watch", "--all"), "--watch: found with --ca or --all, expected it alone\n"),
        (("revoke", "{ca}", "web"), "web: not known to {ca}; expected one of none\n"),
        (("init", "{ca}2", "--trust-domain", "Mesh"), "--trust-domain: found 'Mesh', expected a DNS name"),
        (("init", "{ca}2", "--name", "x" * 41), "expected 1 to 40 printable characters\n"),
        (("init", "/proc/none/ca"), "No such file or directory\n"),
    ],
    ids=lambda each: " ".join(each)[:40] if isinstance(each, tuple) else "",
)
def test_what_cannot_be_done_says_why(
    ca: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    """Exit code 1, nothing on standard output, one line that names the place and what was expected."""
    code = main(["certs", *(each.format(ca=ca) for each in arguments)])

    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert why.format(ca=ca) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("--days", "91"), "argument --days: found '91', expected a whole number from 1 to 90"),
        (("--hours", "0"), "argument --hours: found '0', expected a whole number from 1 to 2160"),
        (("--days", "1", "--hours", "1"), "argument --hours: not allowed with argument --days"),
    ],
)
def test_lives_that_are_too_long_or_too_short(
    capsys: pytest.CaptureFixture[str], option: tuple[str, ...], why: str
) -> None:
    """Not over 90 days, not under an hour; exit code 2, as for every wrong command line."""
    with pytest.raises(SystemExit) as caught:
        main(["certs", "issue", "ca", "web", *option])

    assert caught.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_gets_the_files_also_after_a_renewal(ca: Path, tmp_path: Path) -> None:
    """A daemon of another user goes on reading its key."""
    certs("issue", ca, "web", "--out", tmp_path / "tls", "--owner", "nobody")
    certs("rotate", ca, "--all")

    key = (tmp_path / "tls" / "key.pem").stat()
    assert (key.st_uid, stat.S_IMODE(key.st_mode)) == ((tmp_path / "tls").stat().st_uid, 0o600)
    assert key.st_uid != 0


def test_other_commands_do_not_load_cryptography_for_it() -> None:
    """The grammar is there for every command; what does the work is not, nor in the memory of `run`."""
    script = (
        "import sys; from hostmesh.cli import parser; parser();"
        "print(sorted(name for name in sys.modules if name.startswith(('cryptography', 'hostmesh.certs.'))))"
    )

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)

    assert found.stdout == "['hostmesh.certs.grammar']\n"
