from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from hostmesh.telemeters import canonical
from hostmesh.telemeters.canonical import CanonicalFormat, CanonicalLog, FailureLimit
from tests.unit.telemeters.fakes import StillEnv, deps
from tests.unit.telemetry.records import record


def test_x7_the_line_says_all_about_an_exchange() -> None:
    """One JSON object with every key, times in milliseconds, and no query string."""
    line = CanonicalFormat()(
        (record(target=b"/a?token=x", status=503, reason="no-endpoints", failed=True), 7)
    )

    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "event": "exchange",
        "time": "2017-07-14T02:40:00.262+00:00",
        "router": "http",
        "server": "127.0.0.1/4140",
        "caller": "10.0.0.7:51234",
        "method": "GET",
        "host": "web",
        "path": "/a",
        "version": 11,
        "dst": "/svc/web",
        "bound": "/#/io.l5d.fs/web",
        "residual": "/",
        "endpoint": "10.1.1.1:8080",
        "status": 503,
        "grpc_status": None,
        "reason": "no-endpoints",
        "failed": True,
        "attempts": 1,
        "requeues": 0,
        "request_bytes": 0,
        "response_bytes": 63,
        "ms": 12.345,
        "endpoint_ms": 11.0,
        "trace": "00000000deadbeef",
        "suppressed": 7,
    }


def test_a_caller_cannot_forge_lines() -> None:
    """Whatever bytes the caller sent, the line is one line of ASCII."""
    line = CanonicalFormat()((record(host=b'a"\n\x1b\xff', target=b"/\r\n{}"), 0))

    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line)["host"] == 'a"\n\x1b\xff'


def test_failures_are_limited_by_key() -> None:
    """A burst is admitted, then a rate; the next admitted one says how many were not; other keys have their
    own."""
    limit = FailureLimit(per_second=2, burst=3)

    assert [limit.admit(("http", "a"), 0.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limit.admit(("http", "b"), 0.0) == 0
    assert [limit.admit(("http", "a"), now) for now in (0.4, 0.5, 0.5)] == [None, 3, None]
    assert limit.admit(("http", "a"), 100.0) == 1


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many keys and all are forgotten, which logs a little more and never less."""
    monkeypatch.setattr(canonical, "MAX_KEYS", 2)
    limit = FailureLimit(per_second=0, burst=1)

    assert [limit.admit(("r", key), 0.0) for key in "abca"] == [0, 0, 0, 0]


@pytest.mark.parametrize(("sample", "low", "high"), [(0.0, 0, 0), (1.0, 1000, 1000), (0.1, 60, 140)])
def test_successes_are_sampled_and_failures_are_all_wanted(sample: float, low: int, high: int) -> None:
    """The sample decides about successes; every failure is asked for."""
    log = CanonicalLog(deps(), sample=sample)

    assert low <= sum(log.wants(False) for _ in range(1000)) <= high
    assert all(log.wants(True) for _ in range(100))


def lines(log: CanonicalLog, path: Path, *calls: Any) -> list[dict[str, Any]]:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.testing.wait_all_tasks_blocked()
            for call in calls:
                call()
            nursery.cancel_scope.cancel()

    trio.run(main)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_r13_a_flood_of_failures_is_a_burst_of_lines(tmp_path: Path) -> None:
    """Of a thousand equal failures a hundred are logged, the rest counted and told later."""
    env = StillEnv()
    shared = deps(env)
    log = CanonicalLog(shared, path=str(tmp_path / "x.log"))
    failure = record(failed=True, reason="connect-refused")

    def later() -> None:
        env.at += 1

    calls = [lambda: log.on_exchange(failure)] * 1000
    found = lines(log, tmp_path / "x.log", *calls, later, calls[0])
    assert len(found) == 101
    assert [line["suppressed"] for line in found[-2:]] == [0, 900]
    assert shared.metrics.counter("accesslog", "canonical", "suppressed").value == 900


def test_without_a_path_lines_go_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """The default is the descriptor 1, whatever sys.stdout is."""
    log = CanonicalLog(deps())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.run)
            await trio.testing.wait_all_tasks_blocked()
            log.on_exchange(record())
            log.reopen()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert json.loads(capfd.readouterr().out)["dst"] == "/svc/web"


def test_a_moved_file_is_left_when_asked_to_reopen(tmp_path: Path) -> None:
    """After SIGHUP lines go to a new file of the same name."""
    path = tmp_path / "x.log"
    log = CanonicalLog(deps(), path=str(path))
    assert len(lines(log, path, lambda: log.on_exchange(record()))) == 1

    path.rename(tmp_path / "old.log")
    log.reopen()
    assert len(lines(log, path, lambda: log.on_exchange(record()))) == 1
