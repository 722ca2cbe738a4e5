"""kazoo with its callbacks on trio's thread, without a server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
import trio

from hostmesh.registry.zk_kazoo import Client, TrioHandler, _NoWatcherError, _RemoveWatches


def in_trio(test: Callable[[], None]) -> None:
    async def main() -> None:
        test()

    trio.run(main)


def test_a_client_that_is_only_made_does_nothing() -> None:
    """No thread, no connection: ``hostmesh check`` makes namers, too."""

    def test() -> None:
        before = threading.active_count()
        client = Client(["127.0.0.1:1", "[::1]:2"], 10.0, [("digest", "me:secret")])

        assert threading.active_count() == before
        assert client.is_stopped
        assert not client.is_refused
        assert client.cause == ""
        assert set(client.hosts) == {("127.0.0.1", 1), ("::1", 2)}

    in_trio(test)


def test_what_was_seen_is_forgotten_when_every_server_has_refused() -> None:
    """One refusal per server may be a server that lags; one more is a loss of data. A session begins the count anew."""

    def test() -> None:
        client = Client(["127.0.0.1:1", "127.0.0.1:2"], 10.0, [])
        client.last_zxid = 77
        for _ in range(2):
            client.handler.accepted += 1
            client.handler.on_accept()
        kept = client.last_zxid
        client.connected()
        client.handler.accepted += 1
        client.handler.on_accept()
        still = client.last_zxid
        client.handler.accepted += 2
        client.handler.on_accept()

        assert (kept, still, client.last_zxid) == (77, 77, 0)

    in_trio(test)


def test_callbacks_run_on_trios_thread_in_order() -> None:
    """Whatever kazoo's thread puts into its queues runs here, and is dropped when the loop has ended."""
    seen: list[tuple[int, bool]] = []
    here = threading.current_thread()
    kept: list[TrioHandler] = []

    async def main() -> None:
        handler = TrioHandler(trio.lowlevel.current_trio_token())
        kept.append(handler)
        done = trio.Event()

        def put() -> None:
            for number in range(3):
                handler.completion_queue.put(
                    lambda number=number: seen.append((number, threading.current_thread() is here))
                )
            handler.callback_queue.put(done.set)

        await trio.to_thread.run_sync(put)
        await done.wait()
        assert handler.running

    trio.run(main)
    kept[0].callback_queue.put(lambda: seen.append((9, True)))

    assert seen == [(0, True), (1, True), (2, True)]


def test_a_result_reaches_its_waiter_through_the_loop() -> None:
    """kazoo's results call back here, whichever thread sets them."""

    async def main() -> None:
        handler = TrioHandler(trio.lowlevel.current_trio_token())
        result, done = handler.async_result(), trio.Event()
        result.rawlink(lambda _result: done.set())
        await trio.to_thread.run_sync(result.set, "answer")
        await done.wait()
        assert result.get(block=False) == "answer"

    trio.run(main)


def test_a_connection_can_be_ended_under_kazoo() -> None:
    """``drop`` makes the peer's silence an end that kazoo sees."""

    async def main() -> None:
        handler = TrioHandler(trio.lowlevel.current_trio_token())
        handler.drop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            mine = handler.create_connection(listener.getsockname(), timeout=60)
            peer, _address = listener.accept()
            with mine, peer:
                assert mine.gettimeout() is not None
                assert mine.gettimeout() <= 2.0
                handler.drop()

                assert mine.recv(1) == b""
                assert handler.accepted == 1

    trio.run(main)


def test_watches_are_removed_by_their_path() -> None:
    """The request as ZooKeeper 3.5 reads it, and the answer to one that has just fired is no unknown code."""
    request = _RemoveWatches("/é")

    assert request.type == 18
    assert request.serialize() == b"\x00\x00\x00\x03/\xc3\xa9\x00\x00\x00\x03"
    assert _NoWatcherError.code == -121


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0"]
)
def test_t2_a_wary_client_does_not_dial_what_a_name_was_found_to_be(host: str) -> None:
    """T2: kazoo looks the name up, so it is the address it dials that is judged; nothing is sent there."""

    def test() -> None:
        handler = TrioHandler(trio.lowlevel.current_trio_token(), wary=True)
        with pytest.raises(PermissionError, match="no address of a service"):
            handler.create_connection(address=(host, 2181), hostname="zk.example", timeout=1.0)
        assert handler.accepted == 0

    in_trio(test)


def test_t2_a_name_that_means_a_metadata_service_fails_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way through kazoo: the client never connects, and its cause names the address."""
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 2181))]

    def found(*_args: object) -> object:
        return answer

    monkeypatch.setattr("kazoo.protocol.connection.socket.getaddrinfo", found)

    async def main() -> None:
        client = Client(["innocent.example:2181"], 10.0, [], wary=True)
        client.start_async()
        try:
            with trio.fail_after(10):
                while "no address of a service" not in client.cause:
                    await trio.lowlevel.checkpoint()
        finally:
            await trio.to_thread.run_sync(client.end)
        assert client.handler.accepted == 0

    trio.run(main)
