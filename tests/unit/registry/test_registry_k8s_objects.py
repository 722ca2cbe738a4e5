"""Bytes of a Kubernetes API server to lists and events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.registry.k8s_objects import BadAnswerError, Lines, Listing, RefusedError, parsed


def made(name: str, version: int, value: object = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n", "resourceVersion": str(version)}, "value": value}


def event(kind: str, found: object) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode()


def value_of(found: Mapping[str, Any]) -> Any:
    return found.get("value")


def listing(*objects: dict[str, Any], version: int = 10) -> Listing[Any]:
    one = Listing(value_of)
    one.replace([{"metadata": {"resourceVersion": str(version)}, "items": list(objects)}])
    return one


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b" ")), max_size=8), st.data())
def test_lines_do_not_depend_on_how_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    """Whole, byte by byte, or anything between: the same lines; an unfinished one waits."""
    whole = b"".join(line + b"\n" for line in lines) + b"unfinished"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    bytewise = [whole[n : n + 1] for n in range(len(whole))]

    found = [[line for piece in way for line in reader.feed(piece)] for way, reader in (
        ([whole], Lines()), (pieces, Lines()), (bytewise, Lines())
    )]  # fmt: skip

    # A byte order mark is dropped at the beginning only.
    expected = [line.removeprefix(b"\xef\xbb\xbf") if n == 0 else line for n, line in enumerate(lines)]
    assert found == [[line for line in expected if line.strip()]] * 3


def test_only_newlines_end_lines() -> None:
    """What ends lines in Unicode may stand inside a JSON string."""
    assert Lines().feed('{"a":"\u2028\u0085\x0c"}\n'.encode()) == ['{"a":"\u2028\u0085\x0c"}'.encode()]


def test_a_line_has_a_bound() -> None:
    """A line that never ends is refused before it fills the memory, in one piece or in many."""
    with pytest.raises(BadAnswerError, match="at most 100 bytes"):
        Lines(limit=100).feed(b"x" * 101)
    many = Lines(limit=100)
    many.feed(b"x" * 60)
    with pytest.raises(BadAnswerError, match="at most 100 bytes"):
        many.feed(b"x" * 60)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"a":"\xc3"}', b"[" * 100_000, b"NaN,"]
)
def test_what_is_no_object_is_a_bad_answer(data: bytes) -> None:
    """Broken JSON, invalid UTF-8 and depth without end are one error."""
    with pytest.raises(BadAnswerError):
        parsed(data)


def test_events_change_what_is_listed() -> None:
    """Added, modified, deleted; the version to go on from is that of the last."""
    one = listing(made("a", 1, "A"))

    changed = [
        one.event(event("ADDED", made("b", 11, "B"))),
        one.event(event("MODIFIED", made("a", 12, "AA"))),
        one.event(event("MODIFIED", made("a", 13, "AA"))),
        one.event(event("DELETED", made("b", 14, "B"))),
        one.event(event("BOOKMARK", {"metadata": {"resourceVersion": "20"}})),
    ]

    assert changed == [True, True, False, True, False]
    assert (one.values, one.version) == (("AA",), "20")


def test_old_events_are_skipped() -> None:
    """An event from before what is known takes nothing back."""
    one = listing(made("a", 15, "new"))

    assert one.event(event("MODIFIED", made("a", 14, "old"))) is False
    assert one.event(event("DELETED", made("a", 14, "old"))) is False
    assert (one.values, one.skipped) == (("new",), 2)


def test_a_list_from_before_counts() -> None:
    """A server restored from a backup has lower versions: its list is the truth nevertheless."""
    one = listing(made("a", 500, "new"), version=500)
    one.replace([{"metadata": {"resourceVersion": "7"}, "items": [made("a", 3, "restored")]}])

    assert (one.values, one.version) == (("restored",), "7")


def test_error_events_are_refusals() -> None:
    """410 in a stream is the one that a list repairs; a list stays what it was."""
    one = listing(made("a", 1, "A"))
    with pytest.raises(RefusedError) as refused:
        one.event(event("ERROR", {"code": 410, "message": "too old resource version"}))

    assert (refused.value.status, str(refused.value)) == (410, "410 too old resource version")
    assert one.values == ("A",)


@pytest.mark.parametrize("odd", [None, 1, "x", [], {}, {"metadata": 1}, {"metadata": {"name": 5}}])
@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "HELLO", None, 5])
def test_odd_events_change_nothing(kind: Any, odd: object) -> None:
    """Unknown types and objects without a name are skipped."""
    one = listing(made("a", 1, "A"))

    assert one.event(event(kind, odd)) is False
    assert one.values == ("A",)


def test_a_list_without_a_version_is_no_list() -> None:
    """There would be nothing to go on from; what was known stays."""
    one = listing(made("a", 1, "A"))
    with pytest.raises(BadAnswerError, match="resourceVersion"):
        one.replace([{"items": []}])

    assert one.values == ("A",)


def test_pages_are_one_list() -> None:
    """The version is that of the last page."""
    one = Listing(value_of)
    one.replace(
        [
            {"metadata": {"resourceVersion": "9", "continue": "x"}, "items": [made("b", 2, "B")]},
            {"metadata": {"resourceVersion": "9"}, "items": [made("a", 1, "A"), {"metadata": {}}, 7]},
        ]
    )

    assert (one.values, one.version, one.skipped) == (("A", "B"), "9", 1)
