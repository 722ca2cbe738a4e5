"""``hostmesh names log NAME``: the journal of a running daemon, in lines for people."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

from hostmesh.base.errors import ConfigError

TIMEOUT_S = 10.0
"""For the daemon to answer."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes; a dozen full journals."""


def main_names(args: argparse.Namespace) -> int:
    """Print the journal of ``args.name``; 0 if it has entries, else 1. ConfigError when the daemon does not answer."""
    entries = list(entries_of(fetch(args.admin, f"/namer_journal.json?name={quote(args.name, safe='/')}")))
    for line in lines(entries):
        sys.stdout.write(line + "\n")
    if not entries:
        sys.stderr.write(f"{args.name}: no entry in the journals: not in use, or nothing has changed\n")
    return 0 if entries else 1


def fetch(admin: str, target: str) -> object:
    """The JSON at an admin page."""
    host, _, port = admin.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--admin: expected HOST:PORT, found {admin!r}")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(f"admin at {admin} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != 200 or len(body) > MAX_ANSWER:
        raise ConfigError(f"admin at {admin}: {target}: status {answer.status}, {len(body)} bytes")
    try:
        return json.loads(body)
    except ValueError as error:
        raise ConfigError(f"admin at {admin}: {target}: {error}") from error


def entries_of(page: object) -> Iterator[Mapping[str, object]]:
    """The entries of all journals on the page, each journal oldest first."""
    journals = page.get("journals", ()) if isinstance(page, dict) else ()
    for journal in journals:
        yield from journal["entries"]


def lines(entries: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """One line per entry, in order of time (UTC)."""
    for entry in sorted(entries, key=lambda entry: float(str(entry["at"]))):
        at = datetime.fromtimestamp(float(str(entry["at"])) / 1000, UTC)
        when = at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
        index = f" at {entry['index']}" if entry["index"] else ""
        said = f"  ({entry['source']}{index})" if entry["source"] or index else ""
        # What registries say may hold anything; a terminal must not obey it.
        line = f"{when}  {entry['action']:<9}  {entry['what']}  {entry['name']}{said}"
        yield "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
