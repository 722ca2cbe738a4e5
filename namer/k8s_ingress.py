"""``io.l5d.ingress``: names from the Ingress resources of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import trio
from attrs import frozen

from hostmesh.plugin import (
    HeadFacts,
    Identifier,
    IdentifierConfig,
    IdentifierDeps,
    MeshError,
    NotIdentified,
    Path,
    Port,
    Reason,
    Side,
    checked,
)
from hostmesh.registry.k8s_access import K8sApi
from hostmesh.registry.k8s_client import K8sClient, Selection
from namer.k8s_ingress_rules import Ingress, Table, ingress_of


class IngressIdentifier:
    """Follows Ingresses while its task runs. What it knew last stays when the API server cannot tell."""

    kind = "io.l5d.ingress"
    consumes = False

    def __init__(self, config: IngressConfig, prefix: Path, deps: IdentifierDeps) -> None:
        self._config = config
        self._prefix = prefix
        self._deps = deps
        self._table: Table | None = None
        self._cause = "the API server has not been asked yet"

    def key(self, head: HeadFacts) -> Hashable | None:
        """Host and path decide, and there are as many paths as requests."""
        return None

    def identify(self, head: HeadFacts) -> Path | NotIdentified:
        """The service of the first rule that matches. Raises MeshError (503) before the rules are known."""
        table = self._table
        if table is None:
            raise MeshError(
                Reason.REGISTRY_UNREACHABLE,
                f"{self.kind}: Ingresses are not known yet: {self._cause}",
                status=503,
                side=Side.SELF,
            )
        path = head.target.partition(b"?")[0].decode("latin-1")
        target = table.find(head.host.decode("latin-1"), path)
        return NotIdentified("no ingress rule matches") if target is None else checked(self._prefix, target)

    def consume(self, head: HeadFacts) -> bytes | None:
        return None

    async def run(self) -> None:
        """Follow the Ingresses until cancelled."""
        config = self._config
        client = K8sClient.of(self._deps.shared, config.api, config.host, config.port, self._deps.report)
        where = "" if config.namespace is None else f"/namespaces/{config.namespace}"
        selection = Selection(f"/apis/networking.k8s.io/v1{where}/ingresses", (), ingress_of)
        close = client.watch(selection).follow(self)
        try:
            await trio.sleep_forever()
        finally:
            close()

    # What the watch says.

    def known(self, values: tuple[Any, ...], version: str) -> None:
        """These are all Ingresses now."""
        ingresses: tuple[Ingress, ...] = values
        config = self._config
        before = self._table
        self._table = Table(
            ingresses, config.ingress_class_annotation, with_defaults=not config.ignore_default_backends
        )
        if before is None or before.skipped != self._table.skipped or before.size != self._table.size:
            facts = {"rules": self._table.size, "skipped": self._table.skipped, "version": version}
            self._deps.report("ingress.rules", facts)

    def confirmed(self) -> None:
        """Nothing has changed."""

    def failed(self, cause: str, status: int | None) -> None:
        """What is known stays."""
        self._cause = cause


@frozen(kw_only=True)
class IngressConfig(IdentifierConfig):
    """The service to which the Ingress resources (networking.k8s.io/v1) of a Kubernetes cluster send a request, as in
    ``/svc/<namespace>/<port>/<service>``. Of regular expressions in paths ``.*`` is understood."""

    namespace: str | None = None
    """Only Ingresses of this namespace. Default: of all."""

    ingress_class_annotation: str = "linkerd"
    """Only Ingresses of this class (``ingressClassName`` or the annotation ``kubernetes.io/ingress.class``), and
    those of none."""

    ignore_default_backends: bool = False
    """Do not send requests that no rule matches to default backends."""

    host: str = "localhost"
    """The API server, or ``kubectl proxy``."""

    port: Port = 8001
    """Its port."""

    api: K8sApi | None = None
    """*hostmesh* How to reach the API server directly, with TLS and credentials. Default: plain HTTP."""

    def check(self) -> list[str]:
        if self.namespace is not None and not self.namespace.replace("-", "").isalnum():
            return [f"namespace: expected the name of a namespace, found {self.namespace!r}"]
        return []

    def mk_with(self, prefix: Path, deps: IdentifierDeps) -> Identifier:
        return IngressIdentifier(self, prefix, deps)
