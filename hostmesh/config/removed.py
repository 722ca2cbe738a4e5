"""Keys that Linkerd 1 had and removed, keys its documentation shows and its code refuses, and keys on the wrong level.

Each gets the replacement instead of "unknown key" (linkerd1.md 1.8, 11). The place is the class that met the key.
"""

from __future__ import annotations

from typing import Final

_REMOVED: Final[dict[str, dict[str, str]]] = {
    "router": {
        "maxRequestKB": "removed in Linkerd 1.7.0; longer bodies than streamAfterContentLengthKB are streamed",
        "maxResponseKB": "removed in Linkerd 1.7.0; longer bodies than streamAfterContentLengthKB are streamed",
        "maxChunkKB": "removed in Linkerd 1.6.0; nothing replaces it, chunks of any size are streamed",
        "engine": "removed; there is one engine",
        "baseDtab": "renamed to dtab",
        "loggers": "removed; it became the client key requestAuthorizers",
        "timeoutMs": "split into service.totalTimeoutMs and client.requestAttemptTimeoutMs",
        "responseClassifier": "moved to service.responseClassifier",
        "retries": "moved to service.retries",
        "totalTimeoutMs": "moved to service.totalTimeoutMs",
        "requestAttemptTimeoutMs": "moved to client.requestAttemptTimeoutMs",
        "loadBalancer": "moved to client.loadBalancer",
        "failureAccrual": "moved to client.failureAccrual",
        "hostConnectionPool": "moved to client.hostConnectionPool",
        "failFast": "moved to client.failFast",
        "tls": "belongs to one side: client.tls for connections to endpoints, servers[].tls for callers",
        "maxConcurrentRequests": "a server key: servers[].maxConcurrentRequests",
        "clearContext": "a server key: servers[].clearContext",
        "addForwardedHeader": "a server key: servers[].addForwardedHeader",
        "timestampHeader": "a server key: servers[].timestampHeader",
        "maxCallDepth": "a server key: servers[].maxCallDepth",
        "namers": "a top-level key",
        "telemetry": "a top-level key",
        "connectTimeoutMs": "never existed; a TCP connect may take 1 s",
    },
    "client": {
        "loggers": "removed; it became requestAuthorizers",
        "engine": "removed; there is one engine",
        "timeoutMs": "split into client.requestAttemptTimeoutMs and service.totalTimeoutMs",
        "connectTimeoutMs": "never existed; a TCP connect may take 1 s",
        "responseClassifier": "moved to service.responseClassifier",
        "retries": "moved to service.retries",
        "totalTimeoutMs": "a service key: service.totalTimeoutMs",
    },
    "service": {
        "timeoutMs": "split into service.totalTimeoutMs and client.requestAttemptTimeoutMs",
        "requestAttemptTimeoutMs": "a client key: client.requestAttemptTimeoutMs",
        "loadBalancer": "a client key: client.loadBalancer",
        "failureAccrual": "a client key: client.failureAccrual",
    },
    "server": {
        "engine": "removed; there is one engine",
        "maxHeadersKB": "a router key: routers[].maxHeadersKB",
        "maxInitialLineKB": "a router key: routers[].maxInitialLineKB",
    },
    "client tls": {
        "kind": "removed; say disableValidation: true for io.l5d.noValidation, commonName for the others",
        "caCertPath": "replaced by trustCertsBundle",
        "strict": "removed; validation is on unless disableValidation: true",
        "names": "removed; write client: {kind: io.l5d.static, configs: [{prefix, tls: {commonName}}]}",
    },
    "server tls": {
        "kind": "removed; a server's tls has no kinds",
        "enabled": "not a key here; leave tls out to serve plain text",
        "strict": "removed; say requireClientAuth: true",
    },
    "linker": {
        "announcers": "belongs to a router: routers[].announcers",
        "baseDtab": "belongs to a router: routers[].dtab",
        "dtab": "belongs to a router: routers[].dtab",
        "storage": "a namerd key; this is a linkerd configuration",
        "interfaces": "a namerd key; this is a linkerd configuration",
        "telemeters": "spelt telemetry",
    },
    "admin": {
        "enabled": "never existed; the admin interface is always on, see admin.security",
    },
}

_REMOVED_KINDS: Final[dict[tuple[str, str], str]] = {
    ("protocol", "mux"): "mux is not carried by hostmesh",
    (
        "namer",
        "io.l5d.rancher",
    ): "not in hostmesh; use io.l5d.fs, io.l5d.consul or io.l5d.k8s",
    ("namer", "io.l5d.k8s.istio"): "deprecated in Linkerd 1.7 and not in hostmesh; use io.l5d.k8s",
    ("namer", "io.l5d.etcd"): "Linkerd 1 never had an etcd namer; etcd is a namerd storage",
    ("identifier", "io.l5d.k8s.istio"): "deprecated in Linkerd 1.7 and not in hostmesh; use io.l5d.ingress",
    (
        "identifier",
        "io.l5d.k8s.istio-ingress",
    ): "deprecated in Linkerd 1.7 and not in hostmesh; use io.l5d.ingress",
    ("interpreter", "io.l5d.k8s.istio"): "deprecated in Linkerd 1.7 and not in hostmesh",
    ("telemeter", "io.l5d.commonMetrics"): "removed in Linkerd 1.1; metrics.json is always served",
    ("telemeter", "io.zipkin.http"): "a separate plugin of Linkerd; use io.l5d.zipkin",
    ("classifier", "io.l5d.nonRetryable5XX"): "renamed to io.l5d.http.nonRetryable5XX",
    ("classifier", "io.l5d.retryableRead5XX"): "renamed to io.l5d.http.retryableRead5XX",
    ("classifier", "io.l5d.retryableIdempotent5XX"): "renamed to io.l5d.http.retryableIdempotent5XX",
    ("classifier", "io.l5d.retryableAll5XX"): "renamed to io.l5d.http.retryableAll5XX",
}


def removed_key(place: str | None, key: str) -> str | None:
    """What became of a key, or None when it never was one. ``place`` is the class's ``place`` ("router", ...)."""
    return _REMOVED.get(place or "", {}).get(key)


def removed_kind(slot: str, kind: str) -> str | None:
    """What became of a kind, full or short."""
    return _REMOVED_KINDS.get((slot, kind)) or _REMOVED_KINDS.get((slot, "io.l5d." + kind))
