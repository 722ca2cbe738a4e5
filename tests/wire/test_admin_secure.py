"""The admin port over TLS: Python's own ssl as the other side, and what is no TLS at all."""

from __future__ import annotations

import gc
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from hostmesh.admin import secure
from hostmesh.admin import serve as serving
from hostmesh.admin.secure import PLAINTEXT_ANSWER
from hostmesh.protocol.tls.codec import TlsCodec
from hostmesh.protocol.tls.contexts import ServerContexts
from hostmesh.protocol.tls.credentials import KeyPair, Pem, Trust
from tests.tls_files import Issued, TlsFiles
from tests.wire.test_admin_serve import Running, SlowNamer, explaining, make_view, parse, read_all, running

PING = b"GET /admin/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Peer:
    """A caller with TLS that keeps what it saw: bytes of the answer, and the error that ended it."""

    def __init__(self, data: bytes = b"", error: BaseException | None = None, version: str = "") -> None:
        self.data = data
        self.error = error
        self.version = version

    @property
    def alert(self) -> str:
        """OpenSSL's name of the alert that was received."""
        cause = self.error.__cause__ if isinstance(self.error, trio.BrokenResourceError) else self.error
        return str(getattr(cause, "reason", None))


async def ask(
    admin: Running, context: ssl.SSLContext, request: bytes = PING, *, name: str = "localhost", port: int = 0
) -> Peer:
    """One request over one connection."""
    raw = await trio.open_tcp_stream("127.0.0.1", port or admin.port)
    stream = trio.SSLStream(raw, context, server_hostname=name)
    peer = Peer()
    try:
        await stream.send_all(request)
        peer.version = str(stream.version())
        while piece := await stream.receive_some():
            peer.data += piece
    except (trio.BrokenResourceError, ssl.SSLError) as error:
        peer.error = error
    await trio.aclose_forcefully(stream)
    return peer


def run(test: Callable[[], Any]) -> None:
    trio.run(test)


def contexts_of(files: TlsFiles, pair: Issued, *, callers: str = "") -> ServerContexts:
    """What a listener of the mesh presents; ``callers`` is ``must`` or ``may`` show certificates."""
    more = None if pair.intermediates is None else pem(pair.intermediates)
    return ServerContexts(
        [KeyPair.read(pem(pair.cert), pem(pair.key), more)],
        Trust.read([pem(files.ca)]) if callers else None,
        require_client_auth=callers == "must",
    )


def pem(path: Path) -> Pem:
    return Pem(str(path), path.read_bytes())


def counted(view: Any) -> dict[str, float]:
    """The counters of the admin's TLS."""
    return {
        name: view.metrics.scope("admin", "tls").counter(name).value
        for name in ("handshakes", "failures", "plaintext")
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_page_over_tls(tls_files: TlsFiles, version: ssl.TLSVersion) -> None:
    """Both versions; the answer is complete, and the identifier port is TLS like the pages."""
    context = contexts_of(tls_files, tls_files.web)
    view = make_view()

    async def test() -> None:
        async with running(view, tls=lambda: context) as admin:
            client = tls_files.client_context(oldest=version, newest=version)
            assert parse((await ask(admin, client)).data) == (200, b"pong")
            peer = await ask(
                admin, client, PING.replace(b"localhost", b"web"), port=admin.identifier_port, name="web"
            )
            assert json.loads(parse(peer.data)[1]) == {"http": {"path": "/svc/web", "dtab": ""}}

    run(test)

    assert counted(view) == {"handshakes": 2, "failures": 0, "plaintext": 0}


def test_a_long_answer_over_tls(tls_files: TlsFiles) -> None:
    """Some hundred records, whole and in order, on a connection that is kept for the next request."""
    context = contexts_of(tls_files, tls_files.web)
    body = "".join(f"{number:07}," for number in range(500_000))

    async def test() -> None:
        async with running(make_view(config_json=lambda: body), tls=lambda: context) as admin:
            request = b"GET /config.json HTTP/1.1\r\nHost: localhost\r\n\r\n" + PING
            answer = (await ask(admin, tls_files.client_context(), request)).data
            assert body.encode() in answer
            assert answer.endswith(b"pong")

    run(test)


def test_x6_the_host_check_holds_over_tls(tls_files: TlsFiles) -> None:
    """TLS does not make a rebound name harmless: on loopback a foreign Host is refused as in plain text."""
    context = contexts_of(tls_files, tls_files.web)

    async def test() -> None:
        async with running(make_view(), tls=lambda: context) as admin:
            client = tls_files.client_context()
            foreign = await ask(admin, client, PING.replace(b"localhost", b"evil.example"))
            assert parse(foreign.data)[0] == 403
            stop = b"POST /admin/shutdown HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
            peer = await ask(admin, client, stop + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            assert parse(peer.data)[0] == 403

    run(test)


@pytest.mark.parametrize(
    ("who", "alert", "cause"),
    [
        (None, "CERTIFICATE_REQUIRED", "it has shown no certificate"),
        ("other", "UNKNOWN_CA", "is signed by a CA that is not among the trusted ones"),
        ("expired", "CERTIFICATE_EXPIRED", "has expired"),
        ("server_only", "UNSUPPORTED_CERTIFICATE", "may not be used for this side of a connection"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_x5_a_wrong_client_certificate_gets_an_alert(
    tls_files: TlsFiles,
    version: ssl.TLSVersion,
    who: str | None,
    alert: str,
    cause: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With requireClientAuth: the alert that says why, and not one byte of an answer."""
    context = contexts_of(tls_files, tls_files.web, callers="must")
    view = make_view()
    pair: Issued | None = None if who is None else getattr(tls_files, who)
    client = tls_files.client_context(pair, oldest=version, newest=version)
    right = tls_files.client_context(tls_files.client, oldest=version, newest=version)

    async def test() -> None:
        async with running(view, tls=lambda: context) as admin:
            refused = await ask(admin, client)
            assert refused.data == b""
            if who is None and version == ssl.TLSVersion.TLSv1_2:
                assert "HANDSHAKE_FAILURE" in refused.alert  # what version 1.2 has for it
            else:
                assert alert in refused.alert
            assert parse((await ask(admin, right)).data)[0] == 200

    run(test)

    assert counted(view) == {"handshakes": 1, "failures": 1, "plaintext": 0}
    assert cause in caplog.text + capsys.readouterr().out


def test_optional_client_certificates_are_still_checked(tls_files: TlsFiles) -> None:
    """Contexts that ask without demanding let in who shows none, and not who shows a wrong one."""
    context = contexts_of(tls_files, tls_files.web, callers="may")

    async def test() -> None:
        async with running(make_view(), tls=lambda: context) as admin:
            assert parse((await ask(admin, tls_files.client_context())).data)[0] == 200
            wrong = await ask(admin, tls_files.client_context(tls_files.other))
            assert (wrong.data, "UNKNOWN_CA" in wrong.alert) == (b"", True)

    run(test)


@pytest.mark.parametrize(
    "request_bytes",
    [
        PING,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["get", "post", "h2"],
)
def test_plaintext_on_the_tls_port_is_told_so(tls_files: TlsFiles, request_bytes: bytes) -> None:
    """A 400 that a person understands, and it arrives however much was being sent."""
    context = contexts_of(tls_files, tls_files.web)
    view = make_view()

    async def test() -> None:
        async with running(view, tls=lambda: context) as admin:
            stream = await admin.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, request_bytes)
                answer = await read_all(stream)
            await stream.aclose()
            assert answer == PLAINTEXT_ANSWER
            assert parse(answer)[0] == 400

    run(test)

    assert counted(view) == {"handshakes": 0, "failures": 1, "plaintext": 1}


def test_an_old_version_is_refused(tls_files: TlsFiles) -> None:
    """A hello of TLS 1.1 gets the alert protocol_version (70)."""
    context = contexts_of(tls_files, tls_files.web)
    hello = bytes.fromhex("16030100310100002d0302" + "11" * 32 + "00" + "0006c009c013002f" + "0100")

    async def test() -> None:
        async with running(make_view(), tls=lambda: context) as admin:
            stream = await admin.connect()
            await stream.send_all(hello)
            answer = await read_all(stream)
            await stream.aclose()
            assert (answer[0], answer[5:7]) == (21, b"\x02\x46")

    run(test)


def test_new_certificates_are_for_new_connections(tls_files: TlsFiles) -> None:
    """A connection that stands goes on with the old one; the next one shows the new one."""
    contexts = [contexts_of(tls_files, tls_files.web)]

    async def test() -> None:
        async with running(make_view(), tls=lambda: contexts[-1]) as admin:
            client = tls_files.client_context()
            raw = await admin.connect()
            old = trio.SSLStream(raw, client, server_hostname="localhost")
            await old.do_handshake()
            contexts.append(contexts_of(tls_files, tls_files.between))
            other = trio.SSLStream(await admin.connect(), client, server_hostname="localhost")
            await other.do_handshake()
            serials = [int(each.getpeercert()["serialNumber"], 16) for each in (old, other)]
            assert serials == [tls_files.web.serial, tls_files.between.serial]
            await old.send_all(PING)
            assert b"HTTP/1.1 200" in await old.receive_some()
            for each in (old, other):
                await trio.aclose_forcefully(each)

    run(test)


def test_x3_a_handshake_that_stalls_is_ended(
    tls_files: TlsFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After HANDSHAKE_S, whether nothing came or a part of a hello."""
    monkeypatch.setattr(secure, "HANDSHAKE_S", 0.1)
    context = contexts_of(tls_files, tls_files.web)
    view = make_view()

    async def test() -> None:
        async with running(view, tls=lambda: context) as admin:
            for begin in (b"", b"\x16\x03\x01"):
                stream = await admin.connect()
                if begin:
                    await stream.send_all(begin)
                assert await stream.receive_some() == b""
                await stream.aclose()

    run(test)

    assert counted(view)["failures"] == 2
    assert "no handshake within 0.1 s" in capsys.readouterr().out


def test_x3_stalled_handshakes_keep_nobody_out(tls_files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many more stalled ones than there is room for, the next caller is answered; the oldest are given up."""
    monkeypatch.setattr(secure, "MAX_HANDSHAKES", 3)
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    context = contexts_of(tls_files, tls_files.web)

    async def test() -> None:
        async with running(make_view(), tls=lambda: context) as admin:
            stalled = [await admin.connect() for _ in range(12)]
            for stream in stalled[:9]:
                assert await stream.receive_some() == b""
            assert parse((await ask(admin, tls_files.client_context())).data)[0] == 200
            for stream in stalled:
                await stream.aclose()

    run(test)


def test_x3_failed_handshakes_leave_nothing(tls_files: TlsFiles, own_descriptors: Callable[[], int]) -> None:
    """Of a hundred of each kind neither a descriptor nor an engine is left."""
    context = contexts_of(tls_files, tls_files.web, callers="must")
    wrong = tls_files.client_context(tls_files.other)

    async def test() -> None:
        async with running(make_view(), tls=lambda: context) as admin:
            await ask(admin, wrong)
            before = own_descriptors()
            for _ in range(100):
                await ask(admin, wrong)
                for said in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x05hello", PING):
                    stream = await admin.connect()
                    if said:
                        await stream.send_all(said)
                    await stream.send_eof()
                    await read_all(stream)
                    await stream.aclose()
            assert own_descriptors() == before
            gc.collect()
            assert [
                each for each in gc.get_objects() if isinstance(each, secure.SecureStream | TlsCodec)
            ] == []

    run(test)


@pytest.fixture
def own_descriptors() -> Callable[[], int]:
    """How many this process has open."""
    return lambda: len(list(Path("/proc/self/fd").iterdir()))


def test_stop_lets_an_answer_over_tls_finish(tls_files: TlsFiles) -> None:
    """A page that is being made when the stop comes is delivered whole, and TLS's own end with it."""
    context = contexts_of(tls_files, tls_files.web)
    namer = SlowNamer()

    async def test() -> None:
        async with running(explaining(namer), tls=lambda: context, shutdown_grace_ms=600_000) as admin:
            request = b"GET /delegator.json?path=/svc HTTP/1.1\r\nHost: localhost\r\n\r\n"
            peers: list[Peer] = []

            async def caller() -> None:
                peers.append(await ask(admin, tls_files.client_context(), request))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(caller)
                await namer.asked.wait()
                admin.stop.set()
                namer.answer()
            await admin.ended.wait()
            assert peers[0].error is None
            assert parse(peers[0].data) == (200, b'{"type": "neg", "path": "~"}\n')

    run(test)


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_tls_peer_that_does_not_read_cannot_hold_the_end(tls_files: TlsFiles, how: str) -> None:
    """The answer is larger than what the kernel buffers, and nobody takes it."""
    context = contexts_of(tls_files, tls_files.web)

    async def test() -> None:
        view = make_view(config_json=lambda: "x" * 30_000_000)
        async with running(view, tls=lambda: context, shutdown_grace_ms=50) as admin:
            stream = trio.SSLStream(
                await admin.connect(), tls_files.client_context(), server_hostname="localhost"
            )
            await stream.send_all(b"GET /config.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some(1)
            if how == "stop":
                admin.stop.set()
            else:
                admin.scope.cancel()
            with trio.fail_after(serving.WRITE_STALL_S / 2):
                await admin.ended.wait()
            await trio.aclose_forcefully(stream)

    run(test)
