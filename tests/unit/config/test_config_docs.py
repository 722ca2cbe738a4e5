"""docs/config.md is written from the code."""

from __future__ import annotations

import re
from pathlib import Path

from hostmesh.base.plugin import SLOTS
from hostmesh.config.docs import anchor, attribute_docs, page
from hostmesh.config.model import AdminConfig, LinkerConfig
from hostmesh.config.registry import Registry

ROOT = Path(__file__).resolve().parent.parent.parent.parent
REGISTRY = Registry.installed()
PAGE = page(REGISTRY)


def test_page_is_current() -> None:
    """The committed page is what the code says; if not: `python -m hostmesh.config.docs > docs/config.md`."""
    assert (ROOT / "docs/config.md").read_text(encoding="utf-8") == PAGE


def test_every_kind_has_a_section() -> None:
    """Each kind that can be named has a heading."""
    headings = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)

    assert {kind for slot in SLOTS for kind in REGISTRY.kinds(slot)} <= set(headings)


def test_every_key_has_a_text() -> None:
    """No row of a table is without an explanation."""
    assert re.findall(r"^\| `.*\|\s*\|$", PAGE, re.MULTILINE) == []


def test_every_link_leads_to_a_heading() -> None:
    """Links point at headings of the page."""
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}

    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= headings


def test_own_keys_are_marked() -> None:
    """Keys that Linkerd does not have say so."""
    marked = re.findall(r"^\| `(\w+)` .*\*hostmesh\*", PAGE, re.MULTILINE)

    assert {"accessLog", "seed"} <= set(marked)


def test_attribute_docs_are_on_one_line() -> None:
    """The docstring under an attribute is joined, those of bases are included."""
    assert attribute_docs(AdminConfig)["port"] == "Port to listen on; 0 lets the system choose."
    assert "\n" not in "".join(attribute_docs(LinkerConfig).values())
