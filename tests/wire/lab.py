"""One hostmesh with a trusted and an untrusted listener in front of one endpoint, for tests that send what no client
library would send.

What reached the endpoint is judged by its bytes. "Nothing reached it" is judged without waiting: a marker request
that was sent later arrives, and nothing arrived before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from attrs import define

from tests.wire.harness import Answer, EndpointServer, Hostmesh, Malformed, RawClient, Received, Response

CONFIG = """\
admin:
  ip: 127.0.0.1
  port: @admin@
  shutdownGraceMs: 2000
namers:
- kind: io.l5d.fs
  rootDir: @dir@/disco
routers:
- protocol: http
  label: out
  dtab: |
    /svc => /#/io.l5d.fs;
  servers:
  - port: @port@
    ip: 127.0.0.1
  - port: @edge@
    ip: 127.0.0.1
    clearContext: true
"""


@define(eq=False)
class Outcome:
    """What came of some bytes."""

    answers: list[Response]
    closed: bool
    """Whether hostmesh ended the connection after the last answer."""
    requests: list[Received]
    """What arrived at the endpoint, in order."""

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]

    @property
    def reason(self) -> str:
        """The reason code in ``l5d-err`` of the last answer."""
        return (self.answers[-1].get("l5d-err") or "").partition("%3A")[0]


class Lab:
    def __init__(self, folder: Path, config: str = CONFIG) -> None:
        self.endpoint = EndpointServer("web-1")
        self.mesh = Hostmesh.routing(folder, config, web=[self.endpoint])
        self._marks = 0

    def close(self) -> None:
        self.mesh.close()
        self.endpoint.stop()

    def send(
        self, data: bytes, *, method: str = "GET", port: str = "port", answers: int | None = None
    ) -> Outcome:
        """Send bytes on a new connection, read what is answered, and tell what reached the endpoint meanwhile.

        ``answers`` is how many to wait for, after which the connection is left; None reads until hostmesh closes it.
        """
        first = len(self.endpoint.requests)
        outcome = Outcome([], False, [])
        with self.mesh.client(port) as client:
            client.send(data)
            while answers is None or len(outcome.answers) < answers:
                try:
                    outcome.answers.append(client.response(method))
                except (Malformed, ConnectionError):
                    outcome.closed = True
                    break
        outcome.requests = self.requests_since(first)
        return outcome

    def requests_since(self, first: int) -> list[Received]:
        """The requests after the first ``first``, once a marker sent now has arrived behind them."""
        self._marks += 1
        target = f"/marker-{self._marks}"
        # A test may have left answers for requests that never came.
        self.endpoint.script.clear()
        assert self.mesh.get(target).status == 200
        self.endpoint.wait_for(lambda: any(r.target == target for r in self.endpoint.requests))
        return [r for r in self.endpoint.requests[first:] if not r.target.startswith("/marker-")]

    def answer(self, raw: bytes, *, request: bytes | None = None, close: bool = False) -> Answer:
        """The endpoint's next answer will be exactly these bytes."""
        answer = Answer(raw=raw, close=close)
        self.endpoint.script.append(answer)
        return answer

    def ask(self, client: RawClient, target: str = "/") -> Response:
        return client.request("GET", target)


@contextlib.contextmanager
def lab(folder: Path, config: str = CONFIG) -> Iterator[Lab]:
    """A lab that is cleaned up, and that fails when hostmesh logged a traceback."""
    built = Lab(folder, config)
    try:
        yield built
        assert "Traceback" not in built.mesh.log(), built.mesh.log()[-6000:]
    finally:
        built.close()
