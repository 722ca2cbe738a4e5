"""A real ZooKeeper, in a process of its own with private port and data, and the test's own client for it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

from attrs import frozen
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.servers.far_network import Link
from tests.servers.fetch import required, zookeeper
from tests.servers.running import eventually
from tests.wire.harness import free_port

TICK_MS = 200
"""Small, because sessions may not be shorter than two ticks."""


@frozen
class Secure:
    """A second port of a server, with TLS: PEM files, of which ``store`` holds the key and the chain."""

    port: int
    store: Path
    ca: Path
    demands: bool = True
    """Clients have to show a certificate of ``ca``."""

    def config(self) -> str:
        return (
            f"secureClientPort={self.port}\nsecureClientPortAddress=127.0.0.1\n"
            "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n"
            "authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider\n"
            f"ssl.keyStore.location={self.store}\nssl.keyStore.type=PEM\n"
            f"ssl.trustStore.location={self.ca}\nssl.trustStore.type=PEM\n"
            f"ssl.clientAuth={'need' if self.demands else 'none'}\nssl.hostnameVerification=false\n"
        )


class ZooKeeperServer:
    """One server. A context manager; ``with`` starts it. Data survive :meth:`kill`.

    ``peers`` are the ports of an ensemble's servers among themselves, two for each server; ``number`` says which
    of them are this one's, from 1.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        number: int = 1,
        peers: tuple[tuple[int, int], ...] = (),
        link: Link | None = None,
        secure: Secure | None = None,
    ) -> None:
        self.command = required(zookeeper)
        self.prefix = () if link is None else link.prefix
        self.host = "127.0.0.1" if link is None else link.direct
        listen = "127.0.0.1" if link is None else link.listen
        if peers:
            self.command = [*self.command[:-1], "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
        self.folder = folder
        self.port = free_port() if port is None else port
        self.process: subprocess.Popen[bytes] | None = None
        self._client: KazooClient | None = None
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / "myid").write_text(str(number))
        others = "".join(f"server.{each}=127.0.0.1:{a}:{b}\n" for each, (a, b) in enumerate(peers, 1))
        (folder / "zoo.cfg").write_text(
            others + f"tickTime={TICK_MS}\ninitLimit=10\nsyncLimit=5\ndataDir={folder / 'data'}\n"
            f"clientPort={self.port}\nclientPortAddress={listen}\nadmin.enableServer=false\n"
            "minSessionTimeout=400\nmaxSessionTimeout=60000\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n"
            # fsync of every write costs tens of milliseconds on a busy disk, and nothing here is to survive power loss.
            "forceSync=no\n" + ("" if secure is None else secure.config())
        )

    def __enter__(self) -> ZooKeeperServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close_client()
        self.kill()

    # The process.

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until it answers; a server of an ensemble answers when it has a leader."""
        eventually(lambda: True if "imok" in self.word("ruok") and "Mode:" in self.word("srvr") else None)

    def launch(self) -> None:
        """Start it."""
        with open(self.folder / "zookeeper.log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self.command, str(self.folder / "zoo.cfg")],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """SIGKILL, as a crash does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """While it is down: lose all data."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def word(self, word: str) -> str:
        """The answer to a four-letter word."""
        with socket.create_connection((self.host, self.port), timeout=2) as peer:
            peer.sendall(word.encode())
            answer = b""
            while data := peer.recv(65536):
                answer += data
        return answer.decode()

    def watches(self) -> int:
        """How many watches are armed at the server."""
        return int(dict(line.split("\t") for line in self.word("mntr").splitlines())["zk_watch_count"])

    def connections(self) -> int:
        """How many clients are connected, this call's own connection left out."""
        return int(
            dict(line.split("\t") for line in self.word("mntr").splitlines())["zk_num_alive_connections"]
        )

    # The test's own client.

    @property
    def client(self) -> KazooClient:
        """Connected; a new one after the server was down."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    def connect(self, **options: Any) -> KazooClient:
        """One more client; the caller ends it."""
        retry = {"max_tries": -1, "delay": 0.05, "max_delay": 0.2}
        client = KazooClient(
            f"{self.host}:{self.port}", connection_retry=retry, **{"timeout": 30.0, **options}
        )
        client.start(timeout=30)
        return client

    def close_client(self) -> None:
        """Needed before the server goes down for long: a client has no patience with it."""
        if self._client is not None:
            end(self._client)
            self._client = None

    def put(self, path: str, host: str, port: int, **more: Any) -> str:
        """Add a member that stays when this client's session ends; the path of its node."""
        return str(self.put_raw(path, json.dumps(member(host, port, **more)).encode()))

    def put_raw(self, path: str, content: bytes, prefix: str = "member_") -> str:
        """Add any child with a sequence number."""
        return str(self.client.create(f"{path}/{prefix}", content, sequence=True, makepath=True))

    def remove(self, node: str) -> None:
        with contextlib.suppress(NoNodeError):
            self.client.delete(node)

    def children(self, path: str) -> list[str]:
        """None is an empty list."""
        try:
            return sorted(self.client.get_children(path))
        except NoNodeError:
            return []

    def expire(self, session: str) -> None:
        """End a session by its id in hexadecimal, as the server's own timeout does."""
        number = int(session, 16)
        # Whoever has a session's password may continue it elsewhere, and close it, if its owner is not back before.
        connect = struct.pack("!iqiqi16s?", 0, 0, 10_000, number, 16, password_of(number), False)
        close = struct.pack("!ii", 1, -11)
        while f"0x{number:x}" in self.word("dump"):
            with socket.create_connection((self.host, self.port), timeout=10) as peer:
                peer.sendall(b"".join(struct.pack("!i", len(each)) + each for each in (connect, close)))
                with contextlib.suppress(OSError):
                    while peer.recv(65536):
                        pass


def password_of(session: int) -> bytes:
    """The password that a server gives out for a session: java.util.Random seeded with its id."""
    state = (session ^ 0xB3415C00 ^ 0x5DEECE66D) & (1 << 48) - 1
    words = b""
    for _ in range(4):
        state = (state * 0x5DEECE66D + 0xB) & (1 << 48) - 1
        words += (state >> 16).to_bytes(4, "little")
    return words


def member(host: str, port: int, **more: Any) -> dict[str, Any]:
    """A living member as Twitter's libraries write it."""
    return {
        "serviceEndpoint": {"host": host, "port": port},
        "additionalEndpoints": {},
        "status": "ALIVE",
        "shard": 0,
        **more,
    }


def end(client: KazooClient) -> None:
    """Close a client, whatever state its server is in."""
    with contextlib.suppress(Exception):
        client.stop()
        client.close()
