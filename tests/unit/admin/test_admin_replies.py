"""Rendering that shares the thread."""

from __future__ import annotations

import json
from collections.abc import Iterator

import trio

from hostmesh.admin.replies import SLICE_S, dumps, json_object, paced
from hostmesh.naming.dtab import Dtab


def test_long_rendering_lets_others_run() -> None:
    """A task beside it runs between the parts, not after them all."""
    seen: list[int] = []
    made = 0

    def parts() -> Iterator[str]:
        nonlocal made
        for _part in range(20):
            until = trio.current_time() + SLICE_S
            while trio.current_time() <= until:
                pass
            made += 1
            yield "x"

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def beside() -> None:
                while True:
                    await trio.lowlevel.checkpoint()
                    seen.append(made)

            nursery.start_soon(beside)
            assert await paced(parts()) == b"x" * 20
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert len(set(seen)) >= 10


def test_json_objects_in_parts_are_json() -> None:
    """Any keys, empty too."""
    items = [("a", 1), ('"b"', {"c": [Dtab.read("/d=>/e")]})]

    assert json.loads("".join(json_object(items))) == {"a": 1, '"b"': {"c": ["/d=>/e"]}}
    assert json.loads("".join(json_object([]))) == {}


def test_whatever_a_view_holds_can_be_shown() -> None:
    """Dtabs by their text, sets sorted, the rest by str."""
    assert (
        dumps({"a": {"y", "x"}, "b": Dtab.read("/p=>/q"), "c": 1j})
        == '{"a": ["x", "y"], "b": "/p=>/q", "c": "1j"}'
    )
