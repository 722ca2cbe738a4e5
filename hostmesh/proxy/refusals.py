"""What a caller's session says when it ends a request before an exchange does."""

from __future__ import annotations

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.protocol.h1_message import excerpt


def cut_short() -> MeshError:
    """Half a head, and then the end of the stream."""
    return MeshError(
        Reason.BAD_REQUEST,
        "caller closed the connection in the middle of a request head",
        status=400,
        side=Side.CALLER,
    )


TLS_ALERT = bytes((21, 3, 1, 0, 2, 2, 40))
"""A record of one alert: fatal, handshake_failure (RFC 8446 section 6). It is what a TLS client understands."""


def unexpected_tls() -> MeshError:
    """A handshake on a port without TLS."""
    return MeshError(
        Reason.TLS_UNEXPECTED,
        "the caller speaks TLS, and this server has no tls in its configuration",
        status=400,
        side=Side.CALLER,
    )


def gone(how: str) -> MeshError:
    """The caller left before its answer. 499 is what logs call it; nobody is there to be told."""
    return MeshError(Reason.RESET_BY_CALLER, how, status=499, side=Side.CALLER)


def bug() -> MeshError:
    """Our own reading of a caller's connection has failed: neither the caller left, nor did anybody else fail."""
    return MeshError(
        Reason.BUG,
        "hostmesh failed to read the caller's connection; the log has the traceback",
        status=500,
    )


def late_head(seconds: float) -> MeshError:
    """A head that dribbles (hardening R1)."""
    return MeshError(
        Reason.LIMIT_HEAD_TIME,
        f"the request head was not complete within {seconds:.3g} s",
        status=408,
        side=Side.CALLER,
    )


def long_body(maximum: int) -> MeshError:
    """A body that would have to be held whole and is too long for that."""
    return MeshError(
        Reason.LIMIT_BODY_BYTES,
        f"a request body of more than {maximum} bytes on a router that reads bodies whole "
        "(streamingEnabled: false)",
        status=413,
        side=Side.CALLER,
    )


def late_body(seconds: float) -> MeshError:
    """A body that has stopped coming (hardening R2)."""
    return MeshError(
        Reason.LIMIT_BODY_TIME,
        f"no byte of the request body arrived for {seconds:g} s",
        status=408,
        side=Side.CALLER,
    )


def endpoint_gone(how: str) -> MeshError:
    """A tunnel's endpoint broke its connection: what the caller has had so far is not all."""
    return MeshError(Reason.RESET_BY_ENDPOINT, how, status=502, side=Side.CALLEE)


def idle_tunnel(seconds: float, key: str = "tunnelIdleTimeMs") -> MeshError:
    """A tunnel in which nobody said anything."""
    return MeshError(
        Reason.TUNNEL_IDLE,
        f"no byte passed in either direction for {seconds:g} s ({key})",
        status=503,
        side=Side.SELF,
    )


def old_tunnel(seconds: float) -> MeshError:
    """A connection that has lived as long as it may."""
    return MeshError(
        Reason.TUNNEL_LIFE,
        f"the connection is {seconds:g} s old (serverSession.lifeTimeMs)",
        status=503,
        side=Side.SELF,
    )


def expectation(value: bytes | None) -> MeshError | None:
    """An Expect that nobody knows (RFC 9110 section 10.1.1), or None if the value is none of that kind."""
    if value is None or value.lower() == b"100-continue":
        return None
    return MeshError(
        Reason.UNSUPPORTED, f"Expect {excerpt(value)} is not 100-continue", status=417, side=Side.CALLER
    )


def connect() -> MeshError:
    """CONNECT to anywhere (hardening F20)."""
    return MeshError(
        Reason.UNSUPPORTED, "CONNECT is not enabled on this listener", status=405, side=Side.CALLER
    )


def connect_to(protocol: bytes) -> MeshError:
    """Extended CONNECT for a protocol that is not allowed here (RFC 8441)."""
    return MeshError(
        Reason.UNSUPPORTED,
        f"extended CONNECT for {excerpt(protocol)}, which this listener does not allow (upgrades)",
        status=501,
        side=Side.CALLER,
    )


def end_of_drain() -> MeshError:
    """Still running when the time for the drain was over."""
    return MeshError(
        Reason.DRAINING, "cut at the end of the drain (shutdownGraceMs)", status=503, side=Side.SELF
    )
