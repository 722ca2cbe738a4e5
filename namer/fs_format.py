"""The format of ``io.l5d.fs`` files: ``host port`` or ``host port * weight`` per line, ``#`` starts a
comment. Pure."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, TypeAlias

from hostmesh.plugin import Endpoint
from hostmesh.registry.resolver import literal

PARSE_STEP = 500
"""Lines parsed before the data path gets a turn: about a millisecond. Files that small are parsed at once."""


class HostLine(NamedTuple):
    """An endpoint written with a host name, which is still to be resolved."""

    host: str
    port: int
    weight: float


Line: TypeAlias = Endpoint | HostLine


def parse_line(text: str) -> Line | None:
    """One line; None if it is blank or a comment. ValueError says what is wrong."""
    words = text.partition("#")[0].split()
    if not words:
        return None
    match words:
        case [host, port]:
            weight = 1.0
        case [host, port, "*", weight_text]:
            weight = _weight(weight_text)
        case _:
            raise ValueError("expected 'host port' or 'host port * weight'")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"expected a port between 1 and 65535, found {port!r}")
    address = literal(host)
    if address is not None:
        return Endpoint(address, int(port), weight)
    if "/" in host or ":" in host or len(host) > 253:
        raise ValueError(f"expected an address or a host name, found {host!r}")
    return HostLine(host.lower(), int(port), weight)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < 1e9:
        raise ValueError(f"expected a weight of at least 0, found {text!r}")
    return weight


def parsing(text: str, step: int = PARSE_STEP) -> Generator[None, None, tuple[Line, ...]]:
    """Parse a file, pausing after every ``step`` lines; ValueError names the first line that is malformed."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            parsed = parse_line(line)
        except ValueError as error:
            raise ValueError(f"malformed address: line {number}: {error}") from None
        if parsed is not None:
            lines.append(parsed)
        if number % step == 0:
            yield
    return tuple(lines)


def parse(text: str) -> tuple[Line, ...]:
    """Parse a file at once."""
    return _finish(parsing(text))


def _finish(steps: Generator[None, None, tuple[Line, ...]]) -> tuple[Line, ...]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            lines: tuple[Line, ...] = end.value
            return lines
