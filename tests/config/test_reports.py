"""What is said about a wrong file: each ``reports/*.txt`` is a configuration, a line of dashes, and the report.

``HOSTMESH_WRITE_REPORTS=1`` writes the reports anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostmesh.config.load import load

CASES = sorted((Path(__file__).parent / "reports").glob("*.txt"))
DASHES = "----\n"


def report_of(text: str) -> str:
    """The report as golden files have it: mistakes, then warnings, then what cannot run."""
    _config, report = load(text, "f")
    lines = [
        *report.mistake_lines(),
        *(f"warning: {line}" for line in report.warning_lines()),
        *(f"cannot run: {line}" for line in report.unavailable_lines()),
    ]
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_report(case: Path) -> None:
    """The whole report of a file is as written down."""
    text, _dashes, expected = case.read_text(encoding="utf-8").partition(DASHES)

    actual = report_of(text)

    if os.environ.get("HOSTMESH_WRITE_REPORTS"):
        case.write_text(f"{text}{DASHES}{actual}", encoding="utf-8")
        return
    assert expected == actual
