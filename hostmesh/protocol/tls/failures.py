"""What went wrong with a TLS connection, in words that a person can act on.

OpenSSL says it in two vocabularies: error strings, its own or those of an alert that the peer has sent (RFC 8446
section 6.2), and numbers of the verification of a chain (``X509_V_ERR_*``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from hostmesh.base.errors import MeshError, Sent, Side
from hostmesh.base.reasons import Reason

BAD_GATEWAY: Final = 502


class TlsFailure(Exception):  # noqa: N818  # what happened, not a mistake in a program
    """A handshake that failed, or a connection that cannot go on.

    ``reason`` says how, the text says whose certificate and what to do. ``farewell`` is what still has to be sent: the
    alert, if there is one.
    """

    def __init__(self, reason: Reason, message: str, farewell: bytes = b"") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.farewell = farewell


class TlsConnectionError(ConnectionError):
    """A connection that TLS has ended, as transports report it."""

    def __init__(self, failure: TlsFailure) -> None:
        super().__init__(None, failure.message)
        self.failure = failure


def lost_reason(error: OSError | None) -> Reason:
    """Why a request failed whose connection to its endpoint ended with ``error``.

    In TLS 1.3 an endpoint refuses our certificate when the handshake is over for us.
    """
    return error.failure.reason if isinstance(error, TlsConnectionError) else Reason.RESET_BY_ENDPOINT


def as_mesh_error(failure: TlsFailure, endpoint: str) -> MeshError:
    """The failure of a connect to ``endpoint``: nothing of a request has been sent."""
    return MeshError(
        failure.reason,
        f"no TLS with {endpoint}: {failure.message}",
        status=BAD_GATEWAY,
        side=Side.CALLEE,
        sent=Sent.NOTHING,
    )


VerifyProblem: TypeAlias = tuple[int, int, str]
"""``X509_V_ERR_*``, the depth at which it was found (0 is the peer's own certificate), and that certificate's name."""

_VERIFY: Final[dict[int, tuple[Reason, str]]] = {
    2: (Reason.TLS_UNTRUSTED, "is signed by a CA that is not among the trusted ones"),
    3: (Reason.TLS_REVOKED, "cannot be checked: crlPath has no list of its CA"),
    7: (Reason.TLS_UNTRUSTED, "has a wrong signature"),
    9: (Reason.TLS_EXPIRED, "is not valid yet"),
    10: (Reason.TLS_EXPIRED, "has expired"),
    11: (Reason.TLS_REVOKED, "cannot be checked: the revocation list is not valid yet"),
    12: (Reason.TLS_REVOKED, "cannot be checked: the revocation list has expired"),
    18: (Reason.TLS_UNTRUSTED, "is signed by itself and not among the trusted ones"),
    19: (Reason.TLS_UNTRUSTED, "comes with a CA that is not among the trusted ones"),
    20: (Reason.TLS_UNTRUSTED, "is signed by a CA that is not among the trusted ones"),
    21: (Reason.TLS_UNTRUSTED, "is signed by a CA that is not among the trusted ones"),
    22: (Reason.TLS_UNTRUSTED, "has too long a chain"),
    23: (Reason.TLS_REVOKED, "has been revoked"),
    24: (Reason.TLS_UNTRUSTED, "is used as a CA and is none"),
    25: (Reason.TLS_UNTRUSTED, "is below more CAs than its path length allows"),
    26: (Reason.TLS_WRONG_USAGE, "may not be used for this side of a connection (extendedKeyUsage)"),
    32: (Reason.TLS_UNTRUSTED, "may not sign certificates (keyUsage)"),
    79: (Reason.TLS_UNTRUSTED, "is used as a CA and is none"),
}


def of_verification(problem: VerifyProblem, whose: str) -> tuple[Reason, str]:
    """Reason and text for a chain that was refused; ``whose`` is the peer, as in "the caller's certificate"."""
    code, depth, name = problem
    reason, what = _VERIFY.get(code, (Reason.TLS_UNTRUSTED, f"was refused (X509 error {code})"))
    place = "certificate" if depth == 0 else f"chain, level {depth}:"
    return reason, f"{whose} {place} {name} {what}".replace(":  ", ": ")


_ALERTS: Final[dict[str, str]] = {
    "unknown ca": "it does not trust the CA of our certificate",
    "bad certificate": "it refuses our certificate",
    "certificate expired": "our certificate has expired for it",
    "certificate revoked": "our certificate has been revoked",
    "certificate unknown": "it refuses our certificate",
    "certificate required": "it wants a certificate and we have shown none",
    "unsupported certificate": "our certificate may not be used for this (extendedKeyUsage)",
    "handshake failure": "we have no cipher or signature in common, or it wants a certificate",
    "protocol version": "we have no version in common",
    "unrecognized name": "it does not know the name that we asked for",
    "no application protocol": "it does not speak the protocol that we offered (ALPN)",
    "access denied": "it denies us access",
    "user cancelled": "it gave up",
}

_OWN: Final[dict[str, tuple[Reason, str]]] = {
    "http request": (Reason.TLS_NOT_SPOKEN, "it speaks HTTP without TLS"),
    "https proxy request": (Reason.TLS_NOT_SPOKEN, "it speaks HTTP without TLS"),
    "wrong version number": (Reason.TLS_NOT_SPOKEN, "it does not speak TLS"),
    "packet length too long": (Reason.TLS_NOT_SPOKEN, "it does not speak TLS"),
    "unsupported protocol": (Reason.TLS_VERSION, "it has no version in common with us"),
    "version too low": (Reason.TLS_VERSION, "it has no version in common with us"),
    "inappropriate fallback": (Reason.TLS_VERSION, "it fell back to an older version than both sides have"),
    "no shared cipher": (Reason.TLS_HANDSHAKE, "it has no cipher in common with us"),
    "no suitable signature algorithm": (
        Reason.TLS_HANDSHAKE,
        "it takes no signature of our certificate's kind",
    ),
    "no suitable key share": (Reason.TLS_HANDSHAKE, "it has no group in common with us"),
    "no suitable groups": (Reason.TLS_HANDSHAKE, "it has no group in common with us"),
    "peer did not return a certificate": (Reason.TLS_NO_CERTIFICATE, "it has shown no certificate"),
    "no application protocol": (Reason.TLS_HANDSHAKE, "it offers no protocol that is served here (ALPN)"),
    "decryption failed or bad record mac": (Reason.TLS_HANDSHAKE, "its bytes were changed on the way"),
    "bad record type": (Reason.TLS_NOT_SPOKEN, "it does not speak TLS"),
    "data length too long": (Reason.TLS_NOT_SPOKEN, "it does not speak TLS"),
}


def of_library(errors: Sequence[Sequence[str]], whose: str) -> tuple[Reason, str]:
    """Reason and text for what OpenSSL reports; ``errors`` are its (library, function, reason) triples."""
    for each in errors:
        text = each[-1].lower()
        if "alert " in text:
            alert = text.split("alert ", 1)[1]
            meaning = _ALERTS.get(alert)
            reason = Reason.TLS_VERSION if alert == "protocol version" else Reason.TLS_REJECTED
            said = f"{whose} sent the alert {alert!r}"
            return reason, said if meaning is None else f"{said}: {meaning}"
        known = _OWN.get(text)
        if known is not None:
            return known[0], f"{whose}: {known[1]}"
    said = "; ".join(each[-1] for each in errors) or "no reason was given"
    return Reason.TLS_HANDSHAKE, f"{whose}: {said}"
