"""Callers that send at a given rate and keep the account of every single request.

A thread with an epoll set. With a rate the load is open: requests leave when they are due, whatever the answers do
(a connection that waits is left alone and another one opened). Without one it is closed: each connection sends as
soon as it has its answer.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import NamedTuple

from tests.wire.endpoint import Malformed

MAX_CONNECTIONS = 400
"""Above this a request waits for a connection: it is late, and not lost."""

PATIENCE = 10.0
"""Seconds after which an answer is missing."""


class Outcome(NamedTuple):
    """What became of one request."""

    id: str
    method: str
    status: int
    """0 without a whole answer."""
    endpoint: str
    """The name that answered, empty for answers of hostmesh itself."""
    problem: str
    """Empty for a whole answer; ``refused`` (never sent), ``closed`` (no byte of an answer came), ``cut``,
    ``silent``, ``mixed up`` (somebody else's answer)."""
    sent: float
    done: float
    """Both on ``time.monotonic()``."""
    err: str
    """The field ``l5d-err``."""

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.problem


class Call(NamedTuple):
    """One request to send. The harness adds ``X-Id`` and a body of that many bytes."""

    method: str = "GET"
    host: str = "web"
    target: str = "/"
    fields: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0


class Caller:
    """One connection."""

    __slots__ = ("buffer", "call", "ident", "sent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.call: Call | None = None
        self.ident = ""
        self.sent = 0.0


class Load:
    """Sends ``call(n)`` for n = 0, 1, 2, ... until it is stopped or ``total`` are sent. A context manager.

    ``prefix`` makes the ids of several loads differ. Outcomes are in the order of their ends.
    """

    def __init__(
        self,
        port: int,
        call: Callable[[int], Call] | Call,
        *,
        rate: float | None = None,
        connections: int = 8,
        total: int | None = None,
        prefix: str = "",
    ) -> None:
        self.port = port
        self.call: Callable[[int], Call] = (lambda _n: call) if isinstance(call, Call) else call
        self.rate = rate
        self.connections = connections
        self.total = total
        self.prefix = prefix
        self.outcomes: list[Outcome] = []
        self.started = 0
        """Requests begun."""
        self.closed_idle = 0
        """Connections that ended while nothing was asked on them: no harm."""
        self.told_to_close = 0
        """Answers with ``Connection: close``."""
        self.opened = 0
        self.stopping = False
        self._open: dict[int, Caller] = {}
        self._free: list[Caller] = []
        self._busy = 0
        self._changed = threading.Condition()
        self._epoll = select.epoll()
        self._thread = threading.Thread(target=self._run, daemon=True)

    # -- for the test's thread --------------------------------------------------------------------------------

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> list[Outcome]:
        """Begin no more requests, wait for the answers still out, and return all outcomes."""
        self.stopping = True
        self._thread.join(PATIENCE + 5)
        assert not self._thread.is_alive()
        return self.outcomes

    def finish(self, within: float = 120.0) -> list[Outcome]:
        """Wait until ``total`` requests have ended."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"{len(self.outcomes)} of {self.total} within {within} s"
        return self.outcomes

    def wait(self, condition: Callable[[], bool], what: str, *, within: float = 30.0) -> None:
        """Wait, while the load goes on, until the condition holds; it is looked at whenever a request ends."""
        with self._changed:
            assert self._changed.wait_for(condition, within), f"not within {within} s: {what}"

    def more(self, count: int) -> list[Outcome]:
        """Wait until that many further requests have begun and ended, and return the outcomes that came meanwhile."""
        before = len(self.outcomes)
        self.wait(lambda: len(self.outcomes) >= before + count, f"{count} more requests")
        return self.outcomes[before:]

    def since(self, when: float) -> list[Outcome]:
        """Outcomes of requests sent at or after ``when``."""
        return [each for each in self.outcomes if each.sent >= when]

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        begin = time.monotonic()
        last_look = begin
        while True:
            now = time.monotonic()
            over = self.stopping or (self.total is not None and self.started >= self.total)
            if over and not self._busy:
                break
            before = len(self.outcomes)
            wait = 0.1
            if not over:
                wait = self._send_due(begin, now)
            for fd, _mask in self._epoll.poll(wait):
                caller = self._open.get(fd)
                if caller is not None:
                    self._readable(caller)
            if now - last_look > 1.0:
                last_look = now
                self._give_up(now)
            if len(self.outcomes) != before:
                with self._changed:
                    self._changed.notify_all()
        for caller in list(self._open.values()):
            caller.sock.close()
        self._open.clear()
        self._epoll.close()
        with self._changed:
            self._changed.notify_all()

    def _send_due(self, begin: float, now: float) -> float:
        """Send what is due and return the seconds until more is."""
        if self.rate is None:
            room = self.connections - self._busy
            if self.total is not None:
                room = min(room, self.total - self.started)
            for _ in range(room):
                self._begin()
            return 0.1
        due = int((now - begin) * self.rate) + 1
        if self.total is not None:
            due = min(due, self.total)
        while self.started < due and self._busy < MAX_CONNECTIONS:
            self._begin()
        return max(0.0, begin + self.started / self.rate - time.monotonic())

    def _begin(self) -> None:
        number = self.started
        self.started += 1
        call = self.call(number)
        ident = f"{self.prefix}{number:07d}"
        caller = self._free.pop() if self._free else self._connect(call, ident)
        if caller is None:
            return
        caller.call, caller.ident, caller.sent = call, ident, time.monotonic()
        lines = [f"{call.method} {call.target} HTTP/1.1", f"Host: {call.host}", f"X-Id: {ident}"]
        lines += [f"{name}: {value}" for name, value in call.fields]
        body = b""
        if call.body_bytes:
            lines.append(f"Content-Length: {call.body_bytes}")
            body = (ident * (call.body_bytes // len(ident) + 1)).encode()[: call.body_bytes]
        self._busy += 1
        try:
            caller.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        except OSError:
            self._end(caller, 0, "", "closed", "")

    def _connect(self, call: Call, ident: str) -> Caller | None:
        sock = socket.socket()
        try:
            # On loopback a connect ends at once, one way or the other.
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            now = time.monotonic()
            self.outcomes.append(Outcome(ident, call.method, 0, "", "refused", now, now, ""))
            return None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened += 1
        caller = Caller(sock)
        self._open[sock.fileno()] = caller
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return caller

    def _readable(self, caller: Caller) -> None:
        try:
            data = caller.sock.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            if caller.call is None:
                self.closed_idle += 1
                self._free.remove(caller)
                self._close(caller)
            else:
                self._end(caller, 0, "", "cut" if caller.buffer else "closed", "")
            return
        buffer = caller.buffer = caller.buffer + data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = buffer[: end + 2]
        lower = head.lower()
        length = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or b"0")
        if len(buffer) < end + 4 + length:
            return
        body = buffer[end + 4 : end + 4 + length]
        err = head.partition(b"\r\nl5d-err: ")[2].partition(b"\r\n")[0].decode()
        status = int(head[9:12])
        endpoint, problem = "", ""
        if not err:
            name, _, ident = body.decode("latin-1").partition(" ")
            endpoint = name
            if ident != caller.ident or len(buffer) != end + 4 + length:
                problem = "mixed up"
        keep = b"\r\nconnection: close" not in lower
        self.told_to_close += not keep
        self._end(caller, status, endpoint, problem, err, keep=keep)

    def _end(
        self, caller: Caller, status: int, endpoint: str, problem: str, err: str, *, keep: bool = False
    ) -> None:
        call = caller.call
        assert call is not None
        self.outcomes.append(
            Outcome(caller.ident, call.method, status, endpoint, problem, caller.sent, time.monotonic(), err)
        )
        caller.call = None
        caller.buffer = b""
        self._busy -= 1
        if keep and not problem:
            self._free.append(caller)
        else:
            self._close(caller)

    def _close(self, caller: Caller) -> None:
        self._open.pop(caller.sock.fileno(), None)
        with contextlib.suppress(OSError):
            self._epoll.unregister(caller.sock.fileno())
        caller.sock.close()

    def _give_up(self, now: float) -> None:
        for caller in list(self._open.values()):
            if caller.call is not None and now - caller.sent > PATIENCE:
                self._end(caller, 0, "", "silent", "")


class Held(threading.Thread):
    """A caller that asks on one connection for as long as it lasts."""

    def __init__(self, ask: Callable[[int], int], name: str, pause: float = 0.1) -> None:
        super().__init__(daemon=True)
        self.title = name
        self.asked = 0
        self.problem = ""
        self._ask = ask
        self._pause = pause
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(self._pause):
            try:
                status = self._ask(self.asked)
            except (OSError, EOFError, Malformed) as error:
                self.problem = f"{self.title}: after {self.asked} requests: {error!r}"
                return
            self.asked += 1
            if status != 200:
                self.problem = f"{self.title}: request {self.asked} was answered {status}"
                return

    def stop(self) -> None:
        self._over.set()
        self.join(15)


def failed(outcomes: Iterable[Outcome], method: str | None = None) -> list[Outcome]:
    """Those that were not answered 200 by an endpoint, of one method or of all."""
    return [each for each in outcomes if not each.ok and method in (None, each.method)]


def by_endpoint(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How many each endpoint answered."""
    return Counter(each.endpoint for each in outcomes)
