"""A minute of everything at once: random configurations, endpoints that misbehave, callers that leave, reloads.

``python -m tests.flow.chaos --first 1 --count 500`` runs many seeds; a few are tests (test_flow_chaos.py). The script
knows what every body must be, so that a byte of one exchange in another is found, and afterwards nothing may be left:
no slot of a balancer, no waiter, no connection.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from random import Random

from tests.flow.scripted import Call, Caller, Received, ScriptedEndpoint
from tests.flow.world import World, config

SECONDS = 20.0
"""Virtual seconds of trouble in one run."""

CALLERS = 12

NAMES = ("web", "api")


def body_of(target: str, size: int) -> bytes:
    """The body that belongs to a target, in either direction."""
    seed = target.encode() + b"|"
    return (seed * (size // len(seed) + 1))[:size]


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


class Chaos:
    """One run. :meth:`run` raises AssertionError when something is not as it must be."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(f"chaos/{seed}")
        self.retries_writes = False
        self.chained = self.rng.random() < 0.3
        """The name ``api`` leads through a second router."""
        self.world = World(self._config(), seed=seed, latency=self.rng.choice((0.0, 0.0001, 0.002)))
        self.loop = self.world.loop
        self.loop.read_size = self.rng.choice((None, None, None, 5000, 333))
        self.members = [self._member() for _ in range(5)]
        for name in NAMES:
            self._rename(name)
        self.requests = 0
        self.checked = 0
        self.delivered: dict[str, int] = {}
        self.broken: list[str] = []
        self.callers: list[Caller] = []
        self.over = False

    # -- the configuration ----------------------------------------------------------------------------------------

    def _config(self) -> str:
        choose = self.rng.choice
        classifier = choose(
            ("nonRetryable5XX", "retryableRead5XX", "retryableIdempotent5XX", "retryableAll5XX")
        )
        self.retries_writes = self.retries_writes or classifier == "retryableAll5XX"
        service = [f"responseClassifier: {{kind: io.l5d.http.{classifier}}}"]
        if choose((True, False)):
            service.append(f"totalTimeoutMs: {choose((50, 500, 3000))}")
        if choose((True, False)):
            service.append(f"retries: {{backoff: {{kind: constant, ms: {choose((0, 20, 300))}}}}}")
        client = [f"loadBalancer: {{kind: {choose(('p2c', 'ewma', 'heap', 'aperture', 'roundRobin'))}}}"]
        if choose((True, False)):
            client.append(f"requestAttemptTimeoutMs: {choose((30, 200, 1000))}")
        if choose((True, False)):
            client.append(
                f"hostConnectionPool: {{maxSize: {choose((1, 2, 20))}, maxWaiters: {choose((1, 5, 1000))}, "
                f"idleTimeMs: {choose((100, 2000, 60000))}}}"
            )
        if choose((True, False, False)):
            client.append("failureAccrual: {kind: none}")
        if choose((True, False, False)):
            client.append("failFast: true")
        router = choose(
            (
                "",
                "bindingTimeoutMs: 300",
                "bindingCache: {paths: 1, clients: 1, idleTtlSecs: 10}",
                "streamAfterContentLengthKB: 100",
                "compressionLevel: 5",
            )
        )
        server = choose(
            (
                "",
                "serverSession: {idleTimeMs: 3000}",
                "serverSession: {lifeTimeMs: 1000}",
                "maxConcurrentRequests: 8",
                "clearContext: true",
                "timeoutMs: 400",
                "addForwardedHeader: {by: {kind: ip}, for: {kind: requestRandom}}",
            )
        )
        text = config(", ".join(service), ", ".join(client), router=router, server=server)
        if self.chained:
            inner = config(", ".join(service), ", ".join(client)).partition("routers:\n")[2]
            text += inner.replace("label: out", "label: in").replace("port: 4140", "port: 4141")
        return text

    # -- endpoints ------------------------------------------------------------------------------------------------

    def _member(self) -> ScriptedEndpoint:
        endpoint = self.world.endpoint(self._answer)
        endpoint.on_head = self._head
        endpoint.keeps_raw = False
        return endpoint

    def _head(self, received: Received) -> None:
        if self.over or self.rng.random() > 0.05:
            return
        action = self.rng.randrange(4)
        if action == 0:
            body = b"" if received.message.method == "HEAD" else body_of(received.message.target, 40)
            received.answer(413, body)
        elif action == 1:
            received.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif action == 2:
            received.reset(after=self.rng.random() * 0.01)
        else:
            received.session.transport.pause()
            self.loop.call_at(self.loop.now() + self.rng.random(), received.session.transport.resume)

    def _answer(self, received: Received) -> None:
        target = received.message.target
        if received.message.method in ("POST", "PUT"):
            size = int(target.rpartition("=")[2])
            if received.body != body_of(target, size):
                self.broken.append(f"{target}: the endpoint got {len(received.body)} bytes of another body")
        if received.answered:
            return
        rng = self.rng
        after = 0.0 if rng.random() < 0.5 else rng.random() * rng.choice((0.01, 0.1, 1.0))
        action = 0 if self.over else rng.randrange(24)
        body = (
            b"" if received.message.method == "HEAD" else body_of(target, rng.choice((0, 10, 3000, 200_000)))
        )
        if received.message.method == "HEAD" and action in (5, 6, 7, 8, 9):
            action = 0
        if action == 1:
            received.answer(500, body, after=after)
        elif action == 2:
            received.answer(503, body, after=after, fields=("Retry-After: 0",))
            return
        elif action == 3:
            received.reset(after=after)
        elif action == 4:
            received.answer(200, body, after=after)
            received.close(after=after)
        elif action == 5:
            received.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, 777), after=after
            )
        elif action == 6:
            received.send(b"HTTP/1.1 200 OK\r\n\r\n" + body, after=after)
            received.close(after=after + 0.001)
        elif action == 7:
            # In one piece: what comes after the next request was written nobody could tell from its answer.
            poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
            received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body_of(target, 2) + poison)
        elif action == 8:
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            received.send(whole[: rng.randrange(1, len(whole))], after=after)
            received.reset(after=after + rng.random() * 0.1)
        elif action == 9:
            received.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", after=after)
        elif action == 10:
            pass
        elif action == 11:
            received.send(b"HTTP/1.1 103 Early Hints\r\n\r\n", after=after)
            received.answer(200, body, after=after + 0.001)
        elif action == 12:
            received.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), after=after)
            received.send(body, after=after + rng.random() * 0.2)
        else:
            received.answer(200, body, after=after, fields=("Connection: close",) if action == 13 else ())
        self.delivered[target] = self.delivered.get(target, 0) + 1

    # -- callers --------------------------------------------------------------------------------------------------

    def _caller(self) -> None:
        """One connection: a few requests, perhaps a bad end; then another."""
        if self.over:
            return
        rng = self.rng
        caller = self.world.caller()
        caller.keeps_raw = False
        self.callers.append(caller)
        self._ask(caller, rng.randrange(1, 12))

    def _ask(self, caller: Caller, left: int) -> None:
        rng, loop = self.rng, self.loop
        if self.over:
            return
        if left == 0 or caller.closed:
            if not caller.closed and caller.transport is not None:
                rng.choice((caller.close, caller.reset, caller.half_close))()
            loop.call_at(loop.now() + rng.random() * 0.1, self._caller)
            return
        if rng.random() < 0.05:
            self._old(caller)
            return
        pipelined = rng.choice((1, 1, 1, 1, 3))
        calls = [self._request(caller) for _ in range(pipelined)]
        calls[-1].on_end = lambda _call: loop.call_at(
            loop.now() + rng.random() * 0.05, self._ask, caller, left - 1
        )
        action = rng.randrange(20)
        when = loop.now() + rng.random() * rng.choice((0.001, 0.1, 1.0))
        if action == 0:
            loop.call_at(when, self._leave, caller)
        elif action == 1:
            loop.call_at(when, self._pause, caller, rng.random() * 2)
        # Whatever happens to this one, there is another.
        loop.call_at(loop.now() + 3.0, self._replace, caller, calls)

    def _old(self, caller: Caller) -> None:
        """An HTTP/1.0 caller that half-closes and waits for the end."""
        self.requests += 1
        target = f"/{self.requests}?size=0"
        caller.send(f"GET {target} HTTP/1.0\r\nHost: {self.rng.choice(NAMES)}\r\n\r\n".encode())
        call = caller.expect()
        self._watch(call, target)
        if self.rng.random() < 0.5 and caller.transport is not None:
            caller.half_close()
        # With a reset: that it has gone after its FIN cannot be seen until there is something to send.
        self.loop.call_at(self.loop.now() + 3.0, self._leave, caller, True)
        self.loop.call_at(self.loop.now() + self.rng.random(), self._caller)

    def _replace(self, caller: Caller, calls: list[Call]) -> None:
        if not self.over and any(call.ended is None for call in calls):
            self._leave(caller)
            self._caller()

    def _leave(self, caller: Caller, hard: bool = False) -> None:
        if caller.transport is not None and not caller.closed:
            # Behind bytes that nobody reads yet a FIN is invisible, as with sockets; a reset is not.
            quiet = caller.transport.bytes_out < 50_000 and not hard
            self.rng.choice((caller.close, caller.reset) if quiet else (caller.reset,))()
            caller.closed = True

    def _pause(self, caller: Caller, seconds: float) -> None:
        if caller.transport is not None:
            caller.transport.pause()
            self.loop.call_at(self.loop.now() + seconds, caller.transport.resume)

    def _request(self, caller: Caller) -> Call:
        rng = self.rng
        self.requests += 1
        method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"))
        size = rng.choice((0, 5, 4000, 9000, 150_000))
        target = f"/{self.requests}?size={size}"
        host = rng.choice(NAMES)
        fields = ()
        if rng.random() < 0.1:
            fields = (f"l5d-dtab: /svc/{host} => /#/lit/{rng.choice(NAMES)}",)
        elif rng.random() < 0.1:
            deadline = self.world.env.wall() + rng.random()
            fields = (f"l5d-ctx-deadline: 1 {int(deadline * 1e9)}",)
        if method not in ("POST", "PUT"):
            call = caller.request(target, method=method, host=host, fields=fields)
        elif rng.random() < 0.6:
            call = caller.request(target, method=method, host=host, body=body_of(target, size), fields=fields)
        else:
            lines = "".join(f"{field}\r\n" for field in fields)
            head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Transfer-Encoding: chunked\r\n\r\n"
            caller.send(head.encode() + chunked(body_of(target, size), 4000))
            call = caller.expect(method)
        self.loop.call_at(self.loop.now(), self._watch, call, target)
        return call

    def _watch(self, call: Call, target: str) -> None:
        told = call.on_end

        def ended(call: Call) -> None:
            if call.status in (200, 413) and call.reason == "" and call.method != "HEAD":
                self.checked += 1
                if call.body != body_of(target, len(call.body)):
                    self.broken.append(f"{target}: the caller got another body: {call.body[:40]!r}")
            if told is not None:
                told(call)

        call.on_end = ended

    # -- the world around -----------------------------------------------------------------------------------------

    def _rename(self, name: str) -> None:
        count = self.rng.choice((0, 1, 2, 3, 5, 5))
        members: list[ScriptedEndpoint | str] = list(self.rng.sample(self.members, count))
        if self.rng.random() < 0.2:
            members.append("10.0.0.250:80")
        self.world.name(name, *members)

    def _stir(self) -> None:
        """Something changes."""
        if self.over:
            return
        rng, world = self.rng, self.world
        action = rng.randrange(7)
        member = rng.choice(self.members)
        if action == 0:
            world.apply(self._config())
        elif action in (1, 2):
            self._rename(rng.choice(NAMES))
        elif action == 3 and member.listener is not None:
            member.kill()
            self.loop.call_at(self.loop.now() + rng.random() * 3, self._restart, member)
        elif action == 4:
            link = self.loop.link(member.ip, member.port)
            link.latency = rng.choice((0.0, 0.001, 0.3))
            link.silent = rng.random() < 0.2
        elif action == 5:
            weights = rng.randrange(1, 10)
            world.set_dtab(f"{self._base()}; /svc/web => {weights} * /#/lit/web & 1 * /#/lit/api")
        else:
            world.set_dtab(self._base())
        self.loop.call_at(self.loop.now() + rng.random(), self._stir)

    def _restart(self, member: ScriptedEndpoint) -> None:
        if member.listener is None:
            member.start()

    def _base(self) -> str:
        return "/svc => /#/lit" + ("; /svc/api => /$/inet/127.0.0.1/4141" if self.chained else "")

    # -- the run --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        world, loop = self.world, self.loop
        world.set_dtab(self._base())
        for _ in range(CALLERS):
            self._caller()
        self._stir()
        loop.run_for(SECONDS)
        self.over = True
        for member in self.members:
            self._restart(member)
            loop.link(member.ip, member.port).silent = False
        # The longest of our own times: a total timeout and its retries, a stalled write, a binding.
        loop.run_for(70)
        open_calls = [call for caller in self.callers if not caller.closed for call in caller.unanswered]
        self.leave_all()
        loop.run_for(70)
        assert self.broken == []
        assert world.errors == []
        assert self.checked > 10
        if not self.retries_writes:
            twice = [
                target
                for target, count in self.delivered.items()
                if count > 1
                and any(target == r.message.target and r.message.method == "POST" for r in self._all())
            ]
            assert twice == []
        world.check()
        self._nothing_left(open_calls)

    def leave_all(self) -> None:
        """Every caller goes."""
        for caller in self.callers:
            self._leave(caller, True)

    def _all(self) -> list[Received]:
        return [received for member in self.members for received in member.requests]

    def _nothing_left(self, open_calls: list[Call]) -> None:
        world = self.world
        assert world.linker.connections == 0
        for router in world.linker.routers.values():
            for client in router.clients.entries.values():
                sizes = 0
                for node in client.endpoints:
                    state = (node.text, len(node.waiters), len(node.connecting), node.size - len(node.idle))
                    assert state == (node.text, 0, 0, 0)
                    sizes += node.size
                assert client.connections == sizes
                assert client.users == sum(
                    branch.client is client
                    for path in router.paths.entries.values()
                    for branch in path._branches.values()
                )
        waited = [(call.method, world.loop.now() - call.at) for call in open_calls]
        # An endpoint that never answers and no timeout that ends it: only such calls may still be open.
        assert len(waited) <= CALLERS * 3


def run(seed: int) -> Chaos:
    chaos = Chaos(seed)
    chaos.run()
    return chaos


def runs(run: Callable[[int], Chaos]) -> int:
    """The command line: as many seeds as are asked for; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    args = parser.parse_args()
    failed = 0
    for seed in range(args.first, args.first + args.count):
        try:
            chaos = run(seed)
        except Exception as error:  # one run that fails must not end the others
            failed += 1
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {str(error)[:400]}\n")
        else:
            sys.stdout.write(f"seed {seed}: {chaos.requests} requests, {chaos.checked} bodies checked\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(runs(run))
