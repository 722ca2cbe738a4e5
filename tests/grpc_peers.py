"""Real gRPC peers: servers and callers made with grpcio, with bytes for messages instead of generated classes.

    with GrpcServers("a", "b") as servers, GrpcCaller(mesh.port, authority="test.Echo") as caller:
        outcome = caller.call("unary", [b"hello"], metadata=[("x-status", "14")])

The servers run in one process of their own (``python -m tests.grpc_peers NAME ...``), each on its own port. They have
the four kinds of calls and do what a call's metadata tells them:

=================  ====================================================================================================
``x-delay-ms``     wait before the answer
``x-status``       end with this code; after ``x-count`` messages where there are some
``x-details-bin``  the status details, UTF-8
``x-size``         bytes of each response message; without it messages are echoed
``x-count``        response messages of a server stream (1)
``x-fail``         ``KEY TIMES``: the first TIMES calls with that KEY end with ``x-status``
``x-early``        send the response head before anything else, so that an error is not trailers-only
``x-pause-ms``     between the messages of a server stream
=================  ====================================================================================================

Metadata that starts with ``x-echo-`` comes back in the response head and in the trailers. The trailers also say who
served (``x-served-by``) and how much time the call had (``x-time-left-ms``).
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from attrs import field, frozen

ROOT = Path(__file__).resolve().parents[1]

ECHO = "test.Echo"
CONTROL = "test.Control"
METHODS = {"unary": "Unary", "client": "ClientStream", "server": "ServerStream", "bidi": "BidiStream"}
"""The four kinds of calls, and their methods."""

LARGEST = 64 * 1024 * 1024
OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_send_message_length", LARGEST),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 128 * 1024),
]

Metadata = list[tuple[str, str | bytes]]


# -- servers ----------------------------------------------------------------------------------------------------------


class Orders:
    """What a call's metadata asks for."""

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        self.all: Metadata = list(metadata)
        found = dict(self.all)

        def number(name: str, default: int) -> int:
            return int(found.get(name, default))

        self.delay = number("x-delay-ms", 0) / 1000
        self.pause = number("x-pause-ms", 0) / 1000
        self.status = number("x-status", 0)
        details = found.get("x-details-bin", b"")
        self.details = details.decode() if isinstance(details, bytes) else details
        self.size = number("x-size", -1)
        self.count = number("x-count", 1)
        key, _, times = str(found.get("x-fail", "")).partition(" ")
        self.fail_key = key
        self.fail_times = int(times or 0)
        self.early = "x-early" in found

    @property
    def echoed(self) -> Metadata:
        return [(name, value) for name, value in self.all if name.startswith("x-echo-")]

    def message(self, request: bytes) -> bytes:
        return request if self.size < 0 else b"m" * self.size


class EchoServer:
    """One server: its handlers, and what it has seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.changed = asyncio.Condition()

    async def count(self, what: str) -> None:
        async with self.changed:
            self.counts[what] += 1
            self.changed.notify_all()

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
            "BidiStream": grpc.stream_stream_rpc_method_handler(self.bidi_stream),
        }
        control = {"Wait": grpc.unary_unary_rpc_method_handler(self.wait)}
        return [
            grpc.method_handlers_generic_handler(ECHO, kinds),
            grpc.method_handlers_generic_handler(CONTROL, control),
        ]

    async def wait(self, request: bytes, context: Any) -> bytes:
        """Answer with all counts, as soon as each one that is named in the request has reached that number."""
        wanted: dict[str, int] = json.loads(request)
        async with self.changed:
            await self.changed.wait_for(lambda: all(self.counts[key] >= n for key, n in wanted.items()))
            return json.dumps(self.counts).encode()

    async def unary(self, request: bytes, context: Any) -> bytes:
        async for message in self.guarded(context, lambda orders: self.one(orders, request)):
            return message
        return b""

    async def client_stream(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async def summed(orders: Orders) -> AsyncIterator[bytes]:
            sizes = [len(message) async for message in requests]
            yield orders.message(b"%d %d" % (len(sizes), sum(sizes)))

        async for message in self.guarded(context, summed):
            return message
        return b""

    async def server_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async for message in self.guarded(context, lambda orders: self.many(orders, request)):
            yield message

    async def bidi_stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async def echoed(orders: Orders) -> AsyncIterator[bytes]:
            async for message in requests:
                yield orders.message(message)

        async for message in self.guarded(context, echoed):
            yield message

    async def one(self, orders: Orders, request: bytes) -> AsyncIterator[bytes]:
        yield orders.message(request)

    async def many(self, orders: Orders, request: bytes) -> AsyncIterator[bytes]:
        for number in range(orders.count):
            if number and orders.pause:
                await asyncio.sleep(orders.pause)
            yield orders.message(request + b" %d" % number)

    async def guarded(self, context: Any, answer: Any) -> AsyncIterator[bytes]:
        """The messages of ``answer(orders)`` with all that the orders say around them."""
        orders = Orders(context.invocation_metadata() or ())
        await self.count("started")
        try:
            left = context.time_remaining()
            trailing: Metadata = [("x-served-by", self.name), *orders.echoed]
            if left is not None:
                trailing.append(("x-time-left-ms", str(int(left * 1000))))
            context.set_trailing_metadata(tuple(trailing))
            if orders.early or orders.echoed:
                await context.send_initial_metadata(tuple(orders.echoed))
            if orders.delay:
                await asyncio.sleep(orders.delay)
            failing = bool(orders.status)
            if orders.fail_key:
                self.failed[orders.fail_key] += 1
                failing = self.failed[orders.fail_key] <= orders.fail_times
            if not failing or orders.count > 1:
                async for message in answer(orders):
                    await self.count("sent")
                    yield message
            if failing:
                await self.count("failed")
                code = next(code for code in grpc.StatusCode if code.value[0] == orders.status)
                await context.abort(code, orders.details, tuple(trailing))
            await self.count("completed")
        except (asyncio.CancelledError, GeneratorExit):
            self.counts["cancelled"] += 1
            # The waiters are told by a task of its own: this one may not wait any more.
            asyncio.get_running_loop().call_soon(self.tell)
            raise

    def tell(self) -> None:
        self.telling = asyncio.ensure_future(self.count("told"))


async def serve(names: list[str], options: list[tuple[str, Any]]) -> None:
    """Run a server for each name until SIGTERM; print their ports in one line."""
    servers = []
    ports = []
    for name in names:
        server = grpc.aio.server(options=[*OPTIONS, *options])
        server.add_generic_rpc_handlers(tuple(EchoServer(name).handlers()))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        servers.append(server)
    print("ready", *ports, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    for server in servers:
        await server.stop(None)


@frozen
class GrpcEndpoint:
    """Where one of the servers listens; fits into ``Hostmesh.set_endpoints``."""

    name: str
    port: int
    host: str = "127.0.0.1"

    def wait(self, *, within: float = 20.0, **counts: int) -> dict[str, int]:
        """All counts of the server, as soon as the given ones are reached (``started``, ``sent``, ``completed``,
        ``cancelled``, ``failed``). Raises grpc.RpcError when the time is over."""
        with GrpcCaller(self.port) as caller:
            method = caller.channel.unary_unary(f"/{CONTROL}/Wait")
            found: dict[str, int] = json.loads(method(json.dumps(counts).encode(), timeout=within))
            return found


class GrpcServers:
    """Servers in a process of their own: ``servers["a"]``, ``servers.all``. ``options`` are grpcio's."""

    def __init__(self, *names: str, options: dict[str, int] | None = None) -> None:
        chosen = [f"--{key}={value}" for key, value in (options or {}).items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.grpc_peers", *chosen, *names], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        word, *ports = self.process.stdout.readline().split()
        assert word == b"ready"
        self.all = [GrpcEndpoint(name, int(port)) for name, port in zip(names, ports, strict=True)]

    def __getitem__(self, name: str) -> GrpcEndpoint:
        return next(each for each in self.all if each.name == name)

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(20)
        if self.process.stdout:
            self.process.stdout.close()

    def __enter__(self) -> GrpcServers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- callers ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Outcome:
    """How a call ended."""

    code: int
    details: str = ""
    messages: list[bytes] = field(factory=list)
    initial: dict[str, str | bytes] = field(factory=dict)
    trailing: dict[str, str | bytes] = field(factory=dict)

    @property
    def served_by(self) -> str | bytes | None:
        return self.trailing.get("x-served-by")


class GrpcCaller:
    """One channel, and so one connection of its own."""

    def __init__(
        self, port: int, *, authority: str | None = None, options: dict[str, int] | None = None
    ) -> None:
        chosen: list[tuple[str, Any]] = [
            *OPTIONS,
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        if authority is not None:
            chosen.append(("grpc.default_authority", authority))
        chosen += list((options or {}).items())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=chosen)

    def start(
        self,
        kind: str,
        messages: list[bytes] | Iterator[bytes],
        *,
        metadata: Metadata | None = None,
        timeout: float | None = None,
        service: str = ECHO,
    ) -> Any:
        """A call that runs: an object with grpcio's ``Call`` and, where responses stream, an iterator."""
        method = f"/{service}/{METHODS[kind]}"
        options = {"metadata": tuple(metadata or ()), "timeout": timeout}
        if kind == "unary":
            (message,) = messages
            return self.channel.unary_unary(method).future(message, **options)
        if kind == "client":
            return self.channel.stream_unary(method).future(iter(messages), **options)
        if kind == "server":
            (message,) = messages
            return self.channel.unary_stream(method)(message, **options)
        return self.channel.stream_stream(method)(iter(messages), **options)

    def call(self, kind: str, messages: list[bytes], **options: Any) -> Outcome:
        """A call, run to its end."""
        return finish(kind, self.start(kind, messages, **options))

    def calls(
        self, count: int, kind: str, messages: list[bytes], *, at_once: int = 16, **options: Any
    ) -> list[Outcome]:
        """Many calls, some at once."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda _: self.call(kind, messages, **options), range(count)))

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> GrpcCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def finish(kind: str, call: Any) -> Outcome:
    """Read a call to its end."""
    messages: list[bytes] = []
    try:
        if kind in ("unary", "client"):
            messages.append(call.result())
        else:
            messages.extend(call)
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass  # the code says it
    return Outcome(
        code=call.code().value[0],
        details=call.details() or "",
        messages=messages,
        initial=dict(call.initial_metadata() or ()),
        trailing=dict(call.trailing_metadata() or ()),
    )


def main(arguments: list[str]) -> None:
    options: list[tuple[str, Any]] = []
    names = []
    for argument in arguments:
        if argument.startswith("--"):
            key, _, value = argument[2:].partition("=")
            options.append((key, int(value)))
        else:
            names.append(argument)
    asyncio.run(serve(names, options))


if __name__ == "__main__":
    main(sys.argv[1:])
