"""The configurations in docs/tcp.md are good ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hostmesh.config.load import load

PAGE = Path(__file__).resolve().parents[3] / "docs" / "tcp.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_examples_are_accepted(text: str) -> None:
    """Every example loads without a mistake or a warning, and can run."""
    if "namers:" not in text:
        text = "namers: [{kind: io.l5d.fs, rootDir: /etc/hostmesh/disco}]\n" + text
    config, report = load(text, "tcp.md")

    assert (report.mistake_lines(), report.warning_lines()) == ([], [])
    assert config is not None
    assert config.unavailable_lines == ()


def test_there_are_examples() -> None:
    """The pattern above finds them."""
    assert len(BLOCKS) >= 2
