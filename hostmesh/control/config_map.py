"""The interpreter ``io.l5d.k8s.configMap``: the dtab is a key of a Kubernetes ConfigMap, and live."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio
from attrs import field, frozen

from hostmesh.base.var import PENDING, Failed, Ok, State, Var
from hostmesh.config.types import Millis, Port
from hostmesh.control.interpreter import LocalInterpreter
from hostmesh.naming.dtab import Dtab, DtabError
from hostmesh.naming.interpreter import InterpreterConfig, InterpreterDeps
from hostmesh.registry.k8s_access import K8sApi
from hostmesh.registry.k8s_client import K8sClient, Selection
from hostmesh.registry.k8s_objects import mapping

if TYPE_CHECKING:
    from hostmesh.registry.alarms import Alarm
    from hostmesh.registry.shared import Shared

MAX_TEXT: Final = 1 << 20
"""Characters of a dtab. A ConfigMap cannot hold more."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


class ConfigMapDtab:
    """What is believed of one key of one ConfigMap. It writes :attr:`dtab`.

    A text that is no dtab, and a server that does not answer, change nothing once there has been a dtab. That the
    ConfigMap or the key is missing makes the dtab empty, at first at once, later after ``hold_s``: tools that
    replace an object delete it first.
    """

    def __init__(self, config: K8sConfigMapInterpreterConfig, deps: InterpreterDeps) -> None:
        shared: Shared = deps.transformer_deps.shared
        self.dtab: Var[State[Dtab]] = Var(deps.turn, PENDING)
        self.where = f"{config.namespace}/{config.name}:{config.filename}"
        self.version = ""
        self.trouble: str | None = None
        """Why the server cannot tell, or the text is no dtab; None while neither is so."""
        self._heard: float | None = None
        """``env.now()`` of the server's last word."""
        self._config = config
        self._report = deps.report
        self._shared = shared
        self._absent: Alarm | None = None
        self._is_missing = False

    def follow(self) -> Callable[[], None]:
        """Follow the ConfigMap until the returned function is called."""
        config = self._config
        client = K8sClient.of(self._shared, config.api, config.host, config.port, self._report)
        selection = Selection(
            f"/api/v1/namespaces/{config.namespace}/configmaps",
            (("fieldSelector", f"metadata.name={config.name}"),),
            self._digest,
        )
        close = client.watch(selection).follow(self)

        def stop() -> None:
            close()
            self._disarm()

        return stop

    def _digest(self, found: Mapping[str, Any]) -> str | None:
        value = mapping(found.get("data")).get(self._config.filename)
        return value if isinstance(value, str) else None

    # What the watch says.

    def known(self, values: tuple[Any, ...], version: str) -> None:
        """This is the ConfigMap now, if there is one."""
        self._heard = self._shared.alarms.env.now()
        self.version = version
        text = next((value for value in values if value is not None), None)
        if text is None:
            self._missing()
            return
        self._disarm()
        self._is_missing = False
        try:
            if len(text) > MAX_TEXT:
                raise DtabError(f"expected at most {MAX_TEXT} characters, found {len(text)}", 1, 1)
            self._believe(Dtab.read(text))
        except DtabError as error:
            self._in_trouble(f"{self.where}:{error.line}:{error.column}: {error.message}")

    def confirmed(self) -> None:
        """Nothing has changed."""
        self._heard = self._shared.alarms.env.now()

    def failed(self, cause: str, status: int | None) -> None:
        """The server cannot tell, and so nothing is taken back on its word."""
        self._disarm()
        self._in_trouble(cause)

    # What is believed.

    def _missing(self) -> None:
        self._is_missing = True
        self.trouble = None
        if not isinstance(self.dtab.value, Ok):
            self._emptied()
        elif self._absent is None and self.dtab.value.value.dentries:
            alarms = self._shared.alarms
            self._absent = alarms.at(alarms.env.now() + self._config.hold_ms / 1000, self._emptied)

    def _emptied(self) -> None:
        self._absent = None
        self._report("interpreter.dtab_missing", {"configMap": self.where})
        self._believe(Dtab.EMPTY)

    def _disarm(self) -> None:
        if self._absent is not None:
            self._absent.cancel()
            self._absent = None

    def _believe(self, dtab: Dtab) -> None:
        self.trouble = None
        if self.dtab.value != Ok(dtab):
            self._report("interpreter.dtab", {"configMap": self.where, "dentries": len(dtab)})
            self.dtab.set(Ok(dtab))

    def _in_trouble(self, cause: str) -> None:
        if cause != self.trouble:
            self.trouble = cause
            self._report("interpreter.bad_dtab", {"configMap": self.where, "cause": cause})
        if not isinstance(self.dtab.value, Ok):
            self.dtab.set(Failed(cause))

    def state(self) -> dict[str, object]:
        """For the admin page; times in milliseconds."""
        now = self._shared.alarms.env.now()
        return {
            "configMap": self.where,
            "version": self.version,
            "ageMs": None if self._heard is None else round((now - self._heard) * 1000),
            "missing": self._is_missing,
            "error": self.trouble,
        }


class ConfigMapInterpreter(LocalInterpreter):
    """Binds with the dtab of a ConfigMap, followed by the router's own."""

    state_page = "io.l5d.k8s.configmap"

    def __init__(self, config: K8sConfigMapInterpreterConfig, deps: InterpreterDeps) -> None:
        self.config_map = ConfigMapDtab(config, deps)
        super().__init__(
            Var(deps.turn, Ok(deps.dtab)),
            deps.namers,
            deps.system,
            [each.mk(deps.transformer_deps) for each in config.transformers],
            deps.turn,
            fetched=self.config_map.dtab,
        )

    async def run(self) -> None:
        """Follow the ConfigMap until cancelled, also while nothing is bound."""
        stop = self.config_map.follow()
        try:
            await trio.sleep_forever()
        finally:
            stop()

    def state(self) -> object:
        """What the local interpreter shows, and where its dtab comes from."""
        shown = super().state()
        assert isinstance(shown, dict)
        return {**shown, **self.config_map.state(), "error": shown["error"] or self.config_map.trouble}


@frozen(kw_only=True)
class K8sConfigMapInterpreterConfig(InterpreterConfig):
    """Takes the dtab from a key of a Kubernetes ConfigMap and follows its changes. Its dentries come before, and so
    lose to, those of the router. A text that is no dtab changes nothing; without ConfigMap or key the dtab is empty."""

    needs_experimental: ClassVar[bool] = True

    name: str
    """The ConfigMap."""
    filename: str
    """Its key."""
    host: str = "localhost"
    """The API server, or ``kubectl proxy``."""
    port: Port = 8001
    """Its port."""
    namespace: str = "default"
    """Its namespace."""
    api: K8sApi | None = None
    """*hostmesh* How to reach the API server directly, with TLS and credentials. Default: plain HTTP."""
    hold_ms: Millis = field(default=2000)
    """*hostmesh* Milliseconds for which the dtab goes on being believed when ConfigMap or key are gone, as they are for
    a moment when a tool replaces them. 0 believes at once, as Linkerd does."""

    def check(self) -> list[str]:
        problems = super().check()
        for key, value in (("name", self.name), ("namespace", self.namespace)):
            if not _NAME.fullmatch(value):
                problems.append(f"{key}: expected the name of a Kubernetes object, found {value!r}")
        if not _KEY.fullmatch(self.filename):
            problems.append(f"filename: expected a key of a ConfigMap, found {self.filename!r}")
        return problems

    def mk(self, deps: InterpreterDeps) -> ConfigMapInterpreter:
        """The interpreter, with a task that follows the ConfigMap."""
        return ConfigMapInterpreter(self, deps)
