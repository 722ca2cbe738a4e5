"""What a request carries from hop to hop beside itself: trace ids, the sampling decision, hops, and why it
failed.

A bad value is never an error: it is as if the field were absent (T7). Formats: Linkerd's ``l5d-ctx-trace``,
``l5d-reqid`` and ``l5d-sample``; Zipkin's B3, many fields or one, for ``tracePropagator: io.l5d.zipkin``.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64, hexlify
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from random import Random

    from hostmesh.protocol.h1_message import Special

DEBUG: Final = 1
SAMPLING_KNOWN: Final = 2
SAMPLED: Final = 4
_DECISION: Final = SAMPLING_KNOWN | SAMPLED

Get = Callable[[bytes], bytes | None]
"""How a head answers for a lower-case field name."""

_words4: Final = Struct(">QQQQ")
_words5: Final = Struct(">QQQQQ")
_hex16: Final = re.compile(rb"[0-9A-Fa-f]{16}").fullmatch
_hex_trace: Final = re.compile(rb"(?:[0-9A-Fa-f]{16}){1,2}").fullmatch
_rate: Final = re.compile(rb"[0-9]{0,20}(?:\.[0-9]{0,20})?(?:[eE][-+]?[0-9]{1,3})?").fullmatch


class TraceId:
    """One span's place in its trace. Never changed: :meth:`child` and :meth:`sampled_as` make new ones."""

    __slots__ = ("flags", "high", "parent", "span", "trace")

    def __init__(self, trace: int, span: int, parent: int | None, flags: int = 0, high: int = 0) -> None:
        self.trace = trace
        """Low 64 bits."""
        self.span = span
        self.parent = parent
        """None for a root span."""
        self.flags = flags
        self.high = high
        """High 64 bits of the trace id, 0 if it has none."""

    @property
    def sampled(self) -> bool | None:
        """The decision that came with the trace, None if nobody has decided."""
        return bool(self.flags & SAMPLED) if self.flags & SAMPLING_KNOWN else None

    @property
    def debug(self) -> bool:
        return bool(self.flags & DEBUG)

    def child(self, rng: Random) -> TraceId:
        """A new span under this one: same trace, same flags."""
        return TraceId(self.trace, new_id(rng), self.span, self.flags, self.high)

    def sampled_as(self, sampled: bool) -> TraceId:
        """The same span with this decision."""
        flags = self.flags & ~_DECISION | (_DECISION if sampled else SAMPLING_KNOWN)
        return TraceId(self.trace, self.span, self.parent, flags, self.high)

    @property
    def hex(self) -> str:
        """The trace id as logs and Zipkin show it: 16 or 32 lower-case digits."""
        return f"{self.high:016x}{self.trace:016x}" if self.high else f"{self.trace:016x}"

    @property
    def low_hex(self) -> bytes:
        """The low 64 bits of the trace id as 16 digits."""
        return hexlify(self.trace.to_bytes(8, "big"))

    def _key(self) -> tuple[int, int, int | None, int, int]:
        return self.trace, self.span, self.parent, self.flags, self.high

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, TraceId) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        parent = "root" if self.parent is None else f"{self.parent:016x}"
        return f"<TraceId {self.hex} span={self.span:016x} parent={parent} flags={self.flags}>"


def new_id(rng: Random) -> int:
    """64 random bits, not all zero: zero means "absent" to other tracers."""
    return rng.getrandbits(64) or 1


def root_trace(rng: Random, flags: int = 0) -> TraceId:
    """A new trace whose root span it is."""
    span = new_id(rng)
    return TraceId(span, span, None, flags)


def decode_trace(value: bytes) -> TraceId | None:
    """Read ``l5d-ctx-trace``: base64 of 32 or 40 bytes, big-endian words; None for anything else."""
    if len(value) > 56:
        return None
    try:
        raw = a2b_base64(value, strict_mode=True)
    except Base64Error:
        return None
    high = 0
    if len(raw) == 32:
        span, parent, trace, flags = _words4.unpack(raw)
    elif len(raw) == 40:
        span, parent, trace, flags, high = _words5.unpack(raw)
    else:
        return None
    # Writers fill every word: a parent equal to the span is "none". A trace id equal to the parent is "unset"
    # and # then stands for the parent, which is the same number.
    return TraceId(trace, span, None if parent == span else parent, flags, high)


def encode_trace(trace: TraceId) -> bytes:
    """The ``l5d-ctx-trace`` value; :func:`decode_trace` reads it back."""
    parent = trace.span if trace.parent is None else trace.parent
    if trace.high:
        raw = _words5.pack(trace.span, parent, trace.trace, trace.flags, trace.high)
    else:
        raw = _words4.pack(trace.span, parent, trace.trace, trace.flags)
    return b2a_base64(raw, newline=False)


def decode_rate(value: bytes) -> float | None:
    """Read ``l5d-sample``: a decimal number, clamped to [0, 1]; None if it is not a number."""
    negative = value[:1] == b"-"
    digits = value[1:] if negative or value[:1] == b"+" else value
    if not _rate(digits):
        return None
    try:
        rate = float(digits)
    except ValueError:
        return None
    return 0.0 if negative else min(rate, 1.0)


def is_chosen(trace: int, rate: float, salt: int) -> bool:
    """Whether a trace (low 64 bits) is among the ``rate`` (0 to 1) that are sampled; the resolution is
    1/10000.

    ``salt`` differs between processes, so that they do not all choose the same traces.
    """
    signed = trace - (1 << 64) if trace >> 63 else trace
    return abs(signed ^ salt) % 10_000 < rate * 10_000


class Incoming:
    """What a propagator found in a request head."""

    __slots__ = ("flags", "trace")

    def __init__(self, trace: TraceId | None, flags: int = 0) -> None:
        self.trace = trace
        """The caller's span, None if there was none that could be read."""
        self.flags = flags
        """A decision without ids (``x-b3-sampled: 0``), for the root span that is now ours to make."""


_NOTHING: Final = Incoming(None)


class Propagator(Protocol):
    """How trace ids travel. ``names`` are the fields it owns: cut from what is forwarded, then written
    anew.
    """

    names: frozenset[bytes]

    def read(self, get: Get) -> Incoming:
        """What the caller sent; ``get`` is the head's."""
        ...

    def lines(self, trace: TraceId) -> bytes:
        """Encoded field lines for a request that carries ``trace``, each with its CRLF."""
        ...

    def pairs(self, trace: TraceId) -> list[tuple[bytes, ...]]:
        """The same as pairs of HTTP/2."""
        ...


_L5D_NAMES: Final = frozenset({b"l5d-ctx-trace", b"l5d-reqid"})
_B3_NAMES: Final = frozenset(
    {b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"}
)


class L5dPropagator:
    """``l5d-ctx-trace`` and ``l5d-reqid``: kind io.l5d.default."""

    names = _L5D_NAMES

    def read(self, get: Get) -> Incoming:
        value = get(b"l5d-ctx-trace")
        trace = decode_trace(value) if value else None
        return _NOTHING if trace is None else Incoming(trace)

    def lines(self, trace: TraceId) -> bytes:
        # l5d-reqid is the root's id as 16 digits, also when the trace id has 128 bits.
        return b"l5d-ctx-trace: %b\r\nl5d-reqid: %b\r\n" % (encode_trace(trace), trace.low_hex)

    def pairs(self, trace: TraceId) -> list[tuple[bytes, ...]]:
        return [(b"l5d-ctx-trace", encode_trace(trace)), (b"l5d-reqid", trace.low_hex)]


class B3Propagator:
    """Zipkin's B3: kind io.l5d.zipkin. Reads the single field first, then the five; writes the five.

    Unlike Linkerd the parent is left out on a root span, and an absent decision stays absent.
    """

    names = _B3_NAMES

    def read(self, get: Get) -> Incoming:
        single = get(b"b3")
        if single is not None:
            found = _read_single(single)
            if found is not None:
                return found
        flags = _B3_SAMPLED.get((get(b"x-b3-sampled") or b"").lower(), 0)
        if get(b"x-b3-flags") == b"1":
            flags = _DECISION | DEBUG
        trace = _b3_trace(get(b"x-b3-traceid"), get(b"x-b3-spanid"), get(b"x-b3-parentspanid"), flags)
        return Incoming(trace, flags)

    def lines(self, trace: TraceId) -> bytes:
        lines = [b"x-b3-traceid: %b\r\nx-b3-spanid: %016x\r\n" % (trace.hex.encode(), trace.span)]
        if trace.parent is not None:
            lines.append(b"x-b3-parentspanid: %016x\r\n" % trace.parent)
        if trace.debug:
            lines.append(b"x-b3-flags: 1\r\n")  # implies the decision; B3 says not to send both
        elif trace.sampled is not None:
            lines.append(b"x-b3-sampled: %d\r\n" % trace.sampled)
        return b"".join(lines)

    def pairs(self, trace: TraceId) -> list[tuple[bytes, ...]]:
        return [tuple(line.split(b": ")) for line in self.lines(trace).splitlines()]


_B3_SAMPLED: Final = {b"1": _DECISION, b"true": _DECISION, b"0": SAMPLING_KNOWN, b"false": SAMPLING_KNOWN}
_B3_STATE: Final = {b"1": _DECISION, b"0": SAMPLING_KNOWN, b"d": _DECISION | DEBUG}


def _b3_trace(trace: bytes | None, span: bytes | None, parent: bytes | None, flags: int) -> TraceId | None:
    if trace is None or span is None or not _hex_trace(trace) or not _hex16(span):
        return None
    if parent is not None and not _hex16(parent):
        return None
    whole, span_id = int(trace, 16), int(span, 16)
    parent_id = None if parent is None else int(parent, 16)
    # Linkerd writes the parent on a root span, too, equal to the span.
    if parent_id == span_id:
        parent_id = None
    if not whole or not span_id:
        return None
    return TraceId(whole & 0xFFFF_FFFF_FFFF_FFFF, span_id, parent_id, flags, whole >> 64)


def _read_single(value: bytes) -> Incoming | None:
    """``trace-span[-state[-parent]]`` or a state alone; None if it is neither."""
    parts = value.split(b"-")
    if len(parts) == 1:
        flags = _B3_STATE.get(value)
        return None if flags is None else Incoming(None, flags)
    if len(parts) > 4:
        return None
    flags = 0
    if len(parts) > 2:
        state = _B3_STATE.get(parts[2])
        if state is None:
            return None
        flags = state
    trace = _b3_trace(parts[0], parts[1], parts[3] if len(parts) == 4 else None, flags)
    return None if trace is None else Incoming(trace, flags)


def count_hops(special: Special) -> int:
    """How many proxies the Via fields of a head name."""
    return sum(
        sum(1 for hop in value.split(b",") if hop.strip(b" \t")) for name, value in special if name == b"via"
    )


ERR_LIMIT: Final = 1024


def encode_err(message: str, limit: int = ERR_LIMIT) -> bytes:
    """The ``l5d-err`` value: form-encoded ISO-8859-1, at most ``limit`` bytes, so no text can end the line
    (T10).
    """
    # A message is cut before it is encoded, too: encoding a megabyte to keep a kilobyte would be the giant's
    # work.
    encoded = quote_plus(message[:limit], safe="", encoding="iso-8859-1", errors="replace").encode("ascii")
    if len(encoded) <= limit:
        return encoded
    cut = encoded[:limit]
    escape = cut.rfind(b"%", limit - 2)
    return cut[:escape] if escape >= 0 else cut
