"""SIGTERM under load."""

from __future__ import annotations

import time
from pathlib import Path

from tests.wire.load import Call, Outcome
from tests.wire.scenarios.world import ROUTER, Figures, World, agree


def drain_under_load(
    folder: Path, *, rate: float | None, connections: int, delay_ms: float, warm: int, grace_ms: int = 5000
) -> Figures:
    """Keep-alive callers with and without bodies: every request that was sent is answered.

    Their connections end with ``Connection: close`` or while nothing is asked on them; new ones are refused, which
    callers know before they have sent anything. The process ends by itself within the grace.
    """

    def call(n: int) -> Call:
        # Every third has a connection of its own, which may still wait to be accepted.
        fields = (("Connection", "close"),) if n % 3 == 0 else ()
        size = (0, 300, 0, 20_000)[n % 4]
        return Call("POST" if size else "GET", fields=fields, body_bytes=size)

    with World(folder) as world:
        web = world.endpoint("web", delay_ms=delay_ms)
        mesh = world.serve(ROUTER.replace("5000", str(grace_ms)), web=[web])
        # Idle connections that have never asked anything, and some that are at rest.
        silent = [world.enter_context(mesh.client()) for _ in range(5)]
        resting = [world.enter_context(mesh.client()) for _ in range(5)]
        for n, client in enumerate(resting):
            client.request(fields=(("X-Id", f"rest{n}"),))
        load = world.load(mesh.port, call, rate=rate, connections=connections)
        load.more(warm)
        begin = time.monotonic()
        mesh.terminate()
        status = mesh.wait_exit(within=grace_ms / 1000 + 5)
        took = time.monotonic() - begin
        outcomes = load.stop()

        sent = [o for o in outcomes if o.problem != "refused"]
        lost: list[Outcome] = [o for o in sent if not o.ok]
        assert lost == [], lost[:5]
        assert status == 0, mesh.log()
        assert '"event": "stopped"' in mesh.log()
        assert '"cut": 0' in mesh.log()
        after = [o for o in sent if o.sent > begin]
        refused = [o for o in outcomes if o.problem == "refused"]
        assert refused, "the port was never closed"
        assert min(o.sent for o in refused) - begin < 3.0, "new connections were left hanging"
        assert all(client.is_closed() for client in silent + resting)
        web.close()
        agree([web], [*sent, *[Outcome(f"rest{n}", "GET", 200, "web", "", 0, 0, "") for n in range(5)]])
        assert took < grace_ms / 1000 + 3
        return {
            "requests": len(sent),
            "failed": 0,
            "of them sent after SIGTERM": len(after),
            "answers with Connection: close": load.told_to_close,
            "closed at rest": load.closed_idle,
            "refused connects": len(refused),
            "exit status": status,
            "ended after (ms)": round(took * 1000),
        }
