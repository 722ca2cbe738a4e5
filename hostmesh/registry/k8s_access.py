"""How to reach a Kubernetes API server, and who to be there: plain HTTP, a pod's service account, a kubeconfig.

Files are read when a connection is made and tokens at every request, because both rotate.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml
from attrs import field, frozen

from hostmesh.base.errors import ConfigError
from hostmesh.registry.k8s_exec import ExecPlugins
from hostmesh.registry.k8s_objects import items, mapping, text
from hostmesh.registry.tls_context import VerifyingContext, with_file

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet puts a pod's token and the server's CA."""

MAX_FILE = 1 << 20
"""Bytes of a token, CA or kubeconfig."""


@frozen(kw_only=True)
class K8sApi:
    """*hostmesh* How to reach the API server. Without it: plain HTTP at ``host`` and ``port``, as through
    ``kubectl proxy``."""

    in_cluster: bool = False
    """Be the pod's service account: address from ``KUBERNETES_SERVICE_HOST`` and ``KUBERNETES_SERVICE_PORT``,
    token and CA from the mounted files. ``host`` and ``port`` are not used."""
    service_account: str = SERVICE_ACCOUNT
    """The directory with ``token`` and ``ca.crt``."""
    kubeconfig: str | None = None
    """A kubeconfig file; ``host`` and ``port`` are not used. Its tokens, token files, client certificates and
    passwords are, and the programs that it names (``exec``) if nobody but its owner, us or root, may write to it."""
    context: str | None = None
    """The kubeconfig's context. Default: its current one."""
    tls: bool = False
    """TLS to ``host`` and ``port``."""
    ca_file: str | None = None
    """CA certificates for ``tls``. Default: those of the system."""
    token_file: str | None = None
    """A file with a bearer token for ``tls``, read again as it rotates."""

    def check(self) -> list[str]:
        """Combinations that contradict each other."""
        chosen = [
            name
            for name, on in (
                ("inCluster", self.in_cluster),
                ("kubeconfig", self.kubeconfig is not None),
                ("tls", self.tls),
            )
            if on
        ]
        problems = []
        if len(chosen) > 1:
            problems.append(f"expected one of inCluster, kubeconfig, tls, found {', '.join(chosen)}")
        if not self.tls and (self.ca_file or self.token_file):
            problems.append("caFile and tokenFile need tls: true, since a token is not sent in the clear")
        if self.context is not None and self.kubeconfig is None:
            problems.append("context needs kubeconfig")
        return problems


@frozen(kw_only=True)
class Access:
    """An API server, ready to be asked."""

    url: str
    """Without a slash at its end."""
    headers: Callable[[], dict[str, str]] = field(factory=lambda: dict)
    """What to send with a request made now. Raises OSError when a token cannot be read."""
    context: ssl.SSLContext | None = None
    server_name: str | None = None
    """Another name to verify in the certificate than the URL's."""
    fresh_until: float | None = None
    """``time.time()`` from which on there should be another one; None: never."""


def access_of(
    api: K8sApi,
    host: str,
    port: int,
    environ: Mapping[str, str] = os.environ,
    plugins: ExecPlugins | None = None,
) -> Access:
    """The access that ``api`` describes. Reads files, and runs the programs of a kubeconfig unless ``plugins`` knows
    what they say: raises OSError, ssl.SSLError or ConfigError."""
    if api.kubeconfig is not None:
        path = os.path.expanduser(api.kubeconfig)
        return _from_kubeconfig(path, api.context, plugins or ExecPlugins())
    if api.in_cluster:
        try:
            address = environ["KUBERNETES_SERVICE_HOST"]
            number = environ["KUBERNETES_SERVICE_PORT"]
        except KeyError as missing:
            raise ConfigError(
                f"api.inCluster: {missing.args[0]} is not set, so this is no Kubernetes pod"
            ) from missing
        files = api.service_account
        return Access(
            url=f"https://{_bracketed(address)}:{number}",
            headers=_bearer_from(os.path.join(files, "token")),
            context=_context(address, cafile=os.path.join(files, "ca.crt")),
        )
    if api.tls:
        headers: Callable[[], dict[str, str]] = dict
        if api.token_file is not None:
            headers = _bearer_from(api.token_file)
        return Access(
            url=f"https://{_bracketed(host)}:{port}",
            headers=headers,
            context=_context(host, cafile=api.ca_file),
        )
    return Access(url=f"http://{_bracketed(host)}:{port}", headers=dict)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bearer_from(path: str) -> Callable[[], dict[str, str]]:
    # A read of some hundred bytes from memory (a projected volume is a tmpfs) once per request, of which there
    # are few: cheaper than being wrong for a minute after a rotation.
    return lambda: _bearer(_text_file(path))


def _bearer(token: str) -> dict[str, str]:
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise OSError("expected a token of one line, found something else")
    return {"authorization": f"Bearer {token}"}


def _text_file(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(MAX_FILE).decode("utf-8", "replace")


def _context(
    name: str, *, cafile: str | None = None, cadata: str | None = None, insecure: bool = False
) -> ssl.SSLContext:
    """One that verifies ``name``; the system's CAs count only where no others are given."""
    context = VerifyingContext.of(None if insecure else name)
    if cafile is not None:
        try:
            context.load_verify_locations(cafile=cafile)
        except OSError as error:
            raise OSError(f"{cafile}: {error.strerror or error}") from error
    elif cadata is not None:
        context.load_verify_locations(cadata=cadata)
    elif not insecure:
        context.load_default_certs()
    return context


def _from_kubeconfig(path: str, wanted: str | None, plugins: ExecPlugins) -> Access:
    try:
        config = mapping(yaml.safe_load(_text_file(path)))
    except yaml.YAMLError as error:
        # Not the library's text, which repeats the line: there are tokens in these files.
        mark = getattr(error, "problem_mark", None)
        where = path if mark is None else f"{path}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or "characters that YAML does not allow"
        raise ConfigError(f"{where}: expected a kubeconfig, found no YAML: {problem}") from None
    name = wanted or text(config.get("current-context"))
    context = _named(config, "context", name, path)
    entry = _named(config, "cluster", text(context.get("cluster")), path)
    user_name = text(context.get("user"))
    user = _named(config, "user", user_name, path) if user_name else {}
    base = os.path.dirname(os.path.abspath(path))
    url = text(entry.get("server")).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{path}: expected a server URL, found {url!r}")
    if "auth-provider" in user:
        raise ConfigError(
            f"{path}: user {user_name}: auth-provider is not supported; use exec, a token or a certificate"
        )
    given = None
    tls = None
    if url.startswith("https://"):
        ca = _pem(entry, "certificate-authority", base, path)
        name = text(entry.get("tls-server-name")) or urlsplit(url).hostname or ""
        tls = _context(name, cadata=ca, insecure=entry.get("insecure-skip-tls-verify") is True)
        certificate, key_pem = (
            _pem(user, "client-certificate", base, path),
            _pem(user, "client-key", base, path),
        )
        if certificate is not None and key_pem is not None:
            _load_chain(tls, certificate, key_pem)
        elif "exec" in user and not any(user.get(key) for key in ("token", "tokenFile", "username")):
            about = {key: entry[key] for key in _CLUSTER_KEYS if key in entry}
            given = plugins.credential(user_name, mapping(user["exec"]), about, path)
            if given.certificate:
                _load_chain(tls, given.certificate, given.key)
            if given.token:
                user = {"token": given.token}
    return Access(
        url=url,
        headers=_credentials(user, base) if tls is not None else dict,
        fresh_until=None if given is None else given.fresh_until,
        context=tls,
        server_name=text(entry.get("tls-server-name")) or None,
    )


_CLUSTER_KEYS = ("server", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name")
"""What a program is told of the server, if it wants to know."""


def _named(config: Mapping[str, Any], kind: str, name: str, path: str) -> Mapping[str, Any]:
    for each in items(config.get(f"{kind}s")):
        if each.get("name") == name:
            return mapping(each.get(kind))
    raise ConfigError(f"{path}: expected a {kind} named {name!r}, found none")


def _pem(entry: Mapping[str, Any], key: str, base: str, path: str) -> str | None:
    data = text(entry.get(f"{key}-data"))
    if data:
        try:
            return base64.b64decode(data, validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise ConfigError(f"{path}: {key}-data: expected base64 of PEM, found something else") from error
    file = text(entry.get(key))
    return _text_file(os.path.join(base, file)) if file else None


def _load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    with_file(f"{certificate}\n{key}\n".encode(), context.load_cert_chain)


def _credentials(user: Mapping[str, Any], base: str) -> Callable[[], dict[str, str]]:
    token_file = text(user.get("tokenFile"))
    if token_file:
        return _bearer_from(os.path.join(base, token_file))
    token = text(user.get("token"))
    if token:
        return lambda: _bearer(token)
    name, password = text(user.get("username")), text(user.get("password"))
    if name:
        pair = base64.b64encode(f"{name}:{password}".encode()).decode("ascii")
        return lambda: {"authorization": f"Basic {pair}"}
    return dict
