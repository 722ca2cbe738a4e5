from __future__ import annotations

from datetime import UTC, timedelta, timezone
from pathlib import Path

import pytest
import trio
import trio.testing

from hostmesh.telemeters.access_log import AccessLog, LineFormat
from hostmesh.telemetry.record import Record
from tests.unit.telemeters.fakes import deps
from tests.unit.telemetry.records import Fields, record

UTC = UTC
START = b'web 10.0.0.7 - - [14/07/2017:02:40:00 UTC] "GET /a?b=c HTTP/1.1" 200 63 "http://x/" "curl/8"\n'


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, START),
        ({"content_length": -1}, START.replace(b" 63 ", b" - ")),
        ({"content_length": 0}, START.replace(b" 63 ", b" 0 ")),
        ({"host": b"", "version": 10}, START.replace(b"web ", b"- ").replace(b"/1.1", b"/1.0")),
        ({"head": Fields()}, START.replace(b'"http://x/" "curl/8"', b'"-" "-"')),
        ({"caller": "[::1]:5"}, START.replace(b"10.0.0.7", b"[::1]")),
        ({"start": 1_500_000_000.9, "total": 0.2}, START.replace(b":00 UTC", b":01 UTC")),
    ],
    ids=["plain", "no length", "empty", "old", "no fields", "ipv6", "the time is the end's"],
)
def test_the_line_is_that_of_linkerd(changes: dict[str, object], line: bytes) -> None:
    """Host, remote host, time, request line, status, length, referer and agent, in Linkerd's form."""
    assert LineFormat(zone=UTC)(record(**changes)) == line


def test_the_line_of_h2_has_a_numeric_zone_and_no_length() -> None:
    """The h2 variant differs in zone, version and length."""
    zone = timezone(timedelta(hours=2))

    assert LineFormat(h2=True, zone=zone)(record(version=20)) == (
        b'web 10.0.0.7 - - [14/07/2017:04:40:00 +0200] "GET /a?b=c HTTP/2" 200 - "http://x/" "curl/8"\n'
    )


@pytest.mark.parametrize("field", ["target", "host", "user-agent"])
def test_a_caller_cannot_forge_lines(field: str) -> None:
    """Quotes, backslashes, control bytes and bytes over 126 are escaped wherever the caller put them."""
    evil = b'a"\n\\\x1b[2J\xc3\xa9'
    if field == "user-agent":
        line = LineFormat(zone=UTC)(record(head=Fields({b"user-agent": evil})))
    else:
        line = LineFormat(zone=UTC)(record(**{field: evil}))

    assert line.count(b"\n") == 1
    assert b'a\\"\\x0a\\\\\\x1b[2J\\xc3\\xa9' in line


def write(log: AccessLog, *records: Record) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.testing.wait_all_tasks_blocked()
            for one in records:
                if log.wants(one.failed):
                    log.on_exchange(one)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_only_answers_of_endpoints_are_logged(tmp_path: Path) -> None:
    """A request that hostmesh answered itself has no line, and one that an endpoint failed has."""
    log = AccessLog(deps(), "http", str(tmp_path / "access.log"))
    write(
        log, record(), record(status=502, from_endpoint=False, failed=True), record(status=500, failed=True)
    )

    lines = (tmp_path / "access.log").read_text().splitlines()
    assert [line.split('"')[2].split()[0] for line in lines] == ["200", "500"]


@pytest.mark.parametrize(("policy", "files"), [("sighup", 2), ("never", 1)])
def test_a_signal_reopens_under_its_policy_only(tmp_path: Path, policy: str, files: int) -> None:
    """After the file was moved and SIGHUP came, the policy sighup writes to a new file."""
    log = AccessLog(deps(), "http", str(tmp_path / "access.log"), roll_policy=policy)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            log.on_exchange(record())
            with trio.fail_after(5):
                while not (tmp_path / "access.log").exists():  # noqa: ASYNC110 - a file has no event
                    await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked()
            (tmp_path / "access.log").rename(tmp_path / "old.log")
            log.reopen()
            log.on_exchange(record())
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert len(list(tmp_path.iterdir())) == files
    assert sum(len(path.read_text().splitlines()) for path in tmp_path.iterdir()) == 2


def test_a_policy_that_is_none_is_refused_when_it_is_made() -> None:
    """The roll policy is read at once, and nothing is opened."""
    with pytest.raises(ValueError, match="roll policy 'yearly'"):
        AccessLog(deps(), "http", "/nowhere/access.log", roll_policy="yearly")
