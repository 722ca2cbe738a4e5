"""A Kubernetes namer on an API server, driven without a pump."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

from hostmesh.naming.namer import NAMER_ROOT, NamerDeps
from hostmesh.naming.path import Path
from hostmesh.registry.k8s_access import K8sApi
from namer.k8s import K8sConfig, K8sExternalConfig
from namer.k8s_namer import K8sNamer
from tests.fs_world import Followed, World


class K8sWorld(World):
    """``run(test)`` as in :class:`World`; ``namer`` is of Kubernetes."""

    def __init__(self, root: FilePath, *, external: bool = False, **keys: Any) -> None:
        super().__init__(root)
        cls = K8sExternalConfig if external else K8sConfig
        self.config = cls(kind="io.l5d.k8s", **keys)
        self.kube: K8sNamer = self.config.mk(
            NamerDeps(
                env=self.env,
                turn=self.turn,
                prefix=Path.read("/io.l5d.k8s"),
                metrics=self.metrics,
                resolver=self.shared.resolver,
                report=self.report,
                shared=self.shared,
            )
        )

    def follow(self, path: str) -> Followed:
        self.namer = self.kube  # type: ignore[assignment]
        return Followed(self, path)

    def metrics_value(self, name: str) -> float:
        """The value of one of the namer's own gauges."""
        gauge: Any = self.metrics.children[name].metric
        return float(gauge.fn())

    def journal(self, path: str) -> list[tuple[str, str]]:
        id = (NAMER_ROOT + Path.read("/io.l5d.k8s") + Path.read(path)).show()
        return [(entry.action, entry.what) for entry in self.kube.journal.entries(id)]


def in_folder(folder: FilePath, token: str) -> None:
    """Write a token where a pod would have it."""
    (folder / "token").write_text(token)


__all__ = ["Followed", "K8sApi", "K8sWorld", "in_folder"]
