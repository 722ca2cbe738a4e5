"""Which form of the data path runs: the Python that it is written in, or what ``make compiled`` made of that.

Both do the same (docs/architecture.md, "The compiled core"); what differs is what a request costs.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

LIBRARY: Final = "hostmesh.core__mypyc"
"""What all compiled modules are loaded from."""

DIGESTS: Final = "core.sha256"
"""What they were compiled from, in the package's folder, as ``sha256sum -c`` reads it."""


def kind() -> Literal["compiled", "pure"]:
    """What runs in this installation."""
    return "pure" if find_spec(LIBRARY) is None else "compiled"


def digest_of(source: Path) -> str:
    """What tells this source from all others."""
    return sha256(source.read_bytes()).hexdigest()


def stale(package: Path = Path(__file__).parent) -> list[str]:
    """Modules whose source has changed since they were compiled, as paths below ``package``: what runs is not what
    can be read. Reads a MiB; empty where nothing is compiled.
    """
    digests = package / DIGESTS
    if not digests.is_file():
        return []
    changed = []
    for line in digests.read_text().splitlines():
        digest, name = line.split("  ", 1)
        source = package / name
        compiled = any(source.with_suffix(suffix).exists() for suffix in EXTENSION_SUFFIXES)
        if compiled and source.is_file() and digest_of(source) != digest:
            changed.append(name)
    return changed
