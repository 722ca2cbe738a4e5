"""For each reason that HTTP/1.1 can meet, one request: status, ``l5d-err``, counter and log line agree."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hostmesh.base.reasons import Reason
from tests.wire.reasons_table import CASES, ELSEWHERE, LAST, PAGE, Case, Stage, page, request


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    built = Stage(tmp_path_factory.mktemp("reasons"))
    yield built
    built.close()


def log_line(stage: Stage, caller: str) -> dict[str, object]:
    """The canonical line of the exchange of that caller."""
    mesh = stage.mesh
    mesh.wait(lambda: f'"caller": "{caller}"' in mesh.log(), f"a line of {caller}")
    lines = [json.loads(each) for each in mesh.log().splitlines() if f'"caller": "{caller}"' in each]
    assert len(lines) == 1
    found = lines[0]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason.value)
def test_status_header_counter_and_log_agree(stage: Stage, case: Case) -> None:
    """The answer says the reason, one counter has grown by one, and the log has one line that says the same."""
    counter = f"rt/{case.label}/server/127.0.0.1/{stage.mesh.ports[case.port]}/failures/{case.reason.value}"
    before = stage.mesh.metrics().get(counter, 0)

    # An address of its own: the kernel soon gives a port out again, and the log has the lines of all cases.
    source = f"127.7.0.{CASES.index(case) + 1}"
    with stage.mesh.client(case.port, source=source) as client:
        caller = f"{source}:{client.local_port}"
        response = case.run(stage, client)
    line = log_line(stage, caller)

    if response is not None:
        assert response.status == case.status
        assert (response.get("l5d-err") or "").split("%3A")[0] == case.reason.value
        assert response.get("content-type") == "text/plain"
        assert response.body.strip()
    assert (line["reason"], line["status"], line["failed"]) == (case.reason.value, case.status or 0, True)
    assert stage.mesh.metrics()[counter] == before + 1


def test_draining_is_answered_before_the_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What has no answer when the grace is over is told so; the log keeps it, the counter is gone with the process."""
    stage = Stage(tmp_path_factory.mktemp("draining"))
    try:
        client = stage.hang()
        caller = f"127.0.0.1:{client.local_port}"
        stage.mesh.terminate()
        response = client.response()
        code = stage.mesh.wait_exit()
    finally:
        stage.close()

    lines = [json.loads(each) for each in stage.mesh.log().splitlines() if f'"caller": "{caller}"' in each]
    assert (response.status, code) == (LAST.status, 0)
    assert (response.get("l5d-err") or "").startswith("draining%3A")
    assert [(line["reason"], line["status"]) for line in lines] == [("draining", 503)]


def test_r12_a_bug_in_one_request_leaves_the_others_alone(stage: Stage) -> None:
    """R12: requests before and after the one that meets an exception of ours are served, on the same connection."""
    with stage.mesh.client("bug") as client:
        client.send(request("web", "/one") + request("web", "/bug") + request("web", "/two"))
        answers = [client.response() for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 500, 200]
    assert stage.mesh.log().count("this is the bug") >= 1


def test_r5_a_chunked_body_read_whole_is_bounded(stage: Stage) -> None:
    """R5: where bodies are read whole, one without a length is refused when it has grown too large."""
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with stage.mesh.client("paths") as client:
        client.send(request("web", "/web/x", "Transfer-Encoding: chunked", method="POST"))
        for _ in range(81):
            client.send(piece)
        response = client.response()

    assert (response.status, (response.get("l5d-err") or "").split("%3A")[0]) == (413, "limit-body-bytes")


def test_every_reason_has_a_request() -> None:
    """No reason is forgotten, and none is promised twice."""
    named = [case.reason for case in [*CASES, LAST]] + list(ELSEWHERE)

    assert sorted(named) == sorted(Reason)


def test_the_page_is_current() -> None:
    """docs/reasons.md is what ``python -m tests.wire.reasons_table`` writes."""
    assert PAGE.read_text() == page()
