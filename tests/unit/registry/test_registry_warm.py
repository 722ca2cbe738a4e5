"""The warm start: names from before the daemon's start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from hostmesh.base.var import Turn, Var
from hostmesh.naming.addr import ADDR_PENDING, Addr, AddrBound, AddrFailed, Endpoint
from hostmesh.registry import warm
from hostmesh.registry.alarms import Alarms
from hostmesh.registry.freshness import Freshness
from hostmesh.registry.journal import Journal
from hostmesh.registry.warm import WarmStart
from tests.fs_world import SetEnv

ONE, TWO = Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80, 2.0, (("zone", "a"),))


def opened(path: Path, env: SetEnv, reports: list[Any] | None = None) -> WarmStart:
    found = [] if reports is None else reports
    made = WarmStart(env, lambda event, facts: found.append((event, facts["cause"])))
    made.open(str(path), 3600.0)
    return made


def saved(path: Path, env: SetEnv, names: dict[str, tuple[Endpoint, ...]]) -> None:
    """A daemon that has seen these, and ended."""
    before = opened(path, env)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(before.run)
            await trio.testing.wait_all_tasks_blocked()
            for name, endpoints in names.items():
                before.keep(name, endpoints)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_what_was_kept_is_recalled(tmp_path: Path) -> None:
    """With weights and metadata, by a new process; the file is nobody else's to read."""
    file = tmp_path / "names.json"
    saved(file, SetEnv(100.0), {"/#/a/web": (ONE, TWO)})

    again = opened(file, SetEnv(200.0))

    assert (again.recall("/#/a/web"), again.recall("/#/a/other")) == ((ONE, TWO), None)
    assert again.restored == 1
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_too_old_is_not_believed(tmp_path: Path) -> None:
    """maxAgeHours, from the last confirmation on."""
    file = tmp_path / "names.json"
    saved(file, SetEnv(100.0), {"/#/a/web": (ONE,)})

    assert opened(file, SetEnv(3701.0)).recall("/#/a/web") is None


def test_changes_are_written_while_running(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Some seconds after the change, for kill -9; what is gone is gone from the file, too."""
    file = tmp_path / "names.json"
    made = opened(file, SetEnv())

    async def written(names: list[str]) -> None:
        # The thread that writes has no part in the clock: where the machine is busy it takes another second of it.
        for _ in range(100):
            await trio.sleep(warm.WRITE_S + 1)
            if file.exists() and sorted(json.loads(file.read_text())["names"]) == names:
                return
        pytest.fail(file.read_text())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.testing.wait_all_tasks_blocked()
            made.keep("/#/a/web", (ONE,))
            made.keep("/#/a/gone", (TWO,))
            await written(["/#/a/gone", "/#/a/web"])
            made.forget("/#/a/gone")
            made.keep("/#/a/web", ())
            await written([])
            nursery.cancel_scope.cancel()

    trio.run(main, clock=autojump_clock)


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.05)


def test_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one confirmed longest ago goes first."""
    monkeypatch.setattr(warm, "MAX_NAMES", 2)
    made = opened(tmp_path / "names.json", SetEnv())
    for name in ("a", "b", "a", "c"):
        made.keep(name, (ONE,))

    assert [made.recall(name) is not None for name in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 2, "names": {}}',
        '{"version": 1, "names": {"a": 5}}',
        '{"version": 1, "names": {"a": {"at": "x", "endpoints": []}}}',
        '{"version": 1, "names": {"a": {"at": 1, "endpoints": [["10.0.0.1"]]}}}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_cache_is_reported_and_empty(tmp_path: Path, text: str) -> None:
    """The daemon starts as it would without."""
    file = tmp_path / "names.json"
    file.write_text(text)
    file.chmod(0o600)
    reports: list[Any] = []

    assert len(opened(file, SetEnv(), reports)) == 0
    assert [event for event, _cause in reports] == ["names.cache_unusable"]


def test_x8_a_file_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    """It could send traffic anywhere."""
    file = tmp_path / "names.json"
    saved(file, SetEnv(), {"/#/a/web": (ONE,)})
    file.chmod(0o666)
    reports: list[Any] = []

    assert opened(file, SetEnv(), reports).recall("/#/a/web") is None
    assert "only its owner may write to" in reports[0][1]


def test_x8_endpoints_that_no_service_has_are_left_out(tmp_path: Path) -> None:
    """Also from a file."""
    file = tmp_path / "names.json"
    file.write_text(
        '{"version": 1, "names": {"a": {"at": 100, "endpoints":'
        ' [["169.254.169.254", 80, 1, []], ["10.0.0.1", 80, 1, []]]}}}'
    )
    file.chmod(0o600)

    assert opened(file, SetEnv()).recall("a") == (ONE,)


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    """Nothing else stops."""
    reports: list[Any] = []
    made = opened(tmp_path / "no" / "names.json", SetEnv(), reports)
    made._write({})

    assert [event for event, _cause in reports] == ["names.cache_not_written"]


def fresh(made: WarmStart, env: SetEnv) -> tuple[Freshness, Var[Addr], Journal]:
    addr: Var[Addr] = Var(Turn(), ADDR_PENDING)
    journal = Journal(env)
    return Freshness("/#/a/web", addr, Alarms(env), journal, hold_s=2.0, warm=made), addr, journal


def test_x9_a_registry_that_fails_first_leaves_what_was_believed(tmp_path: Path) -> None:
    """Until it speaks; what it does not confirm goes after the hold."""
    file = tmp_path / "names.json"
    env = SetEnv(100.0)
    saved(file, env, {"/#/a/web": (ONE, TWO)})
    name, addr, journal = fresh(opened(file, env), env)

    name.failed("connection refused")
    assert addr.value == AddrBound((ONE, TWO))
    assert (name.error, name.age()) == ("connection refused", None)

    three = Endpoint("10.0.0.3", 80)
    name.found([ONE, three])
    assert addr.value == AddrBound((ONE, TWO, three))
    env.time += 2.0
    name._alarms.ring()
    assert addr.value == AddrBound((ONE, three))
    assert [(entry.action, entry.what) for entry in journal.entries()] == [
        ("error", "connection refused"),
        ("restore", "10.0.0.1:80"),
        ("restore", "10.0.0.2:80"),
        ("recovered", "connection refused"),
        ("add", "10.0.0.3:80"),
        ("remove", "10.0.0.2:80"),
    ]


def test_x9_a_registry_that_answers_first_is_believed(tmp_path: Path) -> None:
    """What was believed before the start plays no part then, and later errors keep what is believed now."""
    file = tmp_path / "names.json"
    env = SetEnv(100.0)
    saved(file, env, {"/#/a/web": (ONE, TWO)})
    name, addr, _journal = fresh(opened(file, env), env)

    name.found([TWO])
    name.failed("connection refused")

    assert addr.value == AddrBound((TWO,))


def test_without_a_file_a_failure_is_failed(tmp_path: Path) -> None:
    """As before."""
    env = SetEnv()
    name, addr, _journal = fresh(WarmStart(env), env)
    name.found([ONE])
    name.forget()

    name.failed("connection refused")

    assert addr.value == AddrFailed("connection refused")
