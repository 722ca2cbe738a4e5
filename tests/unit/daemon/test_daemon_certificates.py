"""Contexts made of real files through the daemon's file watch: what is shared, replaced, refused and let go."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import pytest
import trio

from hostmesh.base.errors import ConfigError
from hostmesh.config.load import load
from hostmesh.config.model import LinkerConfig
from hostmesh.config.tls import CertificateFiles, ClientAuthConfig, ClientTlsConfig, ServerTlsConfig
from hostmesh.daemon.certificates import TICKET_KEYS_S, Certificates
from hostmesh.daemon.shared import Shared
from hostmesh.daemon.tls_places import Fetched, fetch, fetch_on_thread, tls_objects
from hostmesh.pump.memory import MemoryLoop
from hostmesh.telemetry.labels import extract
from tests.fs_world import RealEnv
from tests.tls_making import Authority, Leaf, key_pem

CA, OTHER = Authority("mesh CA"), Authority("other CA")
OLD, NEW = CA.leaf("web.mesh"), CA.leaf("web.mesh")
PATIENCE = 10.0
"""Seconds for what takes milliseconds."""


class Host:
    """A folder of PEM files and the certificates of a daemon that reads them."""

    def __init__(self, folder: FilePath, *, settle_s: float = 0.05) -> None:
        self.folder = folder
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        loop = MemoryLoop()
        self.shared = Shared(
            env=RealEnv(),
            report=self._say("report"),
            report_error=self._raise,
            warn=self._say("warn"),
            alarm=self._say("alarm"),
            loop=loop,
        )
        self.shared.turn.wake = self._wake
        self._changed = trio.Event()
        self._running = False
        self.certificates = Certificates(self.shared, settle_s=settle_s)
        self.write("ca", CA.pem)
        self.install(OLD)

    def _say(self, level: str) -> Any:
        def say(event: str, facts: Mapping[str, object]) -> None:
            self.told.append((level, event, dict(facts)))
            self._changed.set()

        return say

    def _raise(self, error: BaseException) -> None:
        raise error

    def _wake(self) -> None:
        if self._running:
            trio.lowlevel.current_trio_token().run_sync_soon(self._turn)

    def _turn(self) -> None:
        self.shared.turn.run()
        self._changed.set()

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            self._running = True
            async with trio.open_nursery() as nursery:
                await nursery.start(self.shared.run)
                self._turn()
                await test()
                self._running = False
                nursery.cancel_scope.cancel()

        trio.run(main)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not condition():
                self._changed = trio.Event()
                await self._changed.wait()

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(0o600)
        return str(path)

    def rename(self, name: str, data: bytes) -> None:
        """Put in place as careful tools do."""
        os.replace(self.write(f".{name}.new", data), self.path(name))

    def install(self, leaf: Leaf) -> None:
        self.write("cert", leaf.cert_pem)
        self.write("key", leaf.key_pem)

    def server(self, **more: Any) -> ServerTlsConfig:
        return ServerTlsConfig(cert_path=self.path("cert"), key_path=self.path("key"), **more)

    def client(self, **more: Any) -> ClientTlsConfig:
        options = {"common_name": "web.mesh", "trust_certs_bundle": self.path("ca"), **more}
        return ClientTlsConfig(**options)

    def serial(self, config: ServerTlsConfig) -> int:
        return self.certificates.server(config).value.pairs[0].serial

    def events(self) -> list[str]:
        return [f"{level} {event}" for level, event, _facts in self.told]

    def gauge(self, kind: str, name: str, metric: str) -> Any:
        found = self.shared.metrics.children["tls"].children[kind].children[self.path(name)].children[metric]
        return found.metric.read() if hasattr(found.metric, "read") else found.metric.value


@pytest.fixture
def host(tmp_path: FilePath) -> Host:
    return Host(tmp_path)


def config_of(host: Host, servers: str, client: str = "") -> LinkerConfig:
    """Of YAML; ``@`` is the folder."""
    text = f"routers:\n- protocol: http\n  servers: [{servers}]\n  client: {{{client}}}\n"
    config, report = load(text.replace("@", str(host.folder)), "f")
    assert config is not None, report.mistake_lines()
    return config


SERVER = "{port: 4140, tls: {certPath: @/cert, keyPath: @/key}}"


def test_contexts_have_what_the_files_say(host: Host) -> None:
    """Pairs in their order, CAs and revocation lists; a client that shows nothing has no pair."""
    host.write("crl", CA.crl(NEW))
    host.write("cert2", NEW.cert_pem)
    host.write("key2", NEW.key_pem)
    more = CertificateFiles(cert_path=host.path("cert2"), key_path=host.path("key2"))
    auth = ClientAuthConfig(cert_path=host.path("cert"), key_path=host.path("key"))

    full = host.server(
        ca_cert_path=host.path("ca"),
        crl_path=host.path("crl"),
        require_client_auth=True,
        certificates=(more,),
        ciphers=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",),
        protocols=("TLSv1.2",),
    )
    server = host.certificates.server(full).value
    client = host.certificates.client(host.client(client_auth=auth)).value
    alone = host.certificates.client(ClientTlsConfig(disable_validation=True)).value

    assert [pair.serial for pair in server.pairs] == [OLD.serial, NEW.serial]
    assert server.trust is not None
    assert (server.trust.cas, len(server.trust.crls)) == ((CA.certificate,), 1)
    assert client.trust is not None
    assert client.pair is not None
    assert (client.trust.cas, client.pair.serial, client.validate) == ((CA.certificate,), OLD.serial, True)
    assert (alone.trust, alone.pair, alone.validate) == (None, None, False)


def test_equal_objects_share_and_names_do_not_matter(host: Host) -> None:
    """One Var for all servers of one pair, one for all names of one CA; each file is watched once."""
    server, other = host.server(), host.server(protocols=("TLSv1.3",))

    assert host.certificates.server(server) is host.certificates.server(host.server())
    assert host.certificates.server(server) is not host.certificates.server(other)
    assert host.certificates.client(host.client()) is host.certificates.client(
        host.client(common_name="b.mesh")
    )
    assert len(host.shared.files) == 3
    assert len(host.certificates.parts()) == 2


def test_every_file_that_cannot_be_used_is_named_with_its_key(host: Host) -> None:
    """All at once, and nothing of the configuration stays."""
    host.write("bad", b"hello")
    host.write("key2", NEW.key_pem)
    config = config_of(
        host,
        f"{SERVER}, {{port: 4141, tls: {{certPath: @/cert, keyPath: @/key2}}}}, "
        "{port: 4142, tls: {certPath: @/cert, keyPath: @/key, certificates: [{certPath: @/no, keyPath: @/key}]}}",
        "kind: io.l5d.static, configs: [{prefix: /, tls: {commonName: a, trustCertsBundle: @/bad}}, "
        "{prefix: /, tls: {commonName: a, trustCerts: [@/ca, @/no]}}, {prefix: /, tls: {enabled: false}}]",
    )

    with pytest.raises(ConfigError) as caught:
        host.certificates.prepare(config)

    at = str(host.folder)
    assert str(caught.value).replace(at, "@").splitlines() == [
        "routers[0].servers[1].tls.keyPath: @/key2: this is not the key of the certificate in @/cert; "
        "replace both, or write both again from the same source",
        "routers[0].servers[2].tls.certificates[0].certPath: @/no: expected a file, found nothing at @/no",
        "routers[0].client.configs[0].tls.trustCertsBundle: @/bad: found no PEM, expected CERTIFICATE in PEM",
        "routers[0].client.configs[1].tls.trustCerts[1]: @/no: expected a file, found nothing at @/no",
    ]
    assert host.certificates.parts() == []
    with pytest.raises(ConfigError, match=r"tls\.certPath: .*no: expected a file"):
        host.certificates.server(ServerTlsConfig(cert_path=host.path("no"), key_path=host.path("key")))


def test_places_are_those_of_the_file(host: Host) -> None:
    """A client block without a kind has no list of configs; what is switched off is not loaded."""
    config = config_of(host, SERVER, "tls: {commonName: a, trustCertsBundle: @/ca}")

    assert [place for place, _tls in tls_objects(config)] == [
        "routers[0].servers[0].tls",
        "routers[0].client.tls",
    ]


def test_r10_what_has_been_fetched_is_not_read_again(host: Host) -> None:
    """A reload reads on a thread, errors too; what happens to the files meanwhile is for those who watch them."""
    config = config_of(host, SERVER, "tls: {commonName: a, trustCertsBundle: @/no-ca}")
    fetched = fetch(config)
    assert set(fetched) == {host.path(name) for name in ("cert", "key", "no-ca")}
    host.certificates.fetched = fetched
    for name in ("cert", "key"):
        (host.folder / name).unlink()
    host.write("no-ca", CA.pem)

    with pytest.raises(ConfigError) as refused:
        host.certificates.prepare(config)

    assert str(refused.value) == (
        f"routers[0].client.tls.trustCertsBundle: {host.path('no-ca')}: expected a file, found nothing at "
        f"{host.path('no-ca')}"
    )


def test_r10_a_disk_that_hangs_is_given_up(host: Host) -> None:
    """After a bound, and with one thread at most however often a reload is tried; nothing else waits for it."""
    config = config_of(host, SERVER)
    hanging, released = threading.Event(), threading.Event()
    reads = []

    def hang(config: LinkerConfig) -> Fetched:
        reads.append(config)
        hanging.set()
        released.wait(PATIENCE)
        return fetch(config)

    async def test() -> None:
        limiter = trio.CapacityLimiter(1)
        for _attempt in range(3):
            with pytest.raises(ConfigError, match=r"files that tls names could not be read within 0\.05 s"):
                await fetch_on_thread(config, limiter, read=hang, seconds=0.05)
        assert hanging.is_set()
        assert len(reads) == 1
        released.set()
        assert set(await fetch_on_thread(config, limiter)) == {host.path("cert"), host.path("key")}

    host.run(test)


def replace_by_rename(host: Host) -> None:
    host.rename("key", NEW.key_pem)
    host.rename("cert", NEW.cert_pem)


def replace_in_place(host: Host) -> None:
    host.write("cert", NEW.cert_pem)
    host.write("key", NEW.key_pem)


def replace_by_removing(host: Host) -> None:
    (host.folder / "cert").unlink()
    (host.folder / "key").unlink()
    host.install(NEW)


@pytest.mark.parametrize("replace", [replace_by_rename, replace_in_place, replace_by_removing])
def test_x4_a_new_pair_is_in_use_without_a_restart(host: Host, replace: Callable[[Host], None]) -> None:
    """Whatever way tools take; the context is another object, so tickets of the old one are worth nothing."""

    async def test() -> None:
        config = host.server()
        contexts = host.certificates.server(config)
        before = contexts.value
        replace(host)
        await host.until(lambda: host.serial(config) == NEW.serial)
        assert contexts is host.certificates.server(config)
        assert contexts.value is not before

    host.run(test)
    assert "alarm tls.old_kept" not in host.events()


def test_x4_a_swapped_link_changes_both_files(tmp_path: FilePath) -> None:
    """As Kubernetes updates a mounted secret: files are links into ..data, which is a link to a folder with a date."""
    for date, leaf in (("2026_01", OLD), ("2026_02", NEW)):
        (tmp_path / f"..{date}").mkdir()
        (tmp_path / f"..{date}" / "cert").write_bytes(leaf.cert_pem)
        (tmp_path / f"..{date}" / "key").write_bytes(leaf.key_pem)
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "elsewhere").mkdir()
    host = Host(tmp_path / "elsewhere")
    host.folder = tmp_path
    for name in ("cert", "key"):
        (tmp_path / name).symlink_to(f"..data/{name}")

    async def test() -> None:
        config = host.server()
        assert host.serial(config) == OLD.serial
        (tmp_path / "..data_tmp").symlink_to("..2026_02")
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        await host.until(lambda: host.serial(config) == NEW.serial)

    host.run(test)
    assert "alarm tls.old_kept" not in host.events()


def test_certificates_that_change_together_make_contexts_once(tmp_path: FilePath) -> None:
    """A mounted secret with ten pairs is one update; the first of its files may be seen a moment before the rest."""
    for date in ("2026_01", "2026_02"):
        (tmp_path / f"..{date}").mkdir()
        for n in range(10):
            leaf = CA.leaf(f"{n}.mesh")
            (tmp_path / f"..{date}" / f"cert{n}").write_bytes(leaf.cert_pem)
            (tmp_path / f"..{date}" / f"key{n}").write_bytes(leaf.key_pem)
    (tmp_path / "..data").symlink_to("..2026_01")
    pairs = [
        CertificateFiles(cert_path=f"{tmp_path}/..data/cert{n}", key_path=f"{tmp_path}/..data/key{n}")
        for n in range(10)
    ]
    (tmp_path / "elsewhere").mkdir()
    host = Host(tmp_path / "elsewhere")
    made = []

    async def test() -> None:
        contexts = host.certificates.server(host.server(certificates=tuple(pairs)))
        before = [pair.serial for pair in contexts.value.pairs[1:]]
        contexts.observe(made.append)
        (tmp_path / "..data_tmp").symlink_to("..2026_02")
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        await host.until(lambda: not {pair.serial for pair in contexts.value.pairs} & set(before))

    host.run(test)
    assert len(made) <= 2


def test_x4_a_mismatched_key_keeps_the_old_pair_and_shouts(host: Host) -> None:
    """In the log, in metrics and on the page, until both files belong together again."""
    host.certificates.prepare(config_of(host, SERVER))
    host.certificates.commit()

    async def test() -> None:
        config = host.server()
        host.rename("key", key_pem(OTHER.key))
        await host.until(lambda: bool(host.certificates.alarms()))
        assert host.serial(config) == OLD.serial
        assert host.gauge("certificate", "cert", "alarm") == 1
        assert "this is not the key of the certificate in" in host.certificates.alarms()[0]
        replace_by_rename(host)
        await host.until(lambda: host.serial(config) == NEW.serial)

    host.run(test)
    assert host.certificates.alarms() == []
    assert host.gauge("certificate", "cert", "alarm") == 0
    assert (
        host.gauge("certificate", "cert", "reloads"),
        host.gauge("certificate", "cert", "reload_failures"),
    ) == (1, 1)
    assert [e for e in host.events() if e.startswith("alarm")] == ["alarm tls.old_kept"]


def test_x5_a_revocation_is_obeyed_while_a_pair_is_broken(host: Host) -> None:
    """Files of different matters are judged apart: a mistake in one must not keep the other old."""
    host.write("crl", CA.crl())

    async def test() -> None:
        config = host.server(ca_cert_path=host.path("ca"), crl_path=host.path("crl"))
        contexts = host.certificates.server(config)
        host.rename("key", key_pem(OTHER.key))
        await host.until(lambda: bool(host.certificates.alarms()))
        host.rename("crl", CA.crl(NEW))
        await host.until(lambda: _revoked(contexts.value) == [NEW.serial])
        assert contexts.value.pairs[0].serial == OLD.serial

    host.run(test)


def _revoked(contexts: Any) -> list[int]:
    return [each.serial_number for crl in contexts.trust.crls for each in crl]


def test_a_reload_lets_go_of_files_that_are_no_longer_named(host: Host) -> None:
    """And of nothing else: what both configurations name goes on without being read again."""
    host.write("cert2", NEW.cert_pem)
    host.write("key2", NEW.key_pem)
    client = "tls: {commonName: a, trustCertsBundle: @/ca}"
    first = config_of(host, SERVER, client)
    second = config_of(host, "{port: 4140, tls: {certPath: @/cert2, keyPath: @/key2}}", client)

    async def test() -> None:
        host.certificates.prepare(first)
        host.certificates.commit()
        kept = host.certificates.client(host.client()).value
        assert len(host.shared.files) == 3
        host.certificates.prepare(second)
        host.certificates.commit()
        assert {path for part in host.certificates.parts() for path in part.paths} == {
            host.path(name) for name in ("cert2", "key2", "ca")
        }
        assert len(host.shared.files) == 3
        assert host.certificates.client(host.client()).value is kept
        assert set(host.shared.metrics.children["tls"].children["certificate"].children) == {
            host.path("cert2")
        }

    host.run(test)


def test_a_configuration_that_is_refused_leaves_everything_as_it_was(host: Host) -> None:
    """Its own files are not watched, and those in force still are."""
    first = config_of(host, SERVER)
    worse = config_of(host, f"{SERVER}, {{port: 4141, tls: {{certPath: @/no, keyPath: @/no}}}}")

    async def test() -> None:
        host.certificates.prepare(first)
        host.certificates.commit()
        with pytest.raises(ConfigError):
            host.certificates.prepare(worse)
        assert len(host.shared.files) == 2
        replace_by_rename(host)
        await host.until(lambda: host.serial(host.server()) == NEW.serial)

    host.run(test)


def test_days_to_expiry_have_the_file_as_a_label(host: Host) -> None:
    """One metric for all certificates, and the soonest one of a bundle."""
    host.write("ca", CA.pem + Authority("short CA", days=5).pem)
    host.certificates.prepare(config_of(host, SERVER, "tls: {commonName: a, trustCertsBundle: @/ca}"))
    host.certificates.commit()

    assert 29.9 < host.gauge("certificate", "cert", "days_to_expiry") < 30.1
    assert 4.9 < host.gauge("ca", "ca", "days_to_expiry") < 5.1
    assert extract(("tls", "certificate", "/etc/web.pem", "days_to_expiry")) == (
        ("tls", "certificate", "days_to_expiry"),
        (("file", "/etc/web.pem"),),
    )


def test_what_openssl_refuses_is_refused_at_the_start(host: Host) -> None:
    """A good certificate can still be one that OpenSSL does not show, such as that of a short RSA key."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = CA.leaf("web.mesh", key=rsa.generate_private_key(65537, 1024))  # type: ignore[arg-type]
    host.install(weak)

    with pytest.raises(ConfigError, match=r"tls\.certPath: .*cert: OpenSSL refuses this certificate"):
        host.certificates.server(host.server())


def test_what_openssl_refuses_later_is_an_alarm(host: Host) -> None:
    """The old contexts stay."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = CA.leaf("web.mesh", key=rsa.generate_private_key(65537, 1024))  # type: ignore[arg-type]

    async def test() -> None:
        config = host.server()
        assert host.serial(config) == OLD.serial
        host.install(weak)
        await host.until(lambda: bool(host.certificates.alarms()))
        assert host.serial(config) == OLD.serial
        host.install(NEW)
        await host.until(lambda: host.serial(config) == NEW.serial)
        assert host.certificates.alarms() == []

    host.run(test)


def test_ticket_keys_live_for_an_hour(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """X5: contexts are made anew of the same files, so nobody resumes for ever without showing a certificate."""
    var = host.certificates.server(host.server())
    env = host.shared.env
    first, began = var.value, env.now()
    monkeypatch.setattr(env, "now", lambda: began + TICKET_KEYS_S - 10)
    host.certificates.check()
    assert var.value is first
    monkeypatch.setattr(env, "now", lambda: began + TICKET_KEYS_S + 10)
    host.certificates.check()
    second = var.value
    assert second is not first
    assert second.pairs == first.pairs
    host.certificates.check()
    assert var.value is second
