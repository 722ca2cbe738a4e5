"""The bounds of a transport: what it buffers, reads at once, and waits for."""

from __future__ import annotations

import errno
from typing import Final

HIGH_MARK: Final = 64 * 1024
"""Bytes buffered for writing at which ``blocked`` turns True: the resident bound per direction of design rule 7."""

LOW_MARK: Final = 16 * 1024
"""Bytes left at which a blocked writer is told to go on: low enough that it writes a full segment train next."""

HELD_MAX: Final = 8 * 1024
"""Bytes below which a write waits for the end of the batch, at most some 2 ms; more than that is worth its own call."""

READ_SMALL: Final = 16 * 1024
"""First read size: a request head or a small answer; CPython allocates the whole of it before the call."""

READ_LARGE: Final = 120 * 1024
"""Read size once a read came back full: a body is being streamed and fewer, larger calls are cheaper. CPython allocates
this much before each call, and glibc maps and unmaps pages for whatever is 128 KiB or more (M_MMAP_THRESHOLD): uploads
of 1 MB cost 364-409 us at 128 KiB a read, 309 at 64, 234-278 at this. With it, not 64 KiB, one read of a body may be
resident."""

WRITE_STALL = 60.0
"""Seconds without any progress on a non-empty write buffer after which the connection is cut (hardening R2)."""

LINGER_READ: Final = 64 * 1024 * 1024
"""Bytes thrown away after an early close so that the peer reads our answer before it sees a reset (RFC 9112 9.6). Many
callers read nothing until they have sent all: an upload of up to this is refused at once, a larger one after
:data:`LINGER_TIME` and perhaps with a reset. Reading it takes some 15 ms in all."""

LINGER_TIME = 2.0
"""Seconds that such a lingering close may take."""

PEER_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED})
"""Write errors after which the kernel tells a reader the rest, and then the end."""
