"""Which tests hold which row of docs/threat-model.md.

A test belongs to a row if its function is called ``test_<id>_...`` or one of its strings starts with ``<ID>-`` (the
id of a parameter). ``python -m tests.threat_model`` writes the last column of the tables from that.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "threat-model.md"

ROW = re.compile(r"^\| (?P<id>[FHTPRX]\d+) \|(?P<middle>.*\| [^|]+ \|)[^|]*\|$")
FUNCTION = re.compile(r"def test_(?P<id>[fhtprx]\d+)_")
PARAMETER = re.compile(r"[\"'](?P<id>[FHTPRX]\d{1,2})[-_ ]\w")


def found_tests() -> dict[str, list[str]]:
    """Row id to the test files that name it, relative to tests/."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        text = file.read_text()
        for pattern in (FUNCTION, PARAMETER):
            for match in pattern.finditer(text):
                found.setdefault(match["id"].upper(), set()).add(str(file.relative_to(ROOT / "tests")))
    return {row: sorted(files) for row, files in found.items()}


def rows(text: str) -> dict[str, list[str]]:
    """Row id to its cells."""
    return {
        match["id"]: [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if (match := ROW.match(line))
    }


def with_tests(text: str) -> str:
    """The page with its last column as the tests have it."""
    found = found_tests()
    lines = []
    for line in text.splitlines():
        if match := ROW.match(line):
            files = ", ".join(f"`{name}`" for name in found.get(match["id"], []))
            line = f"| {match['id']} |{match['middle']} {files + ' ' if files else ''}|"
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_tests(PAGE.read_text()))
