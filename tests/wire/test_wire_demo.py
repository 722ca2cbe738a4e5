"""The demo's replicas and their registration, around a stand-in for the linker; and the whole command."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hostmesh.daemon.demo import demo, demo_config
from tests.wire.harness import RawClient


def endpoint_ports(text: str, service: str) -> list[int]:
    """The ports registered for a service of the demo whose configuration is given."""
    root = re.search(r"rootDir: (\S+)", text)
    assert root is not None
    return [int(line.split()[1]) for line in (Path(root[1]) / service).read_text().splitlines()]


def run_demo(visit: Callable[[str], object], *, fault: bool = False) -> str:
    """Run the demo with a linker that only calls visit, and return what the demo said."""
    said: list[str] = []

    async def serve(text: str, filename: str, ready: Callable[[], object]) -> None:
        ready()
        await trio.to_thread.run_sync(visit, text)

    trio.run(lambda: demo(serve, fault=fault, say=said.append))
    return "".join(said)


def test_replicas_say_who_they_are_and_what_they_saw() -> None:
    """Each registered endpoint is a replica that answers its name and the fields that reached it."""
    answers: list[str] = []

    def visit(text: str) -> None:
        for port in endpoint_ports(text, "web") + endpoint_ports(text, "users"):
            with RawClient(port) as client:
                answers.append(client.request("GET", "/x", fields=(("l5d-dst-service", "/svc/web"),)).text)
                chunked = client.request("POST", "/y", body=b"abc", chunked=True)
                assert "after 3 bytes of body" in chunked.text

    run_demo(visit)

    assert [answer.split()[0] for answer in answers] == ["web-1", "web-2", "users-1", "users-2"]
    assert all("l5d-dst-service: /svc/web" in answer for answer in answers)


def test_fault_makes_one_replica_slow() -> None:
    """With fault, the last replica of web answers late and the banner names it."""
    late: list[bool] = []

    def visit(text: str) -> None:
        for port in endpoint_ports(text, "web"):
            with RawClient(port, timeout=0.2) as client:
                try:
                    client.request()
                    late.append(False)
                except TimeoutError:
                    late.append(True)

    said = run_demo(visit, fault=True)

    assert late == [False, True]
    assert "web-2 answers 0.5 s late" in said


def test_nothing_is_left_behind() -> None:
    """When the linker ends, the replicas are gone and so is the folder."""
    seen: list[str] = []

    said = run_demo(seen.append)

    pids = [int(pid) for pid in re.findall(r"pid (\d+), ", said)]
    assert len(pids) == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    root = re.search(r"rootDir: (\S+)", seen[0])
    assert root is not None
    assert not Path(root[1]).exists()


def test_a_killed_replica_is_announced() -> None:
    """Killing the replica that the banner offers is noticed, and its registration stays."""
    said: list[str] = []
    registered: list[int] = []
    announced = trio.Event()

    def say(text: str) -> None:
        said.append(text)
        if "has stopped" in text:
            announced.set()

    async def serve(text: str, filename: str, ready: Callable[[], object]) -> None:
        ready()
        pid = re.search(r"kill (\d+)", "".join(said))
        assert pid is not None
        os.kill(int(pid[1]), signal.SIGTERM)
        with trio.fail_after(10):
            await announced.wait()
        registered.extend(endpoint_ports(text, "web"))

    trio.run(lambda: demo(serve, say=say))

    assert len(registered) == 2


def test_the_shipped_file_is_the_demo() -> None:
    """config/demo.yaml is what the demo runs, for reading and for running by hand."""
    shipped = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"

    assert shipped.read_text() == demo_config("config/disco")
