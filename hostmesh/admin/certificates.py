"""``/certificates.json``, and the table of the overview: what TLS shows and trusts, until when, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nsmallest
from html import escape

from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.pages import Page
from hostmesh.admin.replies import JSON, dumps, paced, reply
from hostmesh.admin.view import CertificateView, View

MAX_ROWS = 30
"""Of the table, those that end first: a system's bundle of CAs has hundreds."""


class CertificatePages:
    """The page for programs; people read the overview."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        return [
            Page("/certificates.json", self._certificates, "certificates, CAs and CRLs in use, and alarms")
        ]

    async def _certificates(self, _request: Request) -> Response:
        return reply(await paced(_shown(list(self._view.alarms()), list(self._view.certificates()))), JSON)


def _shown(alarms: Sequence[str], rows: Sequence[CertificateView]) -> Iterator[str]:
    yield f'{{"alarms": {dumps(alarms)}, "certificates": ['
    comma = ""
    for row in rows:
        shown = {
            "kind": row.kind,
            "file": row.file,
            "name": row.name,
            "serial": row.serial,
            "notAfter": round(row.not_after * 1000),
            "days": round(row.days, 3),
            "loaded": round(row.loaded * 1000),
            "alarm": row.alarm,
            "notes": row.notes,
        }
        yield comma + dumps(shown)
        comma = ", "
    yield "]}\n"


def certificates_table(rows: Sequence[CertificateView]) -> str:
    """HTML: what ends first is first; nothing without TLS."""
    if not rows:
        return ""
    shown = nsmallest(MAX_ROWS, rows, key=lambda row: (row.kind != "certificate", row.days))
    more = len(rows) - len(shown)
    rest = f'<p class="soft">and {more} more in certificates.json</p>' if more else ""
    head = "".join(f"<th>{column}</th>" for column in ("file", "", "name", "serial", "days left", "state"))
    body = "".join(_row(row) for row in shown)
    return f"<h2>TLS</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _row(row: CertificateView) -> str:
    bad = row.alarm is not None
    state = row.alarm or "; ".join(row.notes) or "ok"
    style = ' class="bad"' if bad else ""
    cells = [row.file, row.kind, row.name, row.serial or "", f"{row.days:,.1f}"]
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}<td{style}>{escape(state)}</td></tr>"
