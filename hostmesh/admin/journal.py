"""``/namer_journal.json``: what has come into and gone out of the replica sets, and who said so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.pages import Page
from hostmesh.admin.replies import JSON, dumps, paced, reply, text
from hostmesh.admin.view import JournalView, View


class JournalPages:
    """The journals of the namers in force, and of the resolver that serves ``/$/inet`` and host names."""

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
        own = {prefix: getattr(each, "journal", None) for prefix, each in self._view.namers.items()}
        journals = {
            prefix: journal
            for prefix, journal in (*own.items(), *self._view.journals.items())
            if journal is not None and namer in (None, prefix)
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
