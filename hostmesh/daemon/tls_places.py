"""Where a configuration speaks TLS, and the files that it names there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os.path import abspath
from typing import Final, TypeAlias

import trio

from hostmesh.base.errors import ConfigError
from hostmesh.config.model import LinkerConfig
from hostmesh.config.policies import STATIC, Policy
from hostmesh.config.tls import CertificateFiles, ClientTlsConfig, ServerTlsConfig
from hostmesh.protocol.tls.credentials import CredentialError, Pem
from hostmesh.registry.pem import read_pem

FETCH_S: Final = 10.0
"""Seconds that a reload waits for the files of TLS: a disk that answers later is not one to run from."""

Fetched: TypeAlias = dict[str, Pem | CredentialError]
"""Files by absolute path, or why they cannot be read."""


def fetch(config: LinkerConfig) -> Fetched:
    """Every file of TLS that ``config`` names, as it is now. Blocks for as long as disks do."""
    found: Fetched = {}
    for _place, tls in tls_objects(config):
        for path in {abspath(path) for _key, path in paths_of(tls)} - found.keys():
            try:
                found[path] = read_pem(path)
            except CredentialError as error:
                found[path] = error
    return found


async def fetch_on_thread(
    config: LinkerConfig,
    limiter: trio.CapacityLimiter,
    *,
    read: Callable[[LinkerConfig], Fetched] = fetch,
    seconds: float = FETCH_S,
) -> Fetched:
    """What ``read`` says, read where a disk that hangs stops nobody (hardening R10). ConfigError after ``seconds``.

    A thread that hangs is left behind and keeps its place in ``limiter``, so there are never more of them than that.
    """
    with trio.move_on_after(seconds):
        return await trio.to_thread.run_sync(read, config, abandon_on_cancel=True, limiter=limiter)
    raise ConfigError(f"the files that tls names could not be read within {seconds:g} s")


def tls_objects(config: LinkerConfig) -> Iterator[tuple[str, ServerTlsConfig | ClientTlsConfig]]:
    """Every ``tls`` of routers, namers and announcers that is not switched off, with its place in the file.

    Connections to registries have contexts of another engine (:mod:`hostmesh.registry.tls_context`); their files are
    judged at the start and watched for what is broken or about to expire as all others are.
    """
    for index, namer in enumerate(config.namers):
        tls = getattr(namer, "tls", None)
        if isinstance(tls, ClientTlsConfig) and tls.enabled:
            yield f"namers[{index}].tls", tls
    for index, router in enumerate(config.routers):
        for number, announcer in enumerate(router.announcers):
            tls = getattr(announcer, "tls", None)
            if isinstance(tls, ClientTlsConfig) and tls.enabled:
                yield f"routers[{index}].announcers[{number}].tls", tls
        for number, server in enumerate(getattr(router, "servers", ())):
            if server.tls is not None:
                yield f"routers[{index}].servers[{number}].tls", server.tls
        policy = getattr(router, "client", None)
        if not isinstance(policy, Policy):
            continue
        for number, entry in enumerate(policy.configs):
            tls = getattr(entry.params, "tls", None)
            if isinstance(tls, ClientTlsConfig) and tls.enabled:
                where = f"client.configs[{number}]" if policy.kind == STATIC else "client"
                yield f"routers[{index}].{where}.tls", tls


def place_of(place: str, tls: ServerTlsConfig | ClientTlsConfig, text: str) -> str:
    """``text``, which begins with a path, after the key that has this path."""
    named = {abspath(path): key for key, path in paths_of(tls)}
    key = named.get(text.partition(": ")[0])
    return f"{place}: {text}" if key is None else f"{place}.{key}: {text}"


def paths_of(tls: ServerTlsConfig | ClientTlsConfig) -> Iterator[tuple[str, str]]:
    """Keys and the files that they name."""
    own: list[tuple[str, CertificateFiles]] = []
    if isinstance(tls, ServerTlsConfig):
        first, *more = tls.own
        own = [("", first), *((f"certificates[{index}].", files) for index, files in enumerate(more))]
        if tls.ca_cert_path is not None:
            yield "caCertPath", tls.ca_cert_path
    else:
        if tls.client_auth is not None:
            own = [("clientAuth.", tls.client_auth)]
        if tls.trust_certs_bundle is not None:
            yield "trustCertsBundle", tls.trust_certs_bundle
        yield from ((f"trustCerts[{index}]", path) for index, path in enumerate(tls.trust_certs))
    if tls.crl_path is not None:
        yield "crlPath", tls.crl_path
    for prefix, files in own:
        yield f"{prefix}certPath", files.cert_path
        yield f"{prefix}keyPath", files.key_path
        if files.intermediate_certs_path is not None:
            yield f"{prefix}intermediateCertsPath", files.intermediate_certs_path
