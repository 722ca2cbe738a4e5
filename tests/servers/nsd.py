"""A real authoritative name server, NLnet Labs' NSD, with one zone that tests change."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from hostmesh.registry import dns_wire as wire
from tests.servers.far_network import Link
from tests.servers.running import eventually, free_port, running

CONFIG = """\
server:
  ip-address: {listen}@{port}
  port: {port}
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  zonelistfile: "{folder}/zone.list"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  server-count: 1
  reuseport: no
  zonefiles-check: yes
  do-ip6: no
  refuse-any: no
  # Many questions from one address are what a test is.
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: example
  zonefile: example.zone
"""

SOA = "@ 1 IN SOA ns.example. root.example. {serial} 60 60 600 1\n@ 1 IN NS ns\nns 1 IN A 127.0.0.1\n"


class NameServer:
    """NSD on ``127.0.0.1:port``, serving ``example``."""

    def __init__(self, program: tuple[Path, str], folder: Path, link: Link | None = None) -> None:
        """``program`` is what :func:`tests.servers.fetch.nsd` returns."""
        self.program, self._libraries = program
        self.folder = folder
        self.port = free_port()
        self.link = link or Link()
        self.serial = 1
        self.process: subprocess.Popen[bytes] | None = None
        self.records: list[str] = []
        self._stack = contextlib.ExitStack()
        (folder / "nsd.conf").write_text(
            CONFIG.format(listen=self.link.listen, port=self.port, folder=folder)
        )
        self._write()

    def _write(self) -> None:
        text = "$ORIGIN example.\n" + SOA.format(serial=self.serial) + "".join(f"{r}\n" for r in self.records)
        fresh = self.folder / "example.zone.new"
        fresh.write_text(text)
        fresh.rename(self.folder / "example.zone")

    def start(self) -> None:
        """Start, and wait until it answers."""
        env = {"LD_LIBRARY_PATH": self._libraries}
        command = [*self.link.prefix, str(self.program), "-d", "-c", str(self.folder / "nsd.conf")]
        self.process = self._stack.enter_context(
            running(command, self.folder, self.port, env, host=self.link.direct)
        )
        self.wait_serial()

    def kill(self) -> None:
        """SIGKILL of all its processes."""
        self._signal_all(signal.SIGKILL)
        self._stack.close()

    def freeze(self) -> None:
        """SIGSTOP: it takes questions and answers none."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self.process is not None
        for pid in [*_children(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def put(self, records: Sequence[str]) -> None:
        """Replace the zone's records (lines of a zone file) and return when the server answers with them."""
        self.records = list(records)
        self.serial += 1
        self._write()
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.wait_serial()

    def wait_serial(self) -> None:
        """Wait until the server answers with the zone as it was last written."""

        def is_new() -> bool | None:
            return True if self.asked_serial() == self.serial else None

        eventually(is_new)

    def asked_serial(self) -> int:
        """The zone's serial, as the server gives it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect((self.link.direct, self.port))
            sock.send(wire.question(7, "example", wire.SOA))
            data = sock.recv(4096)
        # The five numbers at the end of the first record's data; the serial is the first of them.
        at = wire._name(data, 12)[1] + 4
        at = wire._name(data, at)[1]
        length = struct.unpack_from("!H", data, at + 8)[0]
        serial: int = struct.unpack_from("!I", data, at + 10 + length - 20)[0]
        return serial


def _children(pid: int) -> list[int]:
    """The processes below this one."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [*_children(int(child)), int(child)]
    return found


@contextlib.contextmanager
def name_server(program: tuple[Path, str], folder: Path, link: Link | None = None) -> Iterator[NameServer]:
    """A started one."""
    folder.mkdir(exist_ok=True)
    server = NameServer(program, folder, link)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.thaw()
        server._stack.close()
