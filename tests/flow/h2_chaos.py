"""The trouble of chaos.py with callers that speak HTTP/2, and with HTTP/2 from router to router.

``python -m tests.flow.h2_chaos --first 1 --count 500`` runs many seeds; a few are tests (test_flow_h2_chaos.py).
"""

from __future__ import annotations

import sys

from hostmesh.protocol.h2.engines import ENGINES
from tests.flow.chaos import NAMES, Chaos, body_of, runs
from tests.flow.h2_scripted import H2Call, H2Caller


class H2Chaos(Chaos):
    """Of the connections of callers two in three are HTTP/2; a second router is reached by HTTP/2."""

    def __init__(self, seed: int) -> None:
        self.h2_callers: list[H2Caller] = []
        super().__init__(seed)

    def _config(self) -> str:
        text = super()._config()
        engine = f"h2Engine: {self.rng.choice(ENGINES)}"
        outer, mark, inner = text.partition("- protocol: http\n  label: in\n")
        if self.chained:
            line = next(line for line in outer.splitlines() if line.startswith("  client: {"))
            params = line.removeprefix("  client: {").removesuffix("}")
            both = f"{{prefix: /, {params}}}, {{prefix: /$/inet, protocol: h2}}"
            outer = outer.replace(line, f"  client: {{kind: io.l5d.static, configs: [{both}]}}")
        return f"{outer}  {engine}\n{mark}{inner}" + (f"  {engine}\n" if mark else "")

    # -- callers --------------------------------------------------------------------------------------------------

    def _caller(self) -> None:
        if self.over:
            return
        if self.rng.random() < 0.33:
            super()._caller()
            return
        caller = H2Caller(self.loop, 4140, source=f"10.9.8.{self.rng.randrange(1, 9)}")
        caller.keeps_raw = False
        self.h2_callers.append(caller)
        self._streams(caller, self.rng.randrange(1, 10))

    def _streams(self, caller: H2Caller, left: int) -> None:
        """Some requests side by side, and once one has ended more of them; then a good or bad end."""
        rng, loop = self.rng, self.loop
        if self.over:
            return
        if left == 0 or caller.closed or caller.goaways:
            loop.call_at(loop.now() + rng.random() * 0.1, self._caller)
            loop.call_at(loop.now() + rng.random() * 3.0, self._hang_up, caller)
            return
        calls = [self._stream(caller) for _ in range(rng.choice((1, 1, 2, 5, 20)))]
        calls[0].on_end = self._then(calls[0], caller, left - 1)
        when = loop.now() + rng.random() * rng.choice((0.001, 0.1, 1.0))
        action = rng.randrange(20)
        if action == 0:
            loop.call_at(when, self._hang_up, caller)
        elif action == 1 and caller.transport is not None:
            caller.transport.pause()
            loop.call_at(loop.now() + rng.random() * 2, caller.transport.resume)
        for call in calls:
            if rng.random() < 0.06:
                loop.call_at(when, self._cancel, caller, call)

    def _then(self, call: H2Call, caller: H2Caller, left: int) -> object:
        told = call.on_end
        begun = [False]

        def go_on() -> None:
            if not begun[0]:
                begun[0] = True
                self._streams(caller, left)

        def ended(call: H2Call) -> None:
            if told is not None:
                told(call)
            # Not from within the caller's own reading.
            self.loop.call_at(self.loop.now() + self.rng.random() * 0.05, go_on)

        # Whatever happens to this one, there is another.
        self.loop.call_at(self.loop.now() + 3.0, go_on)
        return ended

    def _cancel(self, caller: H2Caller, call: H2Call) -> None:
        if call.ended is None and not caller.closed:
            caller.cancel(call)

    def _hang_up(self, caller: H2Caller) -> None:
        if caller.transport is not None and not caller.closed:
            self.rng.choice((caller.close, caller.reset))()
            caller.gone()

    def _stream(self, caller: H2Caller) -> H2Call:
        rng = self.rng
        self.requests += 1
        method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
        size = rng.choice((0, 5, 4000, 9000, 150_000))
        target = f"/{self.requests}?size={size}"
        host = rng.choice(NAMES)
        fields = (("l5d-dtab", f"/svc/{host} => /#/lit/{rng.choice(NAMES)}"),) if rng.random() < 0.1 else ()
        if method not in ("POST", "PUT"):
            call = caller.request(target, method=method, host=host, fields=fields)
        else:
            if rng.random() < 0.5:
                fields = (*fields, ("content-length", str(size)))
            call = caller.request(target, method=method, host=host, fields=fields, end=size == 0)
            if size:
                caller.upload(call, body_of(target, size))
        call.on_end = self._checked(target)
        return call

    def _checked(self, target: str) -> object:
        def ended(call: H2Call) -> None:
            if call.done and call.status in (200, 413) and call.reason == "" and call.method != "HEAD":
                self.checked += 1
                if call.body != body_of(target, len(call.body)):
                    self.broken.append(f"{target}: the caller got another body: {bytes(call.body[:40])!r}")

        return ended

    def leave_all(self) -> None:
        super().leave_all()
        for caller in self.h2_callers:
            self._hang_up(caller)


def run(seed: int) -> Chaos:
    chaos = H2Chaos(seed)
    chaos.run()
    return chaos


if __name__ == "__main__":
    sys.exit(runs(run))
