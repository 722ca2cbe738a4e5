"""Linkerd's ``httpAccessLog``: one line per answer of an endpoint, in a file of the router's own."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from typing import Final

from hostmesh.telemeters.batch import RECORD_BYTES, BatchWriter
from hostmesh.telemeters.rolling import RollingFile, RollPolicy
from hostmesh.telemeters.telemeter import TelemeterDeps
from hostmesh.telemetry.record import Record

_VERSIONS: Final = {10: b"HTTP/1.0", 11: b"HTTP/1.1", 20: b"HTTP/2"}

# What could end a quoted part or a line, or move the cursor of a terminal. Linkerd writes it as it comes.
_UNPRINTABLE: Final = re.compile(rb'[^\x20-\x7e]|["\\]')


class AccessLog:
    """The access log of one router: a record sink with a task.

    ``path`` and what follows are the values of ``httpAccessLog`` and its companions. Requests that got no
    answer from an endpoint are not logged here; the canonical line has them.
    """

    def __init__(
        self,
        deps: TelemeterDeps,
        router: str,
        path: str,
        *,
        roll_policy: str = "never",
        append: bool = True,
        rotate_count: int = -1,
        h2: bool = False,
    ) -> None:
        policy = RollPolicy.read(roll_policy)
        self._file = RollingFile(path, policy, deps.env.wall, append=append, rotate_count=rotate_count)
        self._reopens = policy.kind == "sighup"
        self._batch = BatchWriter(
            LineFormat(h2=h2),
            self._file.write,
            scope=deps.metrics.scope("accesslog", router),
            log=deps.log("hostmesh.accesslog").bind(router=router, path=path),
        )

    def wants(self, failed: bool) -> bool:
        return True

    def on_exchange(self, record: Record) -> None:
        if record.from_endpoint:
            self._batch.put(record, record.head_bytes + RECORD_BYTES)

    def reopen(self) -> None:
        """SIGHUP has come: under the policy ``sighup`` the file is opened anew."""
        if self._reopens:
            self._file.reopen()

    async def run(self) -> None:
        """Write lines until cancelled, then the last ones, and close the file."""
        try:
            await self._batch.run()
        finally:
            self._file.close()


class LineFormat:
    """Makes lines: ``host remote - - [time] "request" status length "referer" "agent"``.

    The time is that of the answer's end, in ``zone`` (None: the machine's). The lines of an h2 router have
    the zone as a number and no length, as Linkerd's.
    """

    def __init__(self, *, h2: bool = False, zone: tzinfo | None = None) -> None:
        self._h2 = h2
        self._zone = zone
        self._second = -1
        self._shown = b""

    def __call__(self, record: Record) -> bytes:
        length = b"-" if self._h2 or record.content_length < 0 else b"%d" % record.content_length
        get = record.head.get
        return b'%b %b - - [%b] "%b %b %b" %d %b "%b" "%b"\n' % (
            _clean(record.host or None),
            record.caller.rpartition(":")[0].encode() or b"-",
            self._time(record.start + record.total),
            _clean(record.method),
            _clean(record.target),
            _VERSIONS.get(record.version, b"HTTP/?"),
            record.status,
            length,
            _clean(get(b"referer")),
            _clean(get(b"user-agent")),
        )

    def _time(self, wall: float) -> bytes:
        second = int(wall)
        if second != self._second:
            local = datetime.fromtimestamp(second, self._zone).astimezone(self._zone)
            self._shown = local.strftime(f"%d/%m/%Y:%H:%M:%S {'%z' if self._h2 else '%Z'}").encode()
            self._second = second
        return self._shown


def _clean(value: bytes | None) -> bytes:
    if value is None:
        return b"-"
    return _UNPRINTABLE.sub(_escape, value)


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return b"\\" + byte if byte in (b'"', b"\\") else b"\\x%02x" % byte[0]
