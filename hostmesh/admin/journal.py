"""``/namer_journal.json``: what has come into and gone out of the replica sets, and who said so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.pages import Page
from hostmesh.admin.replies import JSON, dumps, paced, reply, text
from hostmesh.admin.view import View


class EntryView(Protocol):
    """One line of a journal."""

    number: int
    name: str

    def json(self) -> dict[str, object]: ...


class JournalView(Protocol):
    """What a namer's ``journal`` offers; the registry's ``Journal`` is one."""

    @property
    def size(self) -> int: ...

    def entries(self, name: str | None = None, after: int = 0) -> Iterable[EntryView]: ...


class JournalPages:
    """The journals of the namers in force."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        return [Page("/namer_journal.json", self._journal, "adds and removes of endpoints (?name=, ?after=)")]

    async def _journal(self, request: Request) -> Response:
        """``name``: only of this bound id, or of the ids that end with these path segments. ``after``: only entries
        with higher numbers; numbers count per namer. ``namer``: only of the namer with this prefix."""
        query = request.query_params
        after = query.get("after", "0")
        if not after.isdecimal():
            return text(f"after: expected a number, found {after!r}", 400)
        wanted, namer = query.get("name"), query.get("namer")
        journals = {
            prefix: journal
            for prefix, each in self._view.namers.items()
            if (journal := getattr(each, "journal", None)) is not None and namer in (None, prefix)
        }
        return reply(await paced(_shown(journals, wanted, int(after))), JSON)


def is_meant(wanted: str | None, name: str) -> bool:
    """Whether ``wanted`` is this bound id or its last segments: ``web`` and ``dc1/web`` mean
    ``/#/io.l5d.consul/dc1/web``."""
    return wanted is None or name == wanted or name.endswith("/" + wanted.strip("/"))


def _shown(journals: Mapping[str, JournalView], wanted: str | None, after: int) -> Iterator[str]:
    yield '{"journals": ['
    first = True
    for prefix, journal in journals.items():
        yield f'{"" if first else ", "}{{"namer": {dumps(prefix)}, "size": {journal.size}, "entries": ['
        first = False
        comma = ""
        for entry in journal.entries(after=after):
            if is_meant(wanted, entry.name):
                yield comma + dumps(entry.json())
                comma = ", "
        yield "]}"
    yield "]}\n"
