"""The page at ``/``: the routers of this host at a glance, refreshed by a small script."""

from __future__ import annotations

from html import escape
from json import dumps

import trio
from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.certificates import certificates_table
from hostmesh.admin.markup import document
from hostmesh.admin.overview_rows import Row, Section, router_sections
from hostmesh.admin.pages import Page
from hostmesh.admin.view import RouterView, View

# Cells carry their place in the tree (data-at, a JSON array) and what to show of it (data-show). The tree's leaves are
# {"counter": n}, {"gauge": x} and {"stat.p50": n, ...}. A change in the set of rows reloads the page, at most every ten
# seconds; a hidden tab asks for nothing.
_SCRIPT = """
"use strict";
const every = 2000, loaded = Date.now();
let before = null, shown = null;
const step = (node, name) => node && Object.hasOwn(node, name) ? node[name] : undefined;
const at = (tree, path) => path.reduce(step, tree);
const num = (node) => node === undefined ? undefined : node.counter !== undefined ? node.counter : node.gauge;
const child = (node, name) => num(at(node || {}, [name]));
const whole = (value) => value === undefined ? "-" : Math.round(value).toLocaleString("en");
const shows = {
  requests: (now) => whole(child(now, "requests")),
  failures: (now) => whole(child(now, "failures") || 0),
  pending: (now) => whole(child(now, "pending")),
  rate: (now, was, s) => was === undefined ? "" : ((child(now, "requests") - child(was, "requests")) / s).toFixed(1),
  success: (now) => {
    const good = child(now, "success") || 0, bad = child(now, "failures") || 0;
    return good + bad ? (100 * good / (good + bad)).toFixed(2) + " %" : "-";
  },
  endpoints: (now) => whole(child(at(now, ["loadbalancer"]), "available")) + " / "
    + whole(child(at(now, ["loadbalancer"]), "size")),
};
const names = (tree) => JSON.stringify(Object.keys(tree.rt || {}).map((label) =>
  ["server", "service", "client"].map((kind) => Object.keys(at(tree, ["rt", label, kind]) || {}).sort())));
async function poll() {
  if (document.hidden) return;
  const state = document.getElementById("state");
  try {
    const answer = await fetch("admin/metrics.json?tree=1");
    if (!answer.ok) throw new Error("status " + answer.status);
    const tree = await answer.json(), time = Date.now();
    for (const cell of document.querySelectorAll("td[data-at]")) {
      const path = JSON.parse(cell.dataset.at), now = at(tree, path);
      if (now === undefined) continue;
      const was = before ? at(before.tree, path) : undefined;
      cell.textContent = shows[cell.dataset.show](now, was, before ? (time - before.time) / 1000 : 1);
    }
    before = {tree, time};
    shown = shown || names(tree);
    if (names(tree) !== shown && time - loaded > 10000) location.reload();
    state.textContent = "live";
    state.className = "soft";
  } catch (error) {
    state.textContent = "no answer: " + error.message;
    state.className = "bad";
  }
}
poll();
setInterval(poll, every);
"""


class OverviewPages:
    """The overview."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        return [Page("/", self._overview, "overview of the routers")]

    async def _overview(self, request: Request) -> Response:
        wanted = request.query_params.get("router")
        parts = []
        for label, router in list(self._view.routers.items()):
            if wanted in (None, label):
                parts.append(_router(router, router_sections(self._view.metrics, label)))
                await trio.lowlevel.checkpoint()
        if not self._view.routers:
            parts.append("<p>No router is configured.</p>")
        if wanted is None:
            parts.append(certificates_table(list(self._view.certificates())))
        return document("hostmesh", _state(self._view), "".join(parts), _SCRIPT)


def _state(view: View) -> str:
    facts = "".join(
        f"<span>{escape(str(name))} <b>{escape(str(value))}</b></span>"
        for name, value in view.server_info().items()
        if isinstance(value, str)
    )
    health = view.health()
    state = "ready" if health.ready else "not ready"
    if health.reason:
        state += f": {health.reason}"
    style = "" if health.ready else ' class="bad"'
    recent = '<a href="requests">recent requests</a>' if "/requests" in view.admin_routes else ""
    alarms = "".join(f'<p class="bad">{escape(alarm)}</p>' for alarm in view.alarms())
    return f'<div><span{style}>{escape(state)}</span>{facts}<span id="state" class="soft"></span>{recent}</div>{alarms}'


def _router(router: RouterView, sections: dict[str, Section]) -> str:
    title = f'<h2>{escape(router.label)} <span class="soft">{escape(router.protocol)}</span></h2>'
    tables = "".join(_table(router.label, kind, section) for kind, section in sections.items())
    dtab = router.base_dtab()
    shown = escape(dtab) if dtab.strip() else "(empty)"
    return f"{title}{tables}<details><summary>dtab</summary><pre>{shown}</pre></details>"


def _table(label: str, kind: str, section: Section) -> str:
    if not section.rows:
        return f'<p class="soft">no {kind} has had a request yet</p>' if kind == "service" else ""
    columns = ["requests", "per s", "success", "failures", "pending", "p50 ms", "p99 ms"]
    if kind == "client":
        columns += ["endpoints", "ejections"]
    head = "".join(f"<th>{column}</th>" for column in columns)
    rows = "".join(_row(label, row) for row in section.rows)
    more = section.total - len(section.rows)
    rest = f'<p class="soft">and {more} more</p>' if more > 0 else ""
    return f"<table><thead><tr><th>{kind}</th>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"


def _row(label: str, row: Row) -> str:
    at = escape(dumps(["rt", label, row.kind, row.name]))

    def live(show: str, text: str, bad: bool = False) -> str:
        style = ' class="bad"' if bad else ""
        return f'<td data-at="{at}" data-show="{show}"{style}>{text}</td>'

    rate = row.success_rate
    cells = [
        f"<td>{escape(row.name)}</td>",
        live("requests", f"{row.requests:,}"),
        live("rate", ""),
        live(
            "success",
            "-" if rate is None else f"{rate:.2%}".replace("%", " %"),
            rate is not None and rate < 0.99,
        ),
        live("failures", f"{row.failures:,}"),
        live("pending", _number(row.pending)),
        f"<td>{_milliseconds(row.p50_ms)}</td>",
        f"<td>{_milliseconds(row.p99_ms)}</td>",
    ]
    if row.kind == "client":
        short = row.available is not None and row.endpoints is not None and row.available < row.endpoints
        cells.append(live("endpoints", f"{_number(row.available)} / {_number(row.endpoints)}", short))
        cells.append(f"<td>{row.ejections:,}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
