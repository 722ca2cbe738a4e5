"""Credentials from programs, as kubeconfigs name them: client-go's ``exec`` plugins (client.authentication.k8s.io).

Blocks, and so is for a thread. A program is run again when its credential is about to expire, or the server has refused
it; a kubeconfig that somebody else may write to does not get to say what is run.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from hostmesh.base.errors import ConfigError
from hostmesh.registry.k8s_objects import items, mapping, text
from hostmesh.registry.trusted_file import read_trusted

EXEC_S = 15.0
"""For a program, which asks a cloud for a token."""

MARGIN_S = 330.0
"""A credential is replaced so long before it expires, or half-way if that is sooner: a watch may last five minutes."""

ANEW_S = 10.0
"""A credential that is refused sooner is kept: the next would be, too, and a program is a load of its own."""

MAX_OUTPUT = 1 << 20
"""Bytes of a credential."""

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class Credential(NamedTuple):
    """Who to be."""

    token: str
    certificate: str
    key: str
    fresh_until: float | None
    """``time.time()`` from which on a new one is to be had; None: when the server refuses this one."""
    since: float
    """``time.time()`` when it was given out."""


class ExecPlugins:
    """Credentials in use. One per API server and identity; for one thread at a time."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._known: dict[str, Credential] = {}
        self.runs = 0

    def forget(self) -> None:
        """The server has refused what it was given."""
        old = self._wall() - ANEW_S
        self._known = {key: known for key, known in self._known.items() if known.since > old}

    def credential(
        self, user: str, said: Mapping[str, Any], cluster: Mapping[str, Any], kubeconfig: str
    ) -> Credential:
        """What the program of ``said``, a user's ``exec`` object in ``kubeconfig``, gives out now.

        Raises ConfigError: the object or the output is none, or the program fails.
        """
        where = f"{kubeconfig}: user {user}: exec"
        key = json.dumps([said, cluster], sort_keys=True, default=str)
        known = self._known.get(key)
        if known is not None and (known.fresh_until is None or self._wall() < known.fresh_until):
            return known
        try:
            read_trusted(kubeconfig, MAX_OUTPUT)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
        output = self._run(said, cluster, os.path.dirname(os.path.abspath(kubeconfig)), where)
        found = self._known[key] = _credential(output, self._wall(), where)
        return found

    def _run(self, said: Mapping[str, Any], cluster: Mapping[str, Any], folder: str, where: str) -> bytes:
        version = text(said.get("apiVersion"))
        if version not in VERSIONS:
            raise ConfigError(f"{where}.apiVersion: expected one of {', '.join(VERSIONS)}, found {version!r}")
        if said.get("interactiveMode") == "Always":
            raise ConfigError(f"{where}: it needs a terminal (interactiveMode: Always), and there is none")
        command = text(said.get("command"))
        args = said.get("args") or []
        if not command or not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
            # Not what they are: there may be secrets among the arguments.
            raise ConfigError(f"{where}: expected a command and a list of args that are text")
        if "/" in command:
            command = os.path.join(folder, command)
        spec: dict[str, Any] = {"interactive": False}
        if said.get("provideClusterInfo") is True:
            spec["cluster"] = dict(cluster)
        about = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
        own = {text(each.get("name")): text(each.get("value")) for each in items(said.get("env"))}
        self.runs += 1
        try:
            done = subprocess.run(
                [command, *args],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=EXEC_S,
                check=False,
                env={**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(about)},
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"{where}: {command}: no answer in {EXEC_S:g} s") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where}: {command}: {error}") from error
        if done.returncode != 0:
            said_why = done.stderr[-300:].decode("utf-8", "replace").strip()
            raise ConfigError(f"{where}: {command}: exit status {done.returncode}: {said_why}")
        return done.stdout


def _credential(output: bytes, now: float, where: str) -> Credential:
    try:
        if len(output) > MAX_OUTPUT:
            raise ValueError(f"more than {MAX_OUTPUT} bytes")
        status = mapping(mapping(json.loads(output)).get("status"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: expected an ExecCredential, found something else: {error}") from error
    token = text(status.get("token"))
    certificate, key = text(status.get("clientCertificateData")), text(status.get("clientKeyData"))
    if not token and not (certificate and key):
        raise ConfigError(f"{where}: expected a token or a certificate with its key, found neither")
    expires = text(status.get("expirationTimestamp"))
    if not expires:
        return Credential(token, certificate, key, None, now)
    try:
        at = datetime.fromisoformat(expires.replace("Z", "+00:00")).timestamp()
    except ValueError as error:
        raise ConfigError(f"{where}: expirationTimestamp: expected a time, found {expires!r}") from error
    return Credential(token, certificate, key, max(at - MARGIN_S, now + (at - now) / 2), now)
