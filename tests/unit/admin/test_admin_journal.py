"""The journal page."""

from __future__ import annotations

from typing import Any

import pytest

from hostmesh.admin.journal import is_meant
from hostmesh.registry.journal import Journal
from tests.fs_world import SetEnv


class WithJournal:
    """A namer that has seen two names."""

    def __init__(self) -> None:
        self.journal = Journal(SetEnv(5.0))
        self.journal.write("/#/io.l5d.fs/dc1/web", "add", "10.0.0.1:80", "agent", "7")
        self.journal.write("/#/io.l5d.fs/api", "add", "10.0.0.2:80", "agent", "8")
        self.journal.write("/#/io.l5d.fs/dc1/web", "remove", "10.0.0.1:80", "agent", "9")


def entries(answer: Any) -> list[tuple[int, str]]:
    (journal,) = answer.json["journals"]
    return [(entry["number"], entry["name"]) for entry in journal["entries"]]


def test_journals_of_all_namers(daemon: Any, ask: Any) -> None:
    """One journal per namer that keeps one, entries as the journal writes them."""
    daemon.view.namers = {"io.l5d.fs": WithJournal(), "io.l5d.rewrite": object()}

    (journal,) = ask("GET", "/namer_journal.json").json["journals"]

    assert (journal["namer"], journal["size"], len(journal["entries"])) == ("io.l5d.fs", 4096, 3)
    assert journal["entries"][0] == {
        "number": 1,
        "at": 5000,
        "name": "/#/io.l5d.fs/dc1/web",
        "action": "add",
        "what": "10.0.0.1:80",
        "source": "agent",
        "index": "7",
    }


def test_journal_without_namers(daemon: Any, ask: Any) -> None:
    """No namer, no journals."""
    daemon.view.namers = {}

    assert ask("GET", "/namer_journal.json").json == {"journals": []}


def test_journal_of_one_name_from_a_number_on(daemon: Any, ask: Any) -> None:
    """``name``, ``after`` and ``namer`` choose."""
    daemon.view.namers = {"io.l5d.fs": WithJournal()}

    assert entries(ask("GET", "/namer_journal.json?name=web")) == [
        (1, "/#/io.l5d.fs/dc1/web"),
        (3, "/#/io.l5d.fs/dc1/web"),
    ]
    assert entries(ask("GET", "/namer_journal.json?after=1&name=web")) == [(3, "/#/io.l5d.fs/dc1/web")]
    assert entries(ask("GET", "/namer_journal.json?namer=io.l5d.fs&after=2")) == [(3, "/#/io.l5d.fs/dc1/web")]
    assert ask("GET", "/namer_journal.json?namer=nope").json == {"journals": []}


def test_journal_after_must_be_a_number(ask: Any) -> None:
    """Anything else is 400, with what was found."""
    answer = ask("GET", "/namer_journal.json?after=x")

    assert (answer.status, answer.text) == (400, "after: expected a number, found 'x'\n")


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [(None, True), ("/#/a/dc1/web", True), ("web", True), ("/dc1/web", True), ("eb", False), ("dc1", False)],
)
def test_names_are_meant_by_their_last_segments(wanted: str | None, meant: bool) -> None:
    """Whole segments from the end, or the whole id."""
    assert is_meant(wanted, "/#/a/dc1/web") is meant
