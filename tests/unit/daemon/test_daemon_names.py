"""``hostmesh names log``."""

from __future__ import annotations

import pytest

from hostmesh.cli import MISTAKES, main
from hostmesh.daemon.names import entries_of, lines


def entry(at: int, what: str, **other: str) -> dict[str, object]:
    return {"at": at, "action": "add", "what": what, "name": "/#/a/web", "source": "", "index": "", **other}


def test_lines_are_ordered_by_time() -> None:
    """Entries of several journals become one log, each with its source and index where it has them."""
    page = {
        "journals": [
            {"entries": [entry(2000, "10.0.0.2:80", source="agent", index="7")]},
            {"entries": [entry(1500, "10.0.0.1:80")]},
        ]
    }

    assert list(lines(entries_of(page))) == [
        "1970-01-01T00:00:01.500Z  add        10.0.0.1:80  /#/a/web",
        "1970-01-01T00:00:02.000Z  add        10.0.0.2:80  /#/a/web  (agent at 7)",
    ]


def test_lines_hold_nothing_that_a_terminal_obeys() -> None:
    """Control characters from a registry are replaced."""
    (line,) = lines([entry(0, "\x1b[2J\n")])

    assert line.isprintable()


def test_an_admin_that_does_not_answer_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and who was asked."""
    assert main(["names", "log", "web", "--admin", "127.0.0.1:1"]) == MISTAKES
    assert "admin at 127.0.0.1:1 does not answer" in capsys.readouterr().err


def test_an_admin_address_must_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    """What was expected and what was found."""
    assert main(["names", "log", "web", "--admin", "x"]) == MISTAKES
    assert "--admin: expected HOST:PORT or https://HOST:PORT, found 'x'" in capsys.readouterr().err
