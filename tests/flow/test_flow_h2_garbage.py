"""What a request leaves behind is freed at once, not when the collector comes."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import pytest

from tests.flow.h2_endpoint import answering_h2
from tests.flow.h2_scripted import H2Call, H2Caller, finish
from tests.flow.h2_world import Engine, check, every_engine, serving_h2  # noqa: F401
from tests.flow.world import World

ROUTER = """
routers:
- protocol: h2
  h2Engine: %s
  label: out
  dtab: /svc => /#/lit
  servers: [{port: 4142}]
"""


def left_by(act: Callable[[], None]) -> Counter[str]:
    """The objects of hostmesh that only the collector frees, by class."""
    gc.collect()
    gc.disable()
    try:
        act()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(
            type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("hostmesh")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    return found


@pytest.mark.parametrize("end", ["answered", "cancelled", "refused"])
def test_a_request_leaves_nothing_to_the_collector(end: str) -> None:
    """The caller's stream and its exchange know each other only until the end: a collection stops every request."""
    world = World(ROUTER % Engine.kind)
    serving_h2(world, answering_h2(after=0.01))
    caller = H2Caller(world.loop, 4142)

    def one() -> H2Call:
        return caller.request(host="nobody" if end == "refused" else "web")

    def act() -> None:
        for _ in range(20):
            call = one()
            if end == "cancelled":
                world.loop.run_for(0.005)
                caller.cancel(call)
                world.loop.run_for(0.1)
            else:
                finish(world, call)

    act()

    assert left_by(act) == Counter()
    check(world)
