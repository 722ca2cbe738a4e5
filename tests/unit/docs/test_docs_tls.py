"""The configurations and commands in docs/tls.md are good ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hostmesh.base.reasons import TLS_REASONS
from hostmesh.cli import parser
from hostmesh.config.load import load

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "tls.md").read_text(encoding="utf-8")
CONFIGS = [
    block
    for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if "apiVersion:" not in block
]
COMMANDS = re.findall(r"^(hostmesh certs .*)$", PAGE, re.MULTILINE) + re.findall(
    r"`(hostmesh certs [a-z]+ .*?)`", PAGE
)


@pytest.mark.parametrize("text", CONFIGS)
def test_examples_are_accepted(text: str) -> None:
    """Every example loads without a mistake or a warning, and can run."""
    config, report = load(text, "tls.md")

    assert (report.mistake_lines(), report.warning_lines()) == ([], [])
    assert config is not None
    assert config.unavailable_lines == ()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    """Every command is one that the command line takes."""
    args = parser().parse_args(shlex.split(command)[1:])

    assert args.command == "certs"


def test_every_reason_is_explained() -> None:
    """Whoever reads a reason in a log finds what to do."""
    table = PAGE[PAGE.index("## What an error means") :]

    assert [reason for reason in TLS_REASONS if f"`{reason}`" not in table] == []


def test_there_are_examples() -> None:
    """The patterns above find them."""
    assert (len(CONFIGS), len(COMMANDS)) >= (3, 5)
