"""``io.l5d.k8s``, ``io.l5d.k8s.ns``, ``io.l5d.k8s.external``: services of a Kubernetes cluster."""

from __future__ import annotations

import os
import re
from typing import ClassVar, Literal, NamedTuple

from attrs import field, frozen

from hostmesh.plugin import ConfigError, NamerConfig, NamerDeps, Path, Port
from hostmesh.registry.k8s_access import K8sApi
from namer.k8s_namer import K8sNamer

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""Of namespaces, services and ports, generously: the API server knows the details. What matters is that nothing
in it means anything in a URL or a selector."""

_LABEL_VALUE = re.compile(r"[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?")

_LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)


class Wanted(NamedTuple):
    """What a path asks for, in lower case as Linkerd does it."""

    namespace: str
    port: str
    service: str
    label: str | None
    """A label selector, ``key=value``."""

    @property
    def number(self) -> int | None:
        """The service port, if it is given by number."""
        return int(self.port) if self.port.isdigit() else None


def wanted(path: Path, label_key: str | None) -> Wanted | None:
    """Namespace, port, service and (with a label) its value; None if nothing can be called that."""
    namespace, port, service, *rest = (segment.lower() for segment in path)
    if not all(_NAME.fullmatch(segment) for segment in (namespace, port, service)):
        return None
    if port.isdigit() and not 1 <= int(port[:6]) <= 65535:
        return None
    label = None
    if label_key is not None:
        if not _LABEL_VALUE.fullmatch(rest[0]):
            return None
        label = f"{label_key}={rest[0]}"
    return Wanted(namespace, port, service, label)


@frozen(kw_only=True)
class K8sConfig(NamerConfig):
    """Endpoints of a Kubernetes cluster: ``/<namespace>/<port>/<service>[/<label value>]``. The port is the
    name of a port, or the number of a port of the Service."""

    is_external: ClassVar[bool] = False

    host: str = "localhost"
    """The API server, or ``kubectl proxy``."""

    port: Port = 8001
    """Its port."""

    label_selector: str | None = None
    """A label's key: one more path segment holds the value that the Service must have."""

    api: K8sApi | None = None
    """*hostmesh* How to reach the API server directly, with TLS and credentials. Default: plain HTTP."""

    endpoints: Literal["auto", "slices", "endpoints"] = "auto"
    """*hostmesh* Which objects to watch. ``auto`` takes EndpointSlices, and Endpoints where slices are not served or
    not allowed."""

    hold_ms: int = field(default=2000)
    """*hostmesh* Milliseconds for which a removed endpoint goes on being believed, so that a redeployment of
    everything at once causes no gap. 0 believes at once, as Linkerd does."""

    @property
    def depth(self) -> int:
        """Path segments of a name."""
        return 3 if self.label_selector is None else 4

    def check(self) -> list[str]:
        problems = super().check()
        if self.label_selector is not None and not _LABEL_KEY.fullmatch(self.label_selector):
            problems.append(f"labelSelector: expected the key of a label, found {self.label_selector!r}")
        if self.hold_ms < 0:
            problems.append(f"holdMs: expected at least 0, found {self.hold_ms}")
        return problems

    def wanted(self, path: Path) -> Wanted | None:
        """What a path of ``depth`` segments asks for."""
        return wanted(path, self.label_selector)

    def mk(self, deps: NamerDeps) -> K8sNamer:
        return K8sNamer(self, deps)


@frozen(kw_only=True)
class K8sNsConfig(K8sConfig):
    """Endpoints of one namespace: ``/<port>/<service>[/<label value>]``."""

    env_var: str = "POD_NAMESPACE"
    """The environment variable with the namespace; it must be set."""

    @property
    def depth(self) -> int:
        return super().depth - 1

    def wanted(self, path: Path) -> Wanted | None:
        return wanted(Path.of(os.environ.get(self.env_var, "")) + path, self.label_selector)

    def mk(self, deps: NamerDeps) -> K8sNamer:
        if not os.environ.get(self.env_var):
            raise ConfigError(f"{self.kind}: the environment variable {self.env_var} is not set")
        return K8sNamer(self, deps)


@frozen(kw_only=True)
class K8sExternalConfig(K8sConfig):
    """Addresses of the load balancers of services: ``/<namespace>/<port>/<service>[/<label value>]``."""

    needs_experimental: ClassVar[bool] = True
    is_external: ClassVar[bool] = True
