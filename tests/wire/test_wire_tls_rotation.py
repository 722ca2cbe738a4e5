"""What a rotation of certificates must not do to traffic: tests/wire/tls_rotation.py in less time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.tls_rotation import WITHIN, Report, Rotation


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """Eleven rotations and a mistake at 100 requests a second."""
    with Rotation(tmp_path_factory.mktemp("rotation"), rate=100.0, hold=0.1) as made:
        yield made.run()


def test_x4_no_request_fails_while_files_are_replaced(report: Report) -> None:
    """Over HTTP/2 connections that live on, and over new ones every second."""
    assert len(report.outcomes) > 500
    assert report.failures == []


def test_x4_new_handshakes_use_new_files(report: Report) -> None:
    """Each within the bound; what went wrong on the way is in the problems: an alarm that did not show, half a pair in
    use, a revoked caller let in."""
    assert report.problems == []
    assert len(report.seen) == 12
    assert max(report.seen.values()) < WITHIN


def test_x4_established_connections_stay(report: Report) -> None:
    """Held open from the first rotation to the last; the outgoing side has never dialled again."""
    assert min(report.held.values()) > 20
    assert report.connects == 1


def test_x5_no_session_survives_a_new_ca_or_list(report: Report) -> None:
    """Two revoked callers, and one whose CA is gone, come with a session from before."""
    assert report.refused == [
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
    ]
