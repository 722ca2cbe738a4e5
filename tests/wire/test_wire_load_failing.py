"""Endpoints that fail under load, and deadlines that cross two routers."""

from __future__ import annotations

from pathlib import Path

from tests.wire.scenarios.failing import all_dead, deadlines, fail_fast, retry_storm


def test_retries_stay_within_the_budget(tmp_path: Path) -> None:
    """An endpoint that only fails gets a fifth more attempts than there are requests, and the reserve, and no more."""
    figures = retry_storm(tmp_path, seconds=2, rate=400)

    assert figures["requests"] == 800


def test_all_dead_are_still_asked(tmp_path: Path) -> None:
    """When every endpoint is ejected requests go to one all the same, counted, and health is noticed."""
    figures = all_dead(tmp_path, total=200)

    assert figures["refused"] == 0


def test_fail_fast_is_its_own_story(tmp_path: Path) -> None:
    """failFast leaves an endpoint alone after one refused connect, finds it again, and is no failure accrual."""
    figures = fail_fast(tmp_path, rate=300)

    assert figures["failed"] == 0


def test_deadline_shrinks_and_cancels(tmp_path: Path) -> None:
    """Over two routers the strictest time wins at the endpoint, and its work is given up when time is over."""
    figures = deadlines(tmp_path)

    assert figures["attempts"] == 1
