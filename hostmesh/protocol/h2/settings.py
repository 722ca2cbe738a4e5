"""What one side of an HTTP/2 connection declares and keeps to."""

from __future__ import annotations

from attrs import frozen

from hostmesh.protocol.h2.budgets import DEFAULT_BUDGETS, Budgets

DEFAULT_WINDOW = 65535
"""Octets of every flow-control window before anybody says otherwise (RFC 9113 6.9.2)."""

DEFAULT_FRAME = 16384
"""Octets of payload that every peer takes in one frame (RFC 9113 4.2)."""

DEFAULT_TABLE = 4096
"""Octets of an HPACK table before anybody says otherwise (RFC 9113 6.5.2)."""

LEAST_UPDATE = 1 / 8
"""The part of a window that is used before it is given back, at least. Each WINDOW_UPDATE that goes out alone costs a
send and wakes the peer, and for calls of some hundred octets that was every second send; seven eighths are enough for
a peer not to wait.
"""


@frozen(kw_only=True)
class H2Settings:
    """One side of a connection: what SETTINGS announces, and our own bounds. One object per listener or client.

    Sizes are octets. The peer may use the values below from its first frame after it has acknowledged them.
    """

    client_side: bool
    """True towards an endpoint, False towards a caller."""

    max_concurrent_streams: int = 100
    """Streams the peer may have open at once; more get REFUSED_STREAM. 100 is what RFC 9113 calls the least
    that does not limit parallelism, and what one connection may pin in memory (H5). A client announces 0
    pushed streams whatever this says.
    """

    initial_window: int = DEFAULT_WINDOW
    """Body octets of one stream that may be on their way to us or held by us."""

    max_frame: int = DEFAULT_FRAME
    """Payload octets of one frame towards us."""

    header_table: int = DEFAULT_TABLE
    """Octets of the HPACK table that the peer's encoder may fill."""

    max_header_list: int = 65536
    """Octets of one decoded header list, 32 more counted for each field (RFC 7541 4.1). h2's default (H4)."""

    window_update_ratio: float = 0.99
    """A window is given back once less than this part of it is left, and :data:`LEAST_UPDATE` of it is used. Key
    ``windowUpdateRatio``, Linkerd's default.
    """

    enable_connect_protocol: bool = False
    """A server announces extended CONNECT (RFC 8441), which carries WebSocket."""

    budgets: Budgets = DEFAULT_BUDGETS
    """What the peer may cost us."""

    def update_threshold(self, window: int) -> int:
        """Octets of a window of this size that are used when it is given back."""
        return max(1, int(max(1.0 - self.window_update_ratio, LEAST_UPDATE) * window))
