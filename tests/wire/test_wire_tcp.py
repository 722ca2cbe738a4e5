"""TCP routers under real programs: Redis, PostgreSQL, TLS, curl, and streams through a running hostmesh."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.servers import fetch
from tests.servers.fetch import required
from tests.servers.running import eventually, running
from tests.wire.harness import Hostmesh, free_port

CONFIG = """\
admin: {ip: 127.0.0.1, port: @admin@, shutdownGraceMs: 3000}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
accessLog: {sample: 1.0}
routers:
- protocol: tcp
  label: db
  dtab: /svc => /#/io.l5d.fs
  identifier: {kind: io.l5d.tcp.static, path: /db}
  servers:
  - {port: @port@, ip: 127.0.0.1}
"""


class Acceptor:
    """An endpoint that runs ``serve(sock)`` on a thread for each connection."""

    def __init__(self, serve: Callable[[socket.socket], object]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._threads: list[threading.Thread] = []
        self._main = threading.Thread(target=self._accept)
        self._main.start()

    @property
    def line(self) -> str:
        return f"127.0.0.1 {self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(20)
            self.accepted += 1
            thread = threading.Thread(target=self._one, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _one(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._serve(sock)

    def __enter__(self) -> Acceptor:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._main.join(20)
        for thread in self._threads:
            thread.join(20)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def read_all(sock: socket.socket) -> bytes:
    pieces = []
    while data := sock.recv(65536):
        pieces.append(data)
    return b"".join(pieces)


# -- Redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, dict[str, str]]]:
    """A Redis server: its port, redis-benchmark, and the environment that this needs."""
    server, benchmark, libraries = required(fetch.redis)
    folder = tmp_path_factory.mktemp("redis")
    (folder / "redis-server").symlink_to(server)
    port = free_port()
    environment = {"LD_LIBRARY_PATH": libraries}
    command = [str(folder / "redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running(command, folder, port, environment):
        yield port, benchmark, environment


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        (["-n", "20000", "-c", "20", "-t", "set,get,lpush,lrange_100"], 20000),
        (["-n", "20000", "-c", "10", "-P", "32", "-t", "set,get"], 20000),
        (["-n", "1000", "-c", "5", "-d", "300000", "-t", "set,get"], 1000),
    ],
    ids=["small", "pipelined", "large"],
)
def test_redis_benchmark(
    tmp_path: Path, redis: tuple[int, Path, dict[str, str]], options: list[str], requests: int
) -> None:
    """Every request of redis-benchmark is answered, and every connection is counted and closed."""
    port, benchmark, environment = redis
    with Hostmesh(tmp_path, CONFIG, start=False) as mesh:
        mesh.set_endpoints("db", [f"127.0.0.1 {port}"])
        mesh.start()
        done = subprocess.run(
            [str(benchmark), "-h", "127.0.0.1", "-p", str(mesh.port), "--csv", *options],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        mesh.wait_metric("rt/db/client/#/io.l5d.fs/db/connections", lambda value: value == 0)
        metrics = mesh.metrics()
    rows = [line for line in done.stdout.splitlines() if line.startswith('"') and "rps" not in line]

    assert "rror" not in done.stderr
    assert len(rows) >= 2
    assert all(float(row.split('","')[1]) > 0 for row in rows)
    server = f"rt/db/server/127.0.0.1/{mesh.port}"
    assert metrics[f"{server}/connects"] == metrics[f"{server}/closes"] > 0
    assert metrics.get(f"{server}/failures", 0) == 0
    assert metrics[f"{server}/sent_bytes"] > 5 * requests
    assert metrics[f"{server}/received_bytes"] == metrics["rt/db/client/#/io.l5d.fs/db/sent_bytes"]


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


class Postgres:
    """A PostgreSQL server, and its clients pointed at some other port."""

    def __init__(self, programs: Path, port: int) -> None:
        self.programs = programs
        self.port = port

    def run(self, program: str, port: int, *arguments: str, **options: object) -> str:
        """What ``program`` says when it is told to connect to ``port``."""
        done = subprocess.run(
            [str(self.programs / program), "-h", "127.0.0.1", "-p", str(port), "-U", "tester", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def ask(self, port: int, sql: str) -> str:
        return self.run("psql", port, "-d", "postgres", "-XAtc", sql).strip()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    programs = required(fetch.postgresql)
    # The server refuses to run as root, and nobody else gets into pytest's folders.
    owner = 65534 if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="hostmesh-pg-") as name:
        folder = Path(name)
        if owner is not None:
            os.chown(folder, owner, owner)
        become = {} if owner is None else {"user": owner, "group": owner, "extra_groups": ()}
        data = folder / "data"
        made = subprocess.run(
            [str(programs / "initdb"), "--no-sync", "-A", "trust", "-U", "tester", "-D", str(data)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            **become,  # type: ignore[call-overload]
        )
        assert made.returncode == 0, made.stderr
        port = free_port()
        server = subprocess.Popen(
            [
                *(str(programs / "postgres"), "-D", str(data), "-p", str(port), "-F"),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **become,  # type: ignore[call-overload]
        )
        try:
            built = Postgres(programs, port)
            eventually(lambda: (dial(port).close(), True)[1])
            eventually(lambda: answers(built) or None)
            yield built
        finally:
            server.terminate()
            server.wait(20)
        if owner is not None:
            shutil.rmtree(data)


def answers(postgres: Postgres) -> bool:
    try:
        return postgres.ask(postgres.port, "select 1") == "1"
    except AssertionError:
        return False


@pytest.fixture
def database(tmp_path: Path, postgres: Postgres) -> Iterator[Hostmesh]:
    """A hostmesh in front of the server."""
    with Hostmesh(tmp_path, CONFIG, start=False) as mesh:
        mesh.set_endpoints("db", [f"127.0.0.1 {postgres.port}"])
        mesh.start()
        yield mesh


def test_psql(database: Hostmesh, postgres: Postgres) -> None:
    """Questions, an answer of some 70 MB, and as much uploaded: what the server has is what psql says."""
    ask = postgres.ask
    port = database.port
    assert ask(port, "select 6 * 7") == "42"

    series = "select n || repeat('x', 700) from generate_series(1, 100000) n"
    through = hashlib.sha256(ask(port, series).encode()).hexdigest()
    assert through == hashlib.sha256(ask(postgres.port, series).encode()).hexdigest()

    rows = "".join(f"{n}\t{'y' * 500}\n" for n in range(100_000))
    ask(port, "create table uploads (n int, t text)")
    postgres.run("psql", port, "-d", "postgres", "-Xc", "copy uploads from stdin", input=rows)
    wanted = f"100000|{sum(range(100_000))}|{500 * 100_000}"
    assert ask(port, "select count(*), sum(n), sum(length(t)) from uploads") == wanted
    ask(port, "drop table uploads")


def test_pgbench(database: Hostmesh, postgres: Postgres) -> None:
    """Transactions of eight clients, a new connection for each."""
    port = database.port
    postgres.run("pgbench", port, "-i", "-q", "postgres")
    said = postgres.run("pgbench", port, "-c", "8", "-t", "25", "-C", "postgres")

    assert re.search(r"transactions actually processed: 200/200", said), said
    assert re.search(r"failed transactions: 0 ", said), said
    database.wait_metric("rt/db/client/#/io.l5d.fs/db/connections", lambda value: value == 0)


def test_a_query_outlives_sigterm(database: Hostmesh, postgres: Postgres) -> None:
    """What runs when the drain begins has its time; nobody new is accepted; the exit is clean."""
    port = database.port
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(postgres.ask(port, "select 'slept' from pg_sleep(1.5)"))
    )
    thread.start()
    database.wait_metric("rt/db/client/#/io.l5d.fs/db/connections", lambda value: value == 1)
    database.terminate()
    database.wait_log("stopping")

    def refused() -> bool | None:
        try:
            dial(port).close()
        except ConnectionRefusedError:
            return True
        return None

    eventually(refused)
    thread.join(20)
    assert found == ["slept"]
    assert database.wait_exit() == 0


# -- TLS --------------------------------------------------------------------------------------------------------------

SNI = CONFIG.replace("identifier: {kind: io.l5d.tcp.static, path: /db}", "identifier: {kind: io.l5d.tcp.sni}")


def test_tls_is_routed_by_its_server_name(tmp_path: Path) -> None:
    """Two services behind one port, each with a certificate of its own that the caller verifies."""
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(Hostmesh(tmp_path, SNI, start=False))
        for name in ("one.example", "two.example"):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert(name).configure_cert(context)

            def serve(sock: socket.socket, context: ssl.SSLContext = context, name: str = name) -> None:
                with context.wrap_socket(sock, server_side=True) as secure:
                    secure.sendall(name.encode())
                    echo(secure)

            endpoint = stack.enter_context(Acceptor(serve))
            mesh.set_endpoints(name, [endpoint.line])
        mesh.start()
        heard = []
        for name in ("one.example", "two.example", "ONE.example"):
            with dial(mesh.port) as plain, trusting.wrap_socket(plain, server_hostname=name) as secure:
                heard.append(secure.recv(100))
                secure.sendall(b"ping")
                assert secure.recv(100) == b"ping"
        with dial(mesh.port) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
            trusting.wrap_socket(plain, server_hostname="three.example")
        mesh.wait_log('"reason": "name-negative"')

    assert heard == [b"one.example", b"two.example", b"one.example"]


CONNECT = """\
admin: {ip: 127.0.0.1, port: @admin@}
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
- protocol: http
  dtab: /svc => /#/io.l5d.fs
  servers:
  - {port: @port@, ip: 127.0.0.1, allowConnect: ["one.example:443"]}
"""


def test_curl_tunnels_to_what_is_allowed(tmp_path: Path) -> None:
    """TLS through CONNECT, its certificate verified by curl; another destination is 403."""
    authority = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("one.example").configure_cert(context)
    page = os.urandom(3 << 20)

    def serve(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)

    with Acceptor(serve) as endpoint, Hostmesh(tmp_path, CONNECT, start=False) as mesh:
        mesh.set_endpoints("one.example:443", [endpoint.line])
        mesh.start()

        def curl(host: str) -> subprocess.CompletedProcess[bytes]:
            command = [
                "curl",
                "-s",
                "-x",
                f"http://127.0.0.1:{mesh.port}",
                "--cacert",
                str(tmp_path / "ca.pem"),
            ]
            return subprocess.run(
                [*command, "-w", "%{http_connect}", "-o", str(tmp_path / "page"), f"https://{host}/"],
                capture_output=True,
                timeout=30,
                check=False,
            )

        allowed, refused = curl("one.example"), curl("two.example")
        metrics = mesh.metrics()

    assert (allowed.returncode, allowed.stdout) == (0, b"200")
    assert (tmp_path / "page").read_bytes() == page
    assert (refused.returncode, refused.stdout) == (56, b"403")
    server = f"rt/http/server/127.0.0.1/{mesh.port}"
    assert metrics[f"{server}/tunnels/sent_bytes"] > len(page)
    assert metrics[f"{server}/failures/policy-connect"] == 1


# -- PROXY protocol ---------------------------------------------------------------------------------------------------


def test_curl_says_who_it_is(tmp_path: Path) -> None:
    """curl's PROXY header comes in, ours goes out: the endpoint hears curl's own address, and its request behind."""
    heard: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += sock.recv(65536)
        heard.append(data)
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")

    config = CONFIG.replace("ip: 127.0.0.1}\n", "ip: 127.0.0.1, proxyProtocol: true}\n").replace(
        "  servers:\n", "  client: {proxyProtocol: v1}\n  servers:\n"
    )
    with Acceptor(serve) as endpoint, Hostmesh(tmp_path, config, start=False) as mesh:
        mesh.set_endpoints("db", [endpoint.line])
        mesh.start()
        done = subprocess.run(
            ["curl", "-s", "--haproxy-protocol", f"http://127.0.0.1:{mesh.port}/"],
            capture_output=True,
            timeout=20,
            check=True,
        )
        without = subprocess.run(
            ["curl", "-s", f"http://127.0.0.1:{mesh.port}/"], capture_output=True, timeout=20, check=False
        )
        mesh.wait_log('"reason": "bad-proxy-header"')

    assert done.stdout == b"ok"
    line, _, rest = heard[0].partition(b"\r\n")
    assert re.fullmatch(rb"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ %d" % mesh.port, line)
    assert rest.startswith(b"GET / HTTP/1.1\r\n")
    assert (without.returncode, len(heard)) == (56, 1)


# -- streams and ends -------------------------------------------------------------------------------------------------


@pytest.fixture
def echoing(tmp_path: Path) -> Iterator[Hostmesh]:
    with Acceptor(echo) as endpoint, Hostmesh(tmp_path, CONFIG, start=False) as mesh:
        mesh.set_endpoints("db", [endpoint.line])
        mesh.start()
        yield mesh


def test_half_closed_streams_come_back_whole(echoing: Hostmesh) -> None:
    """Sixteen callers send, say that this was all, and read it back; memory does not grow with it."""
    data = os.urandom(1 << 20) * 16
    failures: list[str] = []
    before = 0

    def one() -> None:
        with dial(echoing.port) as sock:
            reader: list[bytes] = []
            thread = threading.Thread(target=lambda: reader.append(read_all(sock)))
            thread.start()
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            thread.join(60)
            if reader != [data]:
                failures.append(f"{len(reader[0]) if reader else 'nothing'} came back")

    for turn in range(2):
        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if turn == 0:
            before = echoing.resident_bytes()

    assert failures == []
    assert echoing.resident_bytes() < before + (4 << 20)
    echoing.wait_metric("rt/db/client/#/io.l5d.fs/db/connections", lambda value: value == 0)
    metrics = echoing.metrics()
    assert metrics["rt/db/client/#/io.l5d.fs/db/sent_bytes"] == 16 * len(data)
    assert metrics["rt/db/client/#/io.l5d.fs/db/received_bytes"] == 16 * len(data)


def test_a_slow_reader_holds_its_endpoint_back(tmp_path: Path) -> None:
    """A caller that reads nothing makes the endpoint wait, costs no CPU, and gets everything in the end."""
    total = 64 << 20
    sent: list[int] = []

    def serve(sock: socket.socket) -> None:
        block = memoryview(b"z" * (1 << 20))
        for _ in range(total >> 20):
            sock.sendall(block)
            sent.append(len(block))

    with Acceptor(serve) as endpoint, Hostmesh(tmp_path, CONFIG, start=False) as mesh:
        mesh.set_endpoints("db", [endpoint.line])
        mesh.start()
        with dial(mesh.port) as sock:
            # Until nothing has moved for a while.
            counts: list[int] = []

            def stands() -> bool:
                counts.append(sum(sent))
                return len(counts) > 20 and counts[-20] == counts[-1] > 0

            mesh.wait(stands, "a standstill")
            assert sum(sent) < total
            before = mesh.metrics()["process/loop/events"]
            for _ in range(5):
                last = mesh.metrics()["process/loop/events"]
            # Asking costs events, too: some ten each.
            assert last - before < 200
            assert len(read_all(sock)) == total


def test_a_reset_is_a_reset_on_the_other_side(echoing: Hostmesh) -> None:
    """SO_LINGER 0 at one end is ECONNRESET at the other, both ways, and the log says who it was."""
    with dial(echoing.port) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"hello"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    echoing.wait_log('"reason": "reset-by-caller"')

    def reset(sock: socket.socket) -> None:
        sock.recv(100)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Acceptor(reset) as rude:
        echoing.set_endpoints("db", [rude.line])
        echoing.wait_metric("rt/db/client/#/io.l5d.fs/db/loadbalancer/removes", lambda value: value == 1)
        with dial(echoing.port) as sock:
            sock.sendall(b"hello")
            with pytest.raises(ConnectionResetError):
                read_all(sock)
        echoing.wait_log('"reason": "reset-by-endpoint"')


def test_a_dead_endpoint_is_not_noticed(tmp_path: Path) -> None:
    """Connects that are refused go to the endpoint that lives; after five it is not dialled."""
    with Acceptor(echo) as endpoint, Hostmesh(tmp_path, CONFIG, start=False) as mesh:
        mesh.set_endpoints("db", [endpoint.line, f"127.0.0.1 {free_port()}"])
        mesh.start()
        for _ in range(60):
            with dial(mesh.port) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        metrics = mesh.metrics()

    assert endpoint.accepted == 60
    client = "rt/db/client/#/io.l5d.fs/db"
    assert 1 <= metrics[f"{client}/service_creation/failures"] <= 6
    assert metrics[f"{client}/retries/requeues"] == metrics[f"{client}/service_creation/failures"]


def test_a_reload_keeps_connections(echoing: Hostmesh) -> None:
    """A connection goes on through a change of its own port's settings, and through the end of its port."""
    with dial(echoing.port) as sock:
        sock.sendall(b"one")
        assert sock.recv(100) == b"one"
        echoing.write_config(CONFIG.replace("@port@", "@other@"))
        echoing.wait_log('"event": "reloaded"')
        sock.sendall(b"two")
        assert sock.recv(100) == b"two"
        with dial(echoing.ports["other"]) as other:
            other.sendall(b"three")
            assert other.recv(100) == b"three"
        with pytest.raises(ConnectionRefusedError):
            dial(echoing.port)


def test_descriptors_come_back(echoing: Hostmesh) -> None:
    """A thousand connections, one after the other and many at once, leave nothing open."""
    for _ in range(3):
        with dial(echoing.port) as sock:
            sock.sendall(b"x" * 300_000)
            sock.shutdown(socket.SHUT_WR)
            assert len(read_all(sock)) == 300_000
    echoing.wait_metric("rt/db/client/#/io.l5d.fs/db/connections", lambda value: value == 0)
    before = echoing.open_descriptors()
    for _ in range(10):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(dial(echoing.port)) for _ in range(100)]
            for sock in socks:
                sock.sendall(b"hello")
            for sock in socks:
                assert sock.recv(5) == b"hello"
    echoing.wait_metric("rt/db/client/#/io.l5d.fs/db/connections", lambda value: value == 0)

    assert echoing.open_descriptors() <= before + 2
