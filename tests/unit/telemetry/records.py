"""A finished exchange for tests, with the fields that a test cares about replaced."""

from __future__ import annotations

from typing import Any

from hostmesh.telemetry.record import Record


class Fields(dict[bytes, bytes]):
    """A request head with these fields."""


DEFAULT = Record(
    router="http",
    server="127.0.0.1/4140",
    caller="10.0.0.7:51234",
    method=b"GET",
    target=b"/a?b=c",
    host=b"web",
    head_bytes=120,
    version=11,
    head=Fields({b"user-agent": b"curl/8", b"referer": b"http://x/"}),
    dst_path="/svc/web",
    bound_id="/#/io.l5d.fs/web",
    residual="/",
    endpoint="10.1.1.1:8080",
    status=200,
    reason="",
    failed=False,
    from_endpoint=True,
    attempts=1,
    requeues=0,
    request_bytes=0,
    response_bytes=63,
    content_length=63,
    start=1_500_000_000.25,
    total=0.012345,
    endpoint_time=0.011,
    trace_id="00000000deadbeef",
)


def record(**changes: Any) -> Record:
    return DEFAULT._replace(**changes)
