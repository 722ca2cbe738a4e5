"""Why a path binds as it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

JSON = {"content-type": "application/json"}


def test_delegation_by_query(daemon: Any, ask: Any) -> None:
    """Path, dtab and namespace come from the query; the answer is the interpreter's tree."""
    answer = ask("GET", "/delegator.json?path=/svc/web&dtab=/svc=>/a&namespace=http")

    assert (answer.status, answer.json) == (200, {"type": "neg", "path": "/svc/web"})
    assert daemon.interpreter.dtabs == ["/svc=>/a"]


def test_delegation_by_post(ask: Any) -> None:
    """The same fields as JSON."""
    body = json.dumps({"namespace": "http", "dtab": "/svc=>/a", "path": "/svc/web"}).encode()
    answer = ask("POST", "/delegator.json", {"content-type": "application/json; charset=UTF-8"}, body)

    assert (answer.status, answer.json["path"]) == (200, "/svc/web")


def test_delegation_without_dtab_uses_the_routers(daemon: Any, ask: Any) -> None:
    """Linkerd would use an empty one, under which nothing binds."""
    ask("GET", "/delegator.json?path=/svc/web&namespace=http")

    assert daemon.interpreter.dtabs == ["/svc=>/#/io.l5d.fs"]


def test_delegation_with_an_empty_dtab_uses_the_empty_one(daemon: Any, ask: Any) -> None:
    """Given is given."""
    ask("GET", "/delegator.json?path=/svc/web&namespace=http&dtab=")

    assert daemon.interpreter.dtabs == [""]


def test_delegation_without_namespace_uses_the_only_router(daemon: Any, ask: Any) -> None:
    """With two, the caller must say which."""
    assert ask("GET", "/delegator.json?path=/svc/web").status == 200

    daemon.view.routers = {"a": daemon.router("a"), "b": daemon.router("b")}
    answer = ask("GET", "/delegator.json?path=/svc/web")
    assert answer.status == 501
    assert "a, b" in answer.text


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("", 400, "Invalid path: "),
        ("path=svc", 400, "Invalid path: "),
        ("path=/svc&dtab=/svc=>", 400, "Invalid dtab: "),
        ("path=/svc&namespace=nope", 501, "Name Interpreter for nope cannot show delegations"),
    ],
)
def test_delegations_that_cannot_be_made(ask: Any, query: str, status: int, message: str) -> None:
    """Linkerd's statuses and first words."""
    answer = ask("GET", f"/delegator.json?{query}")

    assert status == answer.status
    assert answer.text.startswith(message)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, b"{", 400),
        (JSON, b"[]", 400),
        (JSON, b'{"path": 1}', 400),
        (JSON, b"\xff", 400),
        ({"content-type": "text/plain"}, b"{}", 415),
        ({}, b"{}", 415),
    ],
)
def test_posts_that_cannot_be_read(ask: Any, headers: dict[str, str], body: bytes, status: int) -> None:
    """Not JSON, not an object, not strings: 400; another media type: 415."""
    assert status == ask("POST", "/delegator.json", headers, body).status


def test_an_interpreter_that_cannot_explain_is_501(daemon: Any, ask: Any) -> None:
    """It says whose interpreter."""
    import attrs

    daemon.view.routers = {"http": attrs.evolve(daemon.router("http"), interpreter=None)}
    answer = ask("GET", "/delegator.json?path=/svc/web&namespace=http")

    assert (answer.status, answer.text) == (501, "Name Interpreter for http cannot show delegations\n")


def test_delegation_waits_for_namers(daemon: Any, ask: Any) -> None:
    """A tree that is pending is not the answer; what it becomes is."""

    async def finish() -> None:
        await trio.sleep(1)
        daemon.interpreter.finish()

    answer = ask("GET", "/delegator.json?path=/slow/web", beside=finish)

    assert (answer.status, answer.json["path"]) == (200, "/slow/web")
    assert not daemon.interpreter.asked[0].observed


def test_delegation_gives_up_after_two_seconds(daemon: Any, ask: Any) -> None:
    """503, and the watch is let go."""
    answer = ask("GET", "/delegator.json?path=/slow/web")

    assert (answer.status, answer.text) == (503, "Request timed out.\n")
    assert not daemon.interpreter.asked[0].observed


def test_an_address_that_is_not_known_is_no_reason_to_answer_nothing(ask: Any) -> None:
    """After two seconds the tree is shown as far as it goes; the leaf says pending."""
    answer = ask("GET", "/delegator.json?path=/half/web")

    assert answer.status == 200
    assert answer.json["bound"]["addr"] == {"type": "pending"}


def test_the_page_shows_the_routers_dtab_to_start_from(ask: Any) -> None:
    """One rule a line, in a form."""
    page = ask("GET", "/delegator").text

    assert "/svc=&gt;/#/io.l5d.fs</textarea>" in page
    assert "<option>http</option>" in page


def test_the_page_explains(ask: Any) -> None:
    """The lines that the command line prints."""
    page = ask("GET", "/delegator?router=http&path=/svc/web&dtab=/a=>/b;/c=>/d")

    assert page.status == 200
    assert "/svc/web" in page.text.partition("<pre>")[2]
    assert "/a=&gt;/b;\n/c=&gt;/d</textarea>" in page.text
    assert "<option selected>http</option>" in page.text


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("router=%3Cb%3E&path=/svc", 501, "Name Interpreter for &lt;b&gt; cannot show delegations"),
        ("path=%3Cb%3E", 400, "Invalid path: "),
        ("path=/slow", 200, "no answer yet"),
    ],
)
def test_the_page_says_what_is_wrong(ask: Any, query: str, status: int, message: str) -> None:
    """In words, escaped, with the form to try again."""
    answer = ask("GET", f"/delegator?{query}")

    assert answer.status == status
    assert message in answer.text
    assert "<b>" not in answer.text
    assert "<form>" in answer.text


def test_deeply_nested_json_is_malformed(ask: Any) -> None:
    """Not an error of ours."""
    assert ask("POST", "/delegator.json", JSON, b"[" * 60_000).status == 400
