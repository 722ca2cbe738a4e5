"""Answers, and rendering that shares the thread with the data path.

One process serves traffic and admin. Everything that may grow with the number of names is therefore rendered in parts,
with a checkpoint after each millisecond of work: a scrape of 40,000 endpoints costs its CPU, but no request waits for
the whole of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import trio
from starlette.responses import Response

SLICE_S = 0.001
"""Work between two checkpoints. The pump's own batches last at most 2 ms; admin should be the smaller disturbance."""

JSON = "application/json;charset=UTF-8"
TEXT = "text/plain;charset=UTF-8"
HTML = "text/html;charset=UTF-8"

_PLAIN_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def reply(body: str | bytes, media_type: str = TEXT, status: int = 200, **headers: str) -> Response:
    """An answer that no cache keeps and no browser second-guesses. ``_`` in a header name stands for ``-``."""
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    # Not Response(media_type=...): that would add a second charset to text types.
    return Response(body, status, headers={**_PLAIN_HEADERS, **extra, "content-type": media_type})


def text(body: str, status: int = 200, **headers: str) -> Response:
    return reply(body if body.endswith("\n") else body + "\n", TEXT, status, **headers)


def json_reply(value: object, status: int = 200, *, pretty: bool = False) -> Response:
    """For values of a bounded size; what grows with the number of names goes through :func:`paced_json`."""
    return reply(dumps(value, pretty=pretty), JSON, status)


def dumps(value: object, *, pretty: bool = False) -> str:
    return json.dumps(value, indent=2 if pretty else None, ensure_ascii=False, default=_shown)


def _shown(value: Any) -> object:
    # Views hand over paths, enums, sets: whatever it is, a diagnostic page shows it rather than fails.
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    show = getattr(value, "show", None)
    return show() if callable(show) else str(value)


async def paced(parts: Iterable[str]) -> bytes:
    """The parts joined; other tasks and the pump get their turn while they are made.

    Each slice is joined and encoded for itself, so that the last step is one copy of bytes.
    """
    slices: list[bytes] = []
    pending: list[str] = []
    since = trio.current_time()
    for part in parts:
        pending.append(part)
        if trio.current_time() - since > SLICE_S:
            slices.append("".join(pending).encode())
            pending.clear()
            await trio.lowlevel.checkpoint()
            since = trio.current_time()
    slices.append("".join(pending).encode())
    await trio.lowlevel.checkpoint()
    return b"".join(slices)


def json_object(items: Iterable[tuple[str, object]]) -> Iterator[str]:
    """A JSON object, one part per item, for :func:`paced`."""
    yield "{"
    comma = ""
    for key, value in items:
        yield f"{comma}{json.dumps(key, ensure_ascii=False)}: {dumps(value)}"
        comma = ", "
    yield "}\n"


async def paced_json(items: Iterable[tuple[str, object]]) -> Response:
    return reply(await paced(json_object(items)), JSON)
