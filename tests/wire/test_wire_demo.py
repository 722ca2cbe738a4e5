"""The demo's replicas and their registration, around a stand-in for the linker; and the whole command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostmesh.daemon.demo import demo, demo_config
from tests.wire.harness import COMMAND, RawClient, free_port


def endpoint_ports(file: Path, service: str) -> list[int]:
    """The ports registered for a service of the demo whose configuration file is given."""
    return [int(line.split()[1]) for line in (file.parent / "disco" / service).read_text().splitlines()]


def run_demo(visit: Callable[[Path], object], *, fault: bool = False) -> str:
    """Run the demo with a linker that only calls visit, and return what the demo said."""
    said: list[str] = []

    def serve(file: Path, ready: Callable[[], None]) -> int:
        ready()
        visit(file)
        return 0

    assert demo(serve, fault=fault, say=said.append) == 0
    return "".join(said)


def test_replicas_say_who_they_are_and_what_they_saw() -> None:
    """Each registered endpoint is a replica that answers its name and the fields that reached it."""
    answers: list[str] = []

    def visit(file: Path) -> None:
        for port in endpoint_ports(file, "web") + endpoint_ports(file, "users"):
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

    def visit(file: Path) -> None:
        for port in endpoint_ports(file, "web"):
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
    seen: list[Path] = []

    said = run_demo(seen.append)

    pids = [int(pid) for pid in re.findall(r"pid (\d+), ", said)]
    assert len(pids) == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not seen[0].parent.exists()


def test_a_killed_replica_is_announced() -> None:
    """Killing the replica that the banner offers is noticed, and its registration stays."""
    said: list[str] = []
    registered: list[int] = []
    announced = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if "has stopped" in text:
            announced.set()

    def serve(file: Path, ready: Callable[[], None]) -> int:
        ready()
        pid = re.search(r"kill (\d+)", "".join(said))
        assert pid is not None
        os.kill(int(pid[1]), signal.SIGTERM)
        assert announced.wait(10)
        registered.extend(endpoint_ports(file, "web"))
        return 0

    demo(serve, say=say)

    assert len(registered) == 2


def test_the_shipped_file_is_the_demo() -> None:
    """config/demo.yaml is what the demo runs, for reading and for running by hand."""
    shipped = Path(__file__).resolve().parents[2] / "config" / "demo.yaml"

    assert shipped.read_text() == demo_config("config/disco")


class RunningDemo:
    """``hostmesh demo`` as a user starts it, on free ports."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port, self.admin = free_port(), free_port()
        ports = ("--port", str(self.port), "--admin-port", str(self.admin))
        self.errors = (folder / "demo.log").open("wb")
        self.process = subprocess.Popen(
            [str(COMMAND), "demo", *ports, *options], stdout=subprocess.PIPE, stderr=self.errors, cwd=folder
        )
        self.text = ""
        assert self.process.stdout is not None
        while "Ctrl-C ends it" not in self.text:
            line = self.process.stdout.readline().decode()
            if not line:
                log = (folder / "demo.log").read_text()
                self.close()
                raise AssertionError(f"the demo ended:\n{self.text}\n{log}")
            self.text += line

    def ask(self) -> str:
        """The answer of service web."""
        with RawClient(self.port) as client:
            return client.request("GET", "/", host="web").text

    def pid_of(self, replica: str) -> int:
        found = re.search(rf"{replica}\s+pid (\d+)", self.text)
        assert found is not None
        return int(found[1])

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.errors.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningDemo]:
    demo_process = RunningDemo(tmp_path)
    yield demo_process
    demo_process.close()


def test_demo_answers_and_survives_a_killed_replica(running: RunningDemo) -> None:
    """An answer names the replica and the l5d fields it saw; after a kill the other replica answers every time."""
    first = running.ask()
    os.kill(running.pid_of("web-1"), signal.SIGKILL)
    after = {running.ask().split()[0] for _ in range(20)}

    assert first.split()[0] in ("web-1", "web-2")
    assert "l5d-dst-service: /svc/web" in first
    assert "l5d-dst-client: /#/io.l5d.fs/web" in first
    assert after == {"web-2"}


def test_demo_ends_cleanly_on_ctrl_c(running: RunningDemo) -> None:
    """SIGINT ends the demo with status 0, and its replicas with it."""
    pids = [running.pid_of(name) for name in ("web-1", "web-2", "users-1", "users-2")]

    running.process.send_signal(signal.SIGINT)
    status = running.process.wait(20)

    assert status == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
