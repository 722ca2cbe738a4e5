"""The loop of tests: a virtual clock, and a network inside the process.

:class:`MemoryLoop` does for the proxy what the pump does, event by event in the order of their times, and jumps from
one to the next: a minute of traffic takes as long as its requests take to compute. Nothing here sleeps, opens a
descriptor or draws at random.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from attrs import define

from hostmesh.base.var import Turn
from hostmesh.naming.addr import Endpoint
from hostmesh.pump.listen import REARM_AFTER, ListenOptions
from hostmesh.pump.loop import Address, Session, TimerHandle, Transport
from hostmesh.pump.memory_transport import WINDOW, MemoryTransport, pair
from hostmesh.pump.tunnel import CopyTunnel, OnEnd, Tunnel

START = 1024.0
"""Monotonic seconds at which a virtual clock begins: not 0, which no machine that runs a daemon ever shows."""

EPOCH = 1_800_000_000.0
"""Wall-clock seconds at which it begins."""

MAX_EVENTS = 50_000_000
"""Events per run: a loop of zero delays must end a test, not hang it."""

CALLER_IP = "10.9.9.9"
"""Who dials, when nobody says."""


class MemoryTimer:
    """One event to come."""

    __slots__ = ("args", "fn")

    def __init__(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        self.fn: Callable[..., object] | None = fn
        self.args = args

    def cancel(self) -> None:
        self.fn = None
        self.args = ()


@define
class Link:
    """How one address is reached; tests change it at any time, for connections that are dialled later."""

    latency: float
    """Seconds one way."""
    window: int = WINDOW
    """Bytes that fit between the two ends."""
    error: OSError | None = None
    """What every dial fails with."""
    silent: bool = False
    """Dials get no answer at all."""


class MemoryLoop:
    """Implements :class:`hostmesh.pump.loop.Loop`; drive it with :meth:`run_for`, :meth:`run_until`, :meth:`run_while`.

    ``latency`` is seconds one way for addresses without a link of their own. ``report`` receives what callbacks let
    escape, as with the pump; without it a run raises.
    """

    def __init__(
        self, *, latency: float = 0.0, report: Callable[[BaseException], None] | None = None
    ) -> None:
        self._time = START
        self._heap: list[tuple[float, int, MemoryTimer]] = []
        self._ready: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._sequence = 0
        self._ports = 40_000
        self.turn = Turn(on_error=report)
        self.report = report
        self.latency = latency
        self.read_size: int | None = None
        """At most so many bytes are delivered at once, on every connection; None for what sockets would do."""
        self.links: dict[Address, Link] = {}
        self.listeners: dict[Address, MemoryListener] = {}
        self.open_transports: set[MemoryTransport] = set()
        self.dialled: dict[Address, int] = {}
        """Connection attempts per address."""

    # -- the clock ------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._time

    def call_at(self, when: float, fn: Callable[..., object], *args: object) -> TimerHandle:
        timer = MemoryTimer(fn, args)
        self._sequence += 1
        heappush(self._heap, (when, self._sequence, timer))
        return timer

    def after(self, delay: float, fn: Callable[..., object], *args: object) -> None:
        """As :meth:`call_at`, from now and for good."""
        if delay > 0.0:
            self._sequence += 1
            heappush(self._heap, (self._time + delay, self._sequence, MemoryTimer(fn, args)))
        else:
            self._ready.append((fn, args))

    def run_until(self, when: float) -> None:
        """Run what is due up to ``when``, which is the time afterwards."""
        self._run(when, None)
        self._time = max(self._time, when)

    def run_for(self, seconds: float) -> None:
        self.run_until(self._time + seconds)

    def run_while(self, condition: Callable[[], bool], limit: float = 300.0) -> None:
        """Run until ``condition`` is false; AssertionError after ``limit`` virtual seconds or when nothing is left
        to happen."""
        self._run(self._time + limit, condition)
        assert not condition(), f"still so after {limit:g} virtual seconds, or nothing left to happen"

    def settle(self) -> None:
        """Run what is due now."""
        self._run(self._time, None)

    def _run(self, when: float, condition: Callable[[], bool] | None) -> None:
        ready, heap, turn = self._ready, self._heap, self.turn
        for _ in range(MAX_EVENTS):
            if turn:
                turn.run()
            if condition is not None and not condition():
                return
            if ready:
                fn, args = ready.popleft()
            elif turn:
                continue
            else:
                if not heap or heap[0][0] > when:
                    return
                due, _, timer = heappop(heap)
                if timer.fn is None:
                    continue
                fn, args = timer.fn, timer.args
                timer.fn = None
                if due > self._time:
                    self._time = due
            try:
                fn(*args)
            except Exception as error:
                if self.report is None:
                    raise
                self.report(error)
        raise AssertionError(f"{MAX_EVENTS} events and no end")

    # -- the network ----------------------------------------------------------------------------------------------

    def link(self, ip: str, port: int) -> Link:
        """How (``ip``, ``port``) is reached, to be changed by a test."""
        address = (ip, port)
        link = self.links.get(address)
        if link is None:
            link = self.links[address] = Link(self.latency)
        return link

    def connect(
        self,
        endpoint: Endpoint,
        timeout: float,
        on_connected: Callable[[Transport], Session],
        on_failed: Callable[[OSError], None],
        *,
        no_delay: bool = True,
        keep_alive: bool | None = None,
        source: str = CALLER_IP,
    ) -> MemoryConnecting:
        """See :class:`hostmesh.pump.loop.Loop`. ``source`` is the address that the other side sees."""
        self._ports += 1
        address = (endpoint.host, endpoint.port)
        self.dialled[address] = self.dialled.get(address, 0) + 1
        return MemoryConnecting(self, (source, self._ports), address, timeout, on_connected, on_failed)

    def tunnel(self, near: Transport, far: Transport, first: bytes, on_end: OnEnd) -> Tunnel:
        """See :class:`hostmesh.pump.loop.Loop`."""
        return CopyTunnel(near, far, first, on_end)

    def open_listener(self, ip: str, port: int, options: ListenOptions) -> MemoryListener:
        """A listener that is bound and accepts nothing yet."""
        address = (ip, port)
        if address in self.listeners:
            raise AssertionError(f"{address} is taken")
        listener = self.listeners[address] = MemoryListener(self, address, options)
        return listener


class MemoryConnecting:
    """One dial: a round trip, then one of the callbacks."""

    __slots__ = ("_done", "_loop", "_on_connected", "_on_failed", "_timer")

    def __init__(
        self,
        loop: MemoryLoop,
        local: Address,
        address: Address,
        timeout: float,
        on_connected: Callable[[Transport], Session],
        on_failed: Callable[[OSError], None],
    ) -> None:
        self._loop = loop
        self._done = False
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._timer = loop.call_at(loop.now() + timeout, self._timed_out, timeout)
        loop.after(loop.link(*address).latency, self._reach, local, address)

    def _reach(self, local: Address, address: Address) -> None:
        if self._done:
            return
        loop = self._loop
        link = loop.link(*address)
        listener = loop.listeners.get(address)
        if link.silent:
            return
        if link.error is not None:
            loop.after(link.latency, self._fail, link.error)
        elif listener is None:
            loop.after(
                link.latency, self._fail, ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
            )
        else:
            near, far = pair(loop, local, address, link.latency, link.window)
            loop.after(link.latency, self._connected, near)
            listener.arrive(far)

    def _connected(self, transport: MemoryTransport) -> None:
        if self._done:
            transport.abort()
            return
        self._finish()
        transport.session = self._on_connected(transport)
        transport.open()

    def _timed_out(self, timeout: float) -> None:
        self._fail(TimeoutError(errno.ETIMEDOUT, f"no connection within {timeout * 1000:.0f} ms"))

    def _fail(self, error: OSError) -> None:
        if not self._done:
            self._finish()
            self._on_failed(error)

    def _finish(self) -> None:
        self._done = True
        self._timer.cancel()

    def cancel(self) -> None:
        """Give up; neither callback runs any more."""
        self._finish()


class MemoryListener:
    """Accepts what is dialled, as :class:`hostmesh.pump.listen.Listener` does; connections wait while it is stopped."""

    def __init__(self, loop: MemoryLoop, address: Address, options: ListenOptions) -> None:
        self._loop = loop
        self.address = address
        self.options = options
        self.make_session: Callable[[MemoryTransport], Session] | None = None
        self.capacity: Callable[[], int] = lambda: 1
        self.accepted = 0
        self.refused = 0
        self._started = False
        self._backlog: deque[MemoryTransport] = deque()

    def serve(
        self, make_session: Callable[[MemoryTransport], Session], capacity: Callable[[], int] = lambda: 1
    ) -> MemoryListener:
        """Who gets what is accepted, and how many more may be."""
        self.make_session = make_session
        self.capacity = capacity
        return self

    def start(self) -> None:
        self._started = True
        self._accept()

    def stop(self) -> None:
        self._started = False

    def close(self) -> None:
        """Give the address back; what was not accepted is reset."""
        self.stop()
        self._loop.listeners.pop(self.address, None)
        for transport in self._backlog:
            transport.reset()
        self._backlog.clear()

    def finish(self) -> None:
        """Accept who has connected already, and refuse everybody else from now on."""
        self._started = True
        self._accept()
        self.close()

    def arrive(self, transport: MemoryTransport) -> None:
        self._backlog.append(transport)
        if self._started:
            self._accept()

    def _accept(self) -> None:
        assert self.make_session is not None
        while self._backlog and self._started:
            if self.capacity() <= 0:
                self.refused += 1
                self._loop.after(REARM_AFTER, self._accept)
                return
            transport = self._backlog.popleft()
            self.accepted += 1
            try:
                transport.session = self.make_session(transport)
            except Exception:
                transport.abort()
                raise
            transport.open()


class VirtualEnv:
    """The clock of a memory loop, and dice from a seed: implements :class:`hostmesh.base.env.Env`."""

    def __init__(self, loop: MemoryLoop, seed: int = 1) -> None:
        self.seed = seed
        self.now = loop.now

    def wall(self) -> float:
        return EPOCH + self.now() - START

    def rng(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")
