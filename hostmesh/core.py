"""Which form of the data path runs: the Python that it is written in, or what ``make compiled`` made of that.

Both do the same (docs/architecture.md, "The compiled core"); what differs is what a request costs.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

LIBRARY: Final = "hostmesh.core__mypyc"
"""What all compiled modules are loaded from."""


def kind() -> Literal["compiled", "pure"]:
    """What runs in this installation."""
    return "pure" if find_spec(LIBRARY) is None else "compiled"


def stale(package: Path = Path(__file__).parent) -> list[str]:
    """Modules whose source has changed since they were compiled, as paths below ``package``: what runs is not what
    can be read. Reads the times of some hundred files.
    """
    built = [(file, suffix) for suffix in EXTENSION_SUFFIXES for file in package.rglob(f"*{suffix}")]
    # All are built together, but what would come out the same is not written anew.
    newest = max((file.stat().st_mtime for file, _suffix in built), default=0.0)
    sources = {file.with_name(file.name.removesuffix(suffix) + ".py") for file, suffix in built}
    changed = [file for file in sources if file.exists() and file.stat().st_mtime > newest]
    return sorted(str(file.relative_to(package)) for file in changed)
