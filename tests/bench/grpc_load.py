"""gRPC for the bench, with grpcio on both sides: unary calls whose metadata are different in each.

    python -m tests.bench.grpc_load serve
    python -m tests.bench.grpc_load load PORT CONNECTIONS CALLS RATE SECONDS

``load`` keeps CALLS unary calls under way on each connection, or starts RATE per second in all, and prints one JSON
object as openload does.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import grpc
import grpc.aio

AUTHORITY = "grpc"
METHOD = "/bench.Shop/GetOrder"
COUNT = "/bench.Shop/Count"
REQUEST = b"q" * 100
RESPONSE = b"r" * 200
WAIT = 10.0
"""Seconds that a call may take."""


async def serve() -> None:
    """Answer until the process is ended; the port is printed first."""
    served = 0

    async def get_order(request: bytes, context: Any) -> bytes:
        nonlocal served
        served += 1
        return RESPONSE

    async def count(request: bytes, context: Any) -> bytes:
        return b"%d" % served

    server = grpc.aio.server()
    handlers = {
        "GetOrder": grpc.unary_unary_rpc_method_handler(get_order),
        "Count": grpc.unary_unary_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Shop", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


def metadata(rng: random.Random) -> tuple[tuple[str, str], ...]:
    """What a mesh of services sends along: ids that are new in each call, and some that repeat."""
    trace, span = rng.getrandbits(128), rng.getrandbits(64)
    return (
        ("traceparent", f"00-{trace:032x}-{span:016x}-01"),
        ("x-request-id", f"{rng.getrandbits(128):032x}"),
        ("x-tenant", f"tenant-{rng.randrange(200)}"),
        ("authorization", f"Bearer {rng.getrandbits(480):0120x}"),
    )


def percentile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


async def load(port: int, connections: int, calls: int, rate: float, seconds: float) -> dict[str, float]:
    """Latency counts from the moment a call was due."""
    options = [("grpc.default_authority", AUTHORITY), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(connections)]
    methods = [channel.unary_unary(METHOD) for channel in channels]
    rng = random.Random("bench")
    took: list[float] = []
    failed = 0

    async def call(method: Any, due: float) -> None:
        nonlocal failed
        try:
            answer = await method(REQUEST, metadata=metadata(rng), timeout=WAIT)
        except grpc.aio.AioRpcError:
            failed += 1
        else:
            took.append(time.monotonic() - due)
            failed += answer != RESPONSE

    async def closed(method: Any) -> None:
        while time.monotonic() < end:
            await call(method, time.monotonic())

    begin = time.monotonic()
    end = begin + seconds
    if rate:
        running = set()
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(call(methods[number % connections], due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    else:
        await asyncio.gather(*(closed(method) for method in methods for _ in range(calls)))
    lasted = time.monotonic() - begin
    for channel in channels:
        await channel.close()
    took.sort()
    return {
        "completed": len(took),
        "bad_status": 0,
        "failed": failed,
        "seconds": lasted,
        "p50_us": percentile(took, 0.5) * 1e6,
        "p99_us": percentile(took, 0.99) * 1e6,
        "p999_us": percentile(took, 0.999) * 1e6,
        "max_us": percentile(took, 1.0) * 1e6,
    }


def main(arguments: list[str]) -> None:
    if arguments == ["serve"]:
        asyncio.run(serve())
    else:
        port, connections, calls = map(int, arguments[1:4])
        rate, seconds = map(float, arguments[4:6])
        print(json.dumps(asyncio.run(load(port, connections, calls, rate, seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
