"""Hundreds of tunnels that end in every way, at any moment: nothing is invented, nothing is left."""

from __future__ import annotations

from random import Random

import pytest

from tests.flow.h2_world import check as check_h2
from tests.flow.test_flow_websocket_h2 import answering_keys
from tests.flow.tunnels_h2 import MIXES, End, Mix

SERVER = "rt/out/server/127.0.0.1/4140"
TUNNELS = 120

pytestmark = pytest.mark.usefixtures("engine")


class Talk:
    """One tunnel and what its two ends have said."""

    def __init__(self, mix: Mix, rng: Random) -> None:
        self.mix = mix
        self.rng = rng
        self.caller = mix.ask()
        self.endpoint: End | None = None
        self.said: dict[str, bytearray] = {"caller": bytearray(), "endpoint": bytearray()}
        self.finished: set[str] = set()
        self.broken = False

    def end(self, who: str) -> End | None:
        return self.caller if who == "caller" else self.endpoint

    def step(self) -> None:
        """One of the two does something that it still may."""
        who = self.rng.choice(("caller", "endpoint"))
        end, other = self.end(who), self.end("endpoint" if who == "caller" else "caller")
        if self.broken or end is None or end.cut or (other is not None and other.cut):
            return
        if len(self.finished) == 2:
            return
        action = self.rng.random()
        if action < 0.08:
            self.broken = True
            end.reset()
        elif who in self.finished:
            return
        elif action < 0.25:
            self.finished.add(who)
            end.finish()
        else:
            data = self.rng.randbytes(self.rng.choice((1, 10, 2000, 30_000)))
            self.said[who] += data
            end.send(data)

    def check(self) -> None:
        """What arrived is what was said, from its beginning; all of it, if both have ended by themselves."""
        for who, other in (("caller", self.endpoint), ("endpoint", self.caller)):
            if other is None or (who == "endpoint" and self.mix.status(self.caller) not in (101, 200)):
                continue
            said = bytes(self.said[who])
            assert said.startswith(other.data)
            if len(self.finished) == 2 and not self.broken:
                assert other.data == said
                assert other.ended


@pytest.mark.parametrize("mix_name", MIXES)
@pytest.mark.parametrize("seed", [1, 2])
def test_tunnels_that_end_in_every_way(mix_name: str, seed: int) -> None:
    """Bytes, ends and resets of both sides in a random order, many tunnels at once."""
    rng = Random(f"{mix_name}/{seed}")
    mix = Mix(mix_name)
    if mix.h1 is not None and mix.caller_version == "h2":
        mix.h1.answer_with = answering_keys
    talks: list[Talk] = []
    for _ in range(TUNNELS):
        before = len(mix.endpoints())
        talk = Talk(mix, rng)
        talks.append(talk)
        if rng.random() < 0.1:
            # It leaves while it is being asked for.
            mix.world.run(0.0005 + rng.random() * 0.001)
            talk.broken = True
            talk.caller.reset()
        mix.world.run(0.02)
        ends = mix.endpoints()
        if len(ends) > before:
            talk.endpoint = ends[-1]
        for _ in range(10):
            rng.choice(talks).step()
            mix.world.run(0.0005)
    for _ in range(1500):
        rng.choice(talks).step()
        mix.world.run(0.0005)
    mix.world.run(30)
    for talk in talks:
        talk.check()
        if not talk.broken and len(talk.finished) < 2 and not talk.caller.cut:
            talk.caller.reset()
    mix.world.run(400)

    metrics = mix.world.metrics()
    assert metrics[f"{SERVER}/tunnels/open"] == 0
    assert metrics.get(f"{SERVER}/open_streams", 0) == 0
    assert metrics[f"{SERVER}/pending"] == 0
    assert metrics[f"{SERVER}/tunnels/opened"] > TUNNELS // 2
    if mix.endpoint_version == "h2":
        check_h2(mix.world)
    else:
        mix.world.check()
