"""HTML pages: one style, and a policy that lets the browser run exactly the page's own script and talk to nobody else.

What the pages show are names that callers and registries choose. Everything is escaped where it is put in; the policy
is the second lock.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape

from starlette.responses import Response

from hostmesh.admin.replies import HTML, reply

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c0392b; --soft: #888; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .3rem; }
nav a, header span { margin-right: 1rem; } nav { margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 .8rem; }
th, td { text-align: right; padding: .15rem .6rem; border-bottom: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
code, pre, textarea, input { font-family: ui-monospace, monospace; font-size: 13px; }
pre { overflow-x: auto; margin: .3rem 0; } label { display: block; margin: .5rem 0; }
textarea, input[name=path] { display: block; width: 100%; box-sizing: border-box; }
.soft { color: var(--soft); }
"""

_LINKS = (
    ("overview", "."),
    ("dtab", "delegator"),
    ("metrics", "admin/metrics.json?pretty=true"),
    ("prometheus", "admin/metrics/prometheus"),
    ("config", "config.json"),
    ("clients", "client_state.json"),
    ("logging", "logging.json"),
    ("all pages", "admin"),
)


def document(title: str, header: str, body: str, script: str = "", status: int = 200) -> Response:
    """A whole page. ``header``, ``body`` and ``script`` are HTML and JavaScript; what they show is escaped already.

    Links are relative, so the pages also work behind a router that consumes a path segment.
    """
    links = "".join(f'<a href="{href}">{text}</a>' for text, href in _LINKS)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><header><h1>{escape(title)}</h1><nav>{links}</nav>{header}</header>"
        f"{body}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )
    allowed = _digest(script) if script else "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src {_digest(_STYLE)}; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return reply(page, HTML, status, content_security_policy=policy, referrer_policy="no-referrer")


def _digest(text: str) -> str:
    return "'sha256-" + b64encode(sha256(text.encode()).digest()).decode("ascii") + "'"
