"""The certificates of this host: loaded when a configuration is applied, and loaded again whenever a file changes.

Every ``tls`` object of the configuration in force has its contexts in a Var; equal objects have the same one, and
objects that name the same files read them once. New handshakes take what the Var holds; connections that are
established have nothing to do with files any more. A pair and the CAs are judged apart: a key that does not match its
certificate must not keep a revocation from being obeyed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from math import nan
from os.path import abspath
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs
import trio

from hostmesh.base.errors import ConfigError
from hostmesh.base.var import Var
from hostmesh.config.model import LinkerConfig
from hostmesh.config.tls import CertificateFiles, ClientTlsConfig, ServerTlsConfig
from hostmesh.daemon.pem_content import Content, read_pair, read_trust
from hostmesh.daemon.pem_files import SETTLE_S, PemFiles, Watching
from hostmesh.daemon.tls_places import Fetched, place_of, tls_objects
from hostmesh.protocol.tls.credentials import CredentialError, Pem
from hostmesh.registry.pem import read_pem

if TYPE_CHECKING:
    from hostmesh.daemon.shared import Shared
    from hostmesh.protocol.tls.contexts import ClientContext, ServerContexts
    from hostmesh.telemetry.metrics import Scope

C = TypeVar("C")

CHECK_S: Final = 60.0
"""Seconds between two looks at the clock for what is about to expire."""

TICKET_KEYS_S: Final = 3600.0
"""Seconds for which contexts are used. Their ticket keys go with them, so who resumes session after session shows its
certificate again within an hour, and what one key has sealed is an hour's."""


class Contexts(Generic[C]):
    """The contexts of one ``tls`` object, made of what its files say, and made anew when they say something else."""

    def __init__(
        self, watching: Watching, parts: Sequence[PemFiles[Any]], build: Callable[[list[Any]], C]
    ) -> None:
        self._watching = watching
        self.parts = parts
        self._build = build
        self._closers: list[Callable[[], None]] = []
        self._scheduled = False
        self._made = watching.env.now()
        self.alarm: str | None = None
        """Why OpenSSL refuses what the files say; None if it does not."""
        self.var: Var[C] = Var(watching.turn, build(self._values()))

    def _values(self) -> list[Any]:
        return [part.value.value for part in self.parts]

    def start(self) -> None:
        """Follow the files from now on; nothing happens if that is so already."""
        if not self._closers:
            self._closers = [part.observe(self._changed) for part in self.parts]

    def stop(self) -> None:
        """Let the files go; the contexts stay as they are."""
        closers, self._closers = self._closers, []
        for close in closers:
            close()

    def _changed(self, _content: Content[Any]) -> None:
        # Once for all that has changed together: with fifty certificates contexts take 15 ms to make.
        if not self._scheduled:
            self._scheduled = True
            self._watching.turn.call_soon(self._make)

    def _make(self) -> None:
        self._scheduled = False
        if not self._closers:
            return
        try:
            contexts = self._build(self._values())
        except CredentialError as error:
            # What is wrong with the files by themselves has been found before: this is OpenSSL's opinion.
            self.alarm = str(error)
            self._watching.alarm("tls.old_kept", {"cause": self.alarm})
            return
        self.alarm = None
        self._made = self._watching.env.now()
        self.var.set(contexts)

    def renew(self) -> None:
        """Make contexts of the same files that have been used for long."""
        if self._closers and self._watching.env.now() - self._made >= TICKET_KEYS_S:
            self._make()


class Certificates:
    """All contexts of one daemon. Give it a task (:meth:`run`) for warnings about what expires.

    A configuration is applied in two steps, as everything else of it: :meth:`prepare`, which may fail, then
    :meth:`commit` or :meth:`abandon`. In between and after that :meth:`server` and :meth:`client` find what has been
    prepared.
    """

    def __init__(self, shared: Shared, *, settle_s: float = SETTLE_S) -> None:
        self._watching = Watching(
            turn=shared.turn,
            env=shared.env,
            alarms=shared.registry.alarms,
            files=shared.files,
            report=shared.report,
            warn=shared.warn,
            alarm=shared.alarm,
            settle_s=settle_s,
        )
        self._scope = shared.metrics.scope("tls")
        self._parts: dict[Hashable, PemFiles[Any]] = {}
        self._kept: dict[Hashable, Contexts[Any]] = {}
        self._prepared: dict[Hashable, Contexts[Any]] | None = None
        self._pinned: set[Hashable] = set()
        self.fetched: Fetched = {}
        """Files that have been read on a thread, for :meth:`prepare`; others it reads itself."""

    # -- what others ask for --------------------------------------------------------------------------------------

    def server(self, config: ServerTlsConfig) -> Var[ServerContexts]:
        """The contexts of a server's ``tls``; equal configurations have the same Var. ConfigError."""
        try:
            return self._server(config)
        except CredentialError as error:
            raise ConfigError(place_of("tls", config, str(error))) from None

    def pin(self, config: ServerTlsConfig, place: str) -> Var[ServerContexts]:
        """As :meth:`server`, followed until the end, whatever is applied later; ``place`` is for the error's text."""
        try:
            found = self._server(config)
        except CredentialError as error:
            raise ConfigError(place_of(place, config, str(error))) from None
        self._pinned.add(config)
        return found

    def client(self, config: ClientTlsConfig) -> Var[ClientContext]:
        """The context of a client's ``tls``, which does not depend on the name that it looks for. ConfigError."""
        try:
            return self._client(config)
        except CredentialError as error:
            raise ConfigError(place_of("tls", config, str(error))) from None

    def _server(self, config: ServerTlsConfig) -> Var[ServerContexts]:
        return self._of(config, lambda: self._make_server(config))

    def _client(self, config: ClientTlsConfig) -> Var[ClientContext]:
        key = attrs.evolve(config, enabled=True, common_name=None, common_name_from_subject=False)
        return self._of(key, lambda: self._make_client(config))

    def _of(self, key: Hashable, make: Callable[[], Contexts[C]]) -> Var[C]:
        found = self._kept.get(key)
        if found is None and self._prepared is not None:
            found = self._prepared.get(key)
        if found is None:
            found = make()
            if self._prepared is None:
                self._kept[key] = found
                found.start()
        if self._prepared is not None:
            self._prepared[key] = found
        return found.var

    # -- a configuration ------------------------------------------------------------------------------------------

    def prepare(self, config: LinkerConfig) -> None:
        """Load every file that ``config`` names; blocks for those that are not in :attr:`fetched`. ConfigError for
        each that cannot be used, all at once."""
        self.abandon()
        self._prepared = {}
        mistakes = []
        for place, tls in tls_objects(config):
            try:
                if isinstance(tls, ServerTlsConfig):
                    self._server(tls)
                else:
                    self._client(tls)
            except CredentialError as error:
                mistakes.append(place_of(place, tls, str(error)))
        if mistakes:
            self.abandon()
            raise ConfigError("\n".join(mistakes))

    def commit(self) -> None:
        """What has been prepared is in force: follow its files, and let go of those of the configuration before."""
        prepared, self._prepared = self._prepared or {}, None
        before, self._kept = self._kept, prepared
        # In this order: files that both name are watched without a gap.
        for each in prepared.values():
            each.start()
        for key, each in before.items():
            if key in self._pinned:
                prepared[key] = each
            elif key not in prepared:
                each.stop()
        self._sweep()
        self._show()

    def abandon(self) -> None:
        """Forget what has been prepared."""
        self._prepared = None
        self._sweep()

    def _sweep(self) -> None:
        for key in [key for key, part in self._parts.items() if not part.observed]:
            del self._parts[key]

    # -- making ---------------------------------------------------------------------------------------------------

    def _make_server(self, config: ServerTlsConfig) -> Contexts[ServerContexts]:
        from hostmesh.protocol.tls.ciphers import openssl_ciphers
        from hostmesh.protocol.tls.contexts import ServerContexts

        pairs = [self._pair(files) for files in config.own]
        trust = [] if config.ca_cert_path is None else [self._trust((config.ca_cert_path,), config.crl_path)]
        ciphers = [each for name in config.ciphers for each in openssl_ciphers(name)]

        def build(values: list[Any]) -> ServerContexts:
            return ServerContexts(
                values[: len(pairs)],
                values[len(pairs)] if trust else None,
                require_client_auth=config.require_client_auth,
                ciphers=ciphers,
                protocols=config.protocols,
                allowed=config.allowed_callers,
            )

        return Contexts(self._watching, [*pairs, *trust], build)

    def _make_client(self, config: ClientTlsConfig) -> Contexts[ClientContext]:
        from hostmesh.protocol.tls.contexts import ClientContext

        validate = not config.disable_validation
        trust = [self._trust(config.authorities, config.crl_path)] if validate and config.authorities else []
        pair = [] if config.client_auth is None else [self._pair(config.client_auth)]

        def build(values: list[Any]) -> ClientContext:
            return ClientContext(
                values[0] if trust else None,
                values[-1] if pair else None,
                validate=validate,
                protocols=config.protocols,
            )

        return Contexts(self._watching, [*trust, *pair], build)

    def _pair(self, files: CertificateFiles) -> PemFiles[Any]:
        more = files.intermediate_certs_path
        cert, key = abspath(files.cert_path), abspath(files.key_path)
        intermediates = None if more is None else abspath(more)
        paths = [cert, key] if intermediates is None else [cert, key, intermediates]
        return self._part(("pair", *paths), paths, read_pair(cert, key, intermediates))

    def _trust(self, cas: Sequence[str], crl: str | None) -> PemFiles[Any]:
        cas = [abspath(path) for path in cas]
        crl = None if crl is None else abspath(crl)
        paths = cas if crl is None else [*cas, crl]
        return self._part(("trust", len(cas), *paths), paths, read_trust(cas, crl))

    def _part(
        self, key: Hashable, paths: Sequence[str], read: Callable[[Any], Content[Any]]
    ) -> PemFiles[Any]:
        known = self._parts.get(key)
        if known is None:
            known = self._parts[key] = PemFiles(self._watching, paths, read, now=self._now)
        return known

    def _now(self, path: str) -> Pem:
        found = self.fetched.get(path)
        if found is None:
            return read_pem(path)
        if isinstance(found, CredentialError):
            raise found
        return found

    # -- what is shown --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at the clock until cancelled."""
        while True:
            await trio.sleep(CHECK_S)
            self.check()

    def check(self) -> None:
        """Warn about what is about to expire, and renew ticket keys."""
        for part in list(self._parts.values()):
            part.check()
        for each in self._kept.values():
            each.renew()

    def parts(self) -> list[PemFiles[Any]]:
        """The files that are in use."""
        return list(self._parts.values())

    def alarms(self) -> list[str]:
        """What is wrong now, for people: files that cannot be used while something older is, and what has expired."""
        texts = [part.trouble for part in self._parts.values()]
        texts += [each.alarm for each in self._kept.values()]
        return list(dict.fromkeys(text for text in texts if text is not None))

    def _show(self) -> None:
        """``tls/alarms``, and ``tls/<kind>/<file>/…`` for every file in use."""
        scope = self._scope
        scope.gauge("alarms", lambda: float(len(self.alarms())))
        for kind in ("certificate", "ca", "crl"):
            scope.prune(kind)
        for part in self._parts.values():
            for kind, path in dict.fromkeys((item.kind, item.path) for item in part.value.items):
                self._count(scope.scope(kind, path), part, kind, path)

    def _count(self, scope: Scope, part: PemFiles[Any], kind: str, path: str) -> None:
        def days_left() -> float:
            wall = self._watching.env.wall()
            days = [item.days(wall) for item in part.value.items if (item.kind, item.path) == (kind, path)]
            # A new chain may be without what the old one had.
            return min(days, default=nan)

        scope.gauge("days_to_expiry", days_left)
        scope.gauge("alarm", lambda: float(part.trouble is not None))
        scope.counter_of("reloads", lambda: part.reloads)
        scope.counter_of("reload_failures", lambda: part.failures)
