"""When an HTTP/2 peer is asked whether it is there, and when it is given up."""

from __future__ import annotations

from math import inf

import pytest

from hostmesh.proxy.h2_liveness import PING_AGAIN, PING_IDLE, PING_QUIET, PING_TIMEOUT, Liveness

START = 1000.0


def heard(liveness: Liveness, now: float) -> None:
    """Bytes are read at ``now``."""
    liveness.heard = now
    liveness.awaiting = False


@pytest.fixture
def liveness() -> Liveness:
    return Liveness(START)


def test_at_rest_nothing_is_asked(liveness: Liveness) -> None:
    """A connection without streams has no time at which a PING is due."""
    assert inf == liveness.due(False)


def test_quiet_streams_make_it_due(liveness: Liveness) -> None:
    """30 s after the last byte, whatever it was."""
    assert liveness.due(True) == START + PING_QUIET
    heard(liveness, START + 20)
    assert liveness.due(True) == START + 20 + PING_QUIET


def test_without_an_answer_it_is_dead(liveness: Liveness) -> None:
    """10 s after the PING, unless a byte of any kind has come."""
    liveness.ping(START + 30)
    assert START + 30 + PING_TIMEOUT == liveness.due(True) == liveness.due(False)
    assert not liveness.dead(START + 39.9)
    assert liveness.dead(START + 40)
    heard(liveness, START + 39.9)
    assert not liveness.dead(START + 40)


def test_without_a_response_it_is_asked_seldom(liveness: Liveness) -> None:
    """Servers of gRPC count PINGs without HEADERS or DATA of theirs between them, whatever else they send."""
    liveness.ping(START + 30)
    heard(liveness, START + 31)
    liveness.ponged()
    assert liveness.due(True) == START + 30 + PING_AGAIN
    assert not liveness.doubtful(START + 100)
    # SETTINGS, WINDOW_UPDATE, a PING of its own
    heard(liveness, START + 200)
    assert liveness.due(True) == START + 30 + PING_AGAIN
    assert not liveness.doubtful(START + 30 + PING_AGAIN - 1)
    assert liveness.doubtful(START + 30 + PING_AGAIN)
    heard(liveness, START + 330)
    assert liveness.due(True) == START + 330 + PING_QUIET

    liveness.answered = True
    heard(liveness, START + 331)
    assert liveness.due(True) == START + 331 + PING_QUIET
    assert liveness.doubtful(START + 331 + PING_IDLE)


def test_a_response_that_crosses_a_ping_does_not_count(liveness: Liveness) -> None:
    """What came before the answer was sent before the peer knew of the PING, so it allows no other."""
    liveness.ping(START + 30)
    heard(liveness, START + 31)
    liveness.answered = True
    liveness.ponged()
    assert liveness.due(True) == START + 30 + PING_AGAIN


def test_the_end_of_a_rest_is_doubtful(liveness: Liveness) -> None:
    """After 10 s without a byte, and not while a PING is on its way."""
    assert not liveness.doubtful(START + PING_IDLE - 0.1)
    assert liveness.doubtful(START + PING_IDLE)
    liveness.ping(START + PING_IDLE)
    assert not liveness.doubtful(START + PING_IDLE + 1)


def test_payloads_differ(liveness: Liveness) -> None:
    """Eight bytes each, so that answers can be told apart on the wire."""
    payloads = {liveness.ping(START + n) for n in range(5)}
    assert {8} == {len(payload) for payload in payloads}
    assert len(payloads) == 5
