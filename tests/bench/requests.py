"""The requests that the bench sends, once for openload (a binary file) and once for wrk (a Lua script).

*Plain* requests are what wrk sends by itself. *Varied* ones are what a mesh really sees: 600 to 900 bytes
of head, many names, and a path, trace id and cookie that are different in every single request, so that no
cache of whole heads or whole lines can answer for the parser.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

SLOT = b"@" * 16
"""Replaced by 16 fresh hexadecimal digits each time the request is sent."""

UPLOAD_BYTES = 1 << 20
VARIED_COUNT = 1000

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Gecko/20100101 Firefox/132.0",
    "okhttp/4.12.0",
    "Go-http-client/1.1",
    "python-requests/2.32.3",
)


def plain(host: str) -> list[bytes]:
    """One small request."""
    return [f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n".encode()]


def upload(host: str) -> list[bytes]:
    """One POST with a body of 1 MiB."""
    head = f"POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n"
    return [head.encode() + b"x" * UPLOAD_BYTES]


def varied(hosts: list[str], count: int = VARIED_COUNT) -> list[bytes]:
    """Heads of 600 to 900 bytes that share the names equally; the same ones in every run."""
    rng = random.Random("bench")
    return [_varied_head(rng, hosts[n % len(hosts)]) for n in range(count)]


def _varied_head(rng: random.Random, host: str) -> bytes:
    slot = SLOT.decode()
    lines = [
        f"GET /api/v1/users/{slot}/orders?page={rng.randrange(50)}&sort=created HTTP/1.1",
        f"Host: {host}",
        f"User-Agent: {rng.choice(AGENTS)}",
        "Accept: application/json, text/plain, */*",
        "Accept-Encoding: gzip, deflate, br",
        "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
        f"traceparent: 00-{slot}{slot}-{slot}-01",
        f"X-Request-Id: {slot}{slot}",
        f"Referer: https://shop.example.com/catalogue/{rng.randrange(10**6)}",
        "Cache-Control: no-cache",
        f"X-Tenant: tenant-{rng.randrange(200)}",
        f"Authorization: Bearer {rng.randbytes(60).hex()}",
    ]
    cookie = f"Cookie: session={slot}{slot}; theme=dark; ab={rng.randbytes(rng.randrange(8, 70)).hex()}"
    head = "\r\n".join([*lines, cookie]) + "\r\n\r\n"
    filler = rng.randrange(600, 900) - len(head)
    if filler > 16:
        cookie += "; p=" + rng.randbytes(filler // 2 - 2).hex()
        head = "\r\n".join([*lines, cookie]) + "\r\n\r\n"
    return head.encode()


def slots(request: bytes) -> list[int]:
    """Where the slots are."""
    found = []
    at = request.find(SLOT)
    while at >= 0:
        found.append(at)
        at = request.find(SLOT, at + len(SLOT))
    return found


def write_templates(file: Path, requests: list[bytes]) -> None:
    """The format of openload.c."""
    with file.open("wb") as out:
        for request in requests:
            places = slots(request)
            out.write(struct.pack(f"<{2 + len(places)}I", len(request), len(places), *places))
            out.write(request)


def write_lua(file: Path, requests: list[bytes]) -> None:
    """A wrk script that sends the requests in turn and fills their slots with fresh digits.

    The pieces between the slots are split here, so that a request costs wrk one concatenation.
    """
    rows = []
    for request in requests:
        pieces = request.split(SLOT)
        rows.append("{" + ",".join(f'"{_escaped(piece)}"' for piece in pieces) + "}")
    file.write_text(
        "local all = {\n" + ",\n".join(rows) + "\n}\n"
        "local n, at, format, concat, random = #all, 0, string.format, table.concat, math.random\n"
        "math.randomseed(tonumber(tostring({}):sub(8)) or 1)\n"
        "local out = {}\n"
        "request = function()\n"
        "  at = at % n + 1\n"
        "  local pieces = all[at]\n"
        "  local count = #pieces\n"
        "  if count == 1 then return pieces[1] end\n"
        "  local k = 0\n"
        "  for i = 1, count - 1 do\n"
        "    out[k + 1] = pieces[i]\n"
        '    out[k + 2] = format("%08x%08x", random(0, 4294967295), random(0, 4294967295))\n'
        "    k = k + 2\n"
        "  end\n"
        "  out[k + 1] = pieces[count]\n"
        "  return concat(out, '', 1, k + 1)\n"
        "end\n"
    )


def _escaped(piece: bytes) -> str:
    return piece.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"').replace("\r\n", "\\r\\n")
