"""The observer of real-server scenarios leaves nothing behind, however they end: an innocent test would pay for it."""

from __future__ import annotations

import gc
import socket
import warnings

import pytest

from tests.servers.observer import Observer, Prober


def test_an_observer_that_ends_under_load_closes_every_socket() -> None:
    """Also the connections of requests that end while it does."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(10):
            with Observer(1, rate=3000, paused=True) as observer:
                endpoint = observer.endpoint()
                observer.port = endpoint.port
                observer.paused = False
                observer.wait_answers(endpoint)
        del observer, endpoint
        gc.collect()

    assert [str(each.message) for each in seen] == []


def test_an_endpoint_whose_port_is_taken_closes_its_socket() -> None:
    """The scenario fails, and nothing else does."""
    with warnings.catch_warnings(record=True) as seen, socket.create_server(("127.0.0.1", 0)) as taken:
        warnings.simplefilter("always")
        with Observer(1, paused=True) as observer, pytest.raises(OSError, match="in use"):
            observer.endpoint(port=taken.getsockname()[1])
        del observer
        gc.collect()

    assert [str(each.message) for each in seen] == []


def test_a_prober_whose_server_closes_closes_its_socket() -> None:
    """It asks again on another connection."""
    with warnings.catch_warnings(record=True) as seen, socket.create_server(("127.0.0.1", 0)) as server:
        warnings.simplefilter("always")
        with Prober(server.getsockname()[1]) as prober:
            prober._peer = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            peer.shutdown(socket.SHUT_WR)
            assert prober.ask() is None
            peer.close()
        gc.collect()

    assert [str(each.message) for each in seen] == []
