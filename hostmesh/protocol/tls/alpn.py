"""Which of the protocols that a caller offers is spoken (ALPN, RFC 7301), in two ways that do the same.

pyOpenSSL's callback cuts the offer into pieces, asks, and allocates memory for the answer: 14 us of a handshake. Ours
points into the offer, which OpenSSL allows. It is taken where the binding is as we know it (:mod:`.records`).
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL

from hostmesh.protocol.tls import records
from hostmesh.protocol.tls.codec import Notes, NothingInCommonError

_SIGNATURE: Final = (
    "int (*)(SSL *, unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *)"
)

_OK, _ALERT, _NO_ANSWER = 0, 2, 3
"""``SSL_TLSEXT_ERR_OK``, ``_ALERT_FATAL`` and ``_NOACK`` of tls1.h."""


def choose_by_notes(context: SSL.Context) -> None:
    """Let every connection of a server's ``context`` choose by its own :class:`Notes`."""
    binding = records.BINDING
    if binding is None:
        context.set_alpn_select_callback(_select)
    else:
        known: Any = context
        binding.set_alpn_select_cb(known._context, _callback_of(binding), binding.ffi.NULL)


def _choose(notes: Notes, offered: dict[bytes, int]) -> bytes | None:
    """The first of ours that was offered; else None, and what was offered is noted if that ends the handshake."""
    for each in notes.alpn:
        if each in offered:
            notes.chosen = each
            return each
    if notes.alpn:
        notes.offered = list(offered)
    return None


def _select(connection: SSL.Connection, offered: list[bytes]) -> Any:
    notes: Notes = connection.get_app_data()
    chosen = _choose(notes, dict.fromkeys(offered, 0))
    if chosen is not None:
        return chosen
    if notes.alpn:
        raise NothingInCommonError
    return SSL.NO_OVERLAPPING_PROTOCOLS


def _select_directly(ssl: Any, out: Any, out_size: Any, offer: Any, size: int, _nothing: Any) -> int:
    binding = records.BINDING
    assert binding is not None
    notes: Notes = binding.connections[ssl].get_app_data()
    offered = _positions(binding.ffi.buffer(offer, size)[:])
    chosen = _choose(notes, offered)
    if chosen is not None:
        out[0] = offer + offered[chosen]
        out_size[0] = len(chosen)
        return _OK
    return _ALERT if notes.alpn else _NO_ANSWER


def _positions(offer: bytes) -> dict[bytes, int]:
    """Names, each behind its length in a byte, and where they are; OpenSSL has checked that they fill the offer."""
    found: dict[bytes, int] = {}
    at = 0
    while at < len(offer):
        end = at + 1 + offer[at]
        found.setdefault(offer[at + 1 : end], at + 1)
        at = end
    return found


_callbacks: list[Any] = []
"""The one that all contexts share, which must live as long as they do."""


def _callback_of(binding: Any) -> Any:
    if not _callbacks:
        # An exception in it is a bug: it is printed, and the handshake ends.
        _callbacks.append(binding.ffi.callback(_SIGNATURE, _select_directly, error=_ALERT))
    return _callbacks[0]
