"""The file of a name is rewritten, truncated, deleted and restored while requests need it."""

from __future__ import annotations

import time
from pathlib import Path

from tests.wire.harness import replace_file
from tests.wire.load import Call, by_endpoint, failed
from tests.wire.scenarios.world import HEAD, Figures, World

CLIENT = "rt/http/client/#/io.l5d.fs/web/"

CONFIG = (
    HEAD
    + """\
  holdMs: HOLD
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs;
  servers:
  - port: @port@
    ip: 127.0.0.1
"""
)


def troubled_file(folder: Path, *, rounds: int, hold_ms: int, rate: float = 400.0) -> Figures:
    """Everything that tools do to a file, restored within ``hold_ms``: no request fails, both endpoints serve on."""
    with World(folder) as world:
        a, b = world.endpoint("a"), world.endpoint("b")
        mesh = world.serve(CONFIG.replace("HOLD", str(hold_ms)), web=[a, b])
        file = mesh.disco / "web"
        text = file.read_text()
        cut = text.index("\n") - 2
        load = world.load(mesh.port, Call(), rate=rate)
        # Enough requests to meet each state of the file, few enough for it to be restored within the hold.
        few = int(rate * hold_ms / 1000 / 8)
        load.more(few)
        for _ in range(rounds):
            file.unlink()
            load.more(few)
            file.write_text(text)
            load.more(few)

            file.write_text("")
            load.more(few)
            # Half a line: a port that is nobody's.
            file.write_text(text[:cut])
            load.more(few)
            with file.open("a") as rest:
                rest.write(text[cut:])
            load.more(few)

            file.write_text("127.0.0.1 many\n")
            load.more(few)
            replace_file(file, text)
            load.more(few)

            file.unlink()
            (folder / "elsewhere").write_text(text)
            file.symlink_to(folder / "elsewhere")
            load.more(few)
            replace_file(file, text)
            load.more(few)
        outcomes = load.stop()
        assert failed(outcomes) == []
        assert world.twice() == []
        names = by_endpoint(outcomes[-10 * few :])
        assert set(names) == {"a", "b"}
        assert min(names.values()) > 0.3 * sum(names.values()), names
        return {
            "rounds": rounds,
            "requests": len(outcomes),
            "failed": 0,
            "answered": dict(by_endpoint(outcomes)),
            "connect failures (half a port)": mesh.metrics()[CLIENT + "service_creation/failures"],
        }


def moved_endpoint(folder: Path, *, hold_ms: int, rate: float = 500.0) -> Figures:
    """A removed endpoint gets nothing after the hold, a new one its share within 100 ms, a deleted file becomes Neg."""
    with World(folder) as world:
        a, b, c = world.endpoint("a"), world.endpoint("b"), world.endpoint("c")
        mesh = world.serve(CONFIG.replace("HOLD", str(hold_ms)), web=[a, b])
        load = world.load(mesh.port, Call(), rate=rate)
        load.more(200)

        changed = time.monotonic()
        mesh.set_endpoints("web", [b.line, c.line])
        load.wait(lambda: load.outcomes[-1].sent > changed + 0.6, "some requests later")
        window = [o for o in load.outcomes if changed + 0.1 <= o.sent < changed + 0.6]
        first = min(o.sent for o in load.outcomes if o.endpoint == "c") - changed
        held = hold_ms >= 600
        share = by_endpoint(window)["c"] / len(window)
        assert first < 0.3, first
        assert 0.2 < share < 0.7, by_endpoint(window)

        hold_end = changed + hold_ms / 1000
        # Past the hold by as much as an alarm and the turn that follows may take.
        load.wait(lambda: load.outcomes[-1].sent > hold_end + 0.1, "the hold is over")
        settled = len(load.outcomes)
        at_a = a.count
        load.more(300)
        after = by_endpoint(load.outcomes[settled:])
        assert a.count == at_a, "a removed endpoint is still asked"
        assert set(after) == {"b", "c"}, after
        assert not held or any(o.endpoint == "a" and o.sent > changed for o in load.outcomes), (
            "nothing was held"
        )

        assert failed(load.outcomes) == []
        deleted = time.monotonic()
        (mesh.disco / "web").unlink()
        load.wait(lambda: load.outcomes[-1].status == 502, "the name is gone", within=hold_ms / 1000 + 10)
        gone = next(o.done for o in load.outcomes if o.status == 502) - deleted
        load.more(20)
        refused = load.outcomes[-20:]
        assert {(o.status, o.err.partition("%3A")[0]) for o in refused} == {(502, "name-negative")}, refused
        assert hold_ms / 1000 - 0.01 <= gone < hold_ms / 1000 + 1.0, gone
        counted = b.count + c.count
        load.more(20)
        assert b.count + c.count == counted, "a name that is gone is still served"

        mesh.set_endpoints("web", [b.line])
        load.wait(lambda: load.outcomes[-1].ok, "the name is back")
        back = time.monotonic()
        outcomes = load.stop()
        assert failed(o for o in outcomes if o.sent > back) == []
        return {
            "requests": len(outcomes),
            "new endpoint first asked after (ms)": round(first * 1000, 1),
            "its share from 100 to 600 ms": round(share, 3),
            "requests to the removed one after the hold": 0,
            f"deleted file is Neg after (ms, holdMs {hold_ms})": round(gone * 1000),
        }
