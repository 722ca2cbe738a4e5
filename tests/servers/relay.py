"""A network that can be broken: a TCP relay between hostmesh and a registry, in a thread of its own.

    with Relay(registry.port) as relay:          # hostmesh is configured with relay.port
        relay.stall()                            # nothing is forwarded any more, connections stay: a blackhole
        relay.cut()                              # connections are reset, new ones are reset at once
        relay.reset_after(100)                   # each connection is reset after that many bytes of answers
        relay.restore()                          # new connections work again; what was stalled flows on

Nothing sleeps; every method returns when its effect is there.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any

import trio

CHUNK = 65536


class DatagramRelay:
    """The same for UDP, with nothing but :meth:`stall` and :meth:`restore`."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target = (host, target)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._flows = True
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def __enter__(self) -> DatagramRelay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)
        self._thread.join(10)
        self._socket.close()

    def stall(self) -> None:
        self._flows = False

    def restore(self) -> None:
        self._flows = True

    def _forward(self) -> None:
        """One question at a time: its answer comes back on a socket of its own."""
        while True:
            question, asker = self._socket.recvfrom(CHUNK)
            if not question:
                return
            if not self._flows:
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link, contextlib.suppress(OSError):
                link.settimeout(1)
                link.connect(self._target)
                link.send(question)
                answer = link.recv(CHUNK)
                if self._flows:
                    self._socket.sendto(answer, asker)


class Relay:
    """Forwards to ``127.0.0.1:target`` (``host`` if another)."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self._target = (host, target)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: trio.run(self._main), daemon=True)
        self._links: set[trio.CancelScope] = set()
        self._is_cut = False
        self._limit: int | None = None
        self.accepted = 0
        """Connections so far."""

    def __enter__(self) -> Relay:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop)
        self._thread.join(10)

    @property
    def links(self) -> int:
        """Connections now."""
        return len(self._links)

    def stall(self) -> None:
        self._call(self._stall)

    def cut(self) -> None:
        self._call(self._cut)

    def reset_after(self, size: int) -> None:
        """From now on. Connections that have carried more already are reset with their next byte."""
        self._limit = size

    def restore(self) -> None:
        self._call(self._restore)

    def _call(self, fn: Any) -> None:
        trio.from_thread.run_sync(fn, trio_token=self._token)

    # The thread's side.

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._flows = trio.Event()
        self._flows.set()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            listeners = await nursery.start(trio.serve_tcp, self._link, 0)
            self.port = listeners[0].socket.getsockname()[1]
            self._ready.set()

    def _stop(self) -> None:
        self._flows.set()
        self._nursery.cancel_scope.cancel()

    def _stall(self) -> None:
        self._flows = trio.Event()

    def _cut(self) -> None:
        self._is_cut = True
        for scope in list(self._links):
            scope.cancel()

    def _restore(self) -> None:
        self._is_cut = False
        self._limit = None
        self._flows.set()

    async def _link(self, caller: trio.SocketStream) -> None:
        self.accepted += 1
        # Closing then sends a reset.
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._is_cut:
            await trio.aclose_forcefully(caller)
            return
        scope = trio.CancelScope()
        self._links.add(scope)
        target: trio.SocketStream | None = None
        try:
            with scope, contextlib.suppress(OSError, trio.BrokenResourceError):
                await self._flows.wait()
                target = await trio.open_tcp_stream(*self._target)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, caller, target, scope, None)
                    nursery.start_soon(self._pump, target, caller, scope, self)
        finally:
            self._links.discard(scope)
            await trio.aclose_forcefully(caller)
            if target is not None:
                await trio.aclose_forcefully(target)

    async def _pump(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        scope: trio.CancelScope,
        counts: Relay | None,
    ) -> None:
        passed = 0
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(CHUNK):
                await self._flows.wait()
                if counts is not None and self._limit is not None and passed + len(data) > self._limit:
                    await sink.send_all(data[: max(0, self._limit - passed)])
                    scope.cancel()
                    return
                await sink.send_all(data)
                passed += len(data)
        scope.cancel()
