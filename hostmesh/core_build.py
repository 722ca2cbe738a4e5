"""The optional build of the data path as machine code; everything else about the package is in pyproject.toml.

    make compiled         in place, for this checkout; ``make pure`` takes it away again
    make wheel            for other machines with the same Python and the same kind of processor: build/dist/*.whl

The modules stay what they are, Python that runs as it is: mypyc reads their types and makes extension modules of them,
which the interpreter then prefers. See docs/architecture.md, "The compiled core".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from setuptools import setup

from hostmesh.core import DIGESTS, digest_of

COMPILED = """
base/        turn window
protocol/    context grpc h1_body h1_fields h1_head h1_meaning h1_message h1_write
protocol/h2/ budgets fields frames heads lane lane_control lane_decode lane_encode lane_frames lane_huffman
protocol/h2/ lane_sending lane_stream listening message
protocol/tls/ alpn codec contexts records server_hello
proxy/       attempts branch caller_answers caller_life caller_session client_addresses client_session
proxy/       client_stack compress connect_h2 context endpoint_stack exchange exchange_state grpc_methods
proxy/       h2_caller h2_caller_life h2_caller_stream h2_client h2_client_life h2_client_stream
proxy/       h2_liveness h2_pool h2_sending h2_waiting named_session path_binding path_stack recorder refusals
proxy/       respond router secure_accept server service_names sniff stats stream_stats
proxy/       stream_transport tcp_client tcp_connect tcp_exchange tcp_router tunnel tunnel_h2
pump/        listen output pump secure transport wheel
routing/     accrual budget draw failfast node retry
routing/balancers/ aperture base by_weight ewma heap held p2c round_robin weighted
telemetry/   buckets stat tally
"""
"""What runs for every request, and what inherits from that: a class of Python cannot inherit from a compiled one.

Left out are configuration classes (attrs), protocols and exceptions, classes that plugins inherit from, and what runs
less than once per connection.
"""


def modules() -> list[str]:
    """The files of :data:`COMPILED`."""
    files = []
    for line in COMPILED.split("\n"):
        folder, *names = line.split() or [""]
        files += [f"hostmesh/{folder}{name}.py" for name in names]
    return files


def extensions() -> list[Any]:
    """What to build. Imports mypyc, which belongs to mypy."""
    from mypyc.build import mypycify

    # One library of all, so that calls from module to module are calls of C.
    built: list[Any] = mypycify(
        ["--strict", *modules()],
        group_name="hostmesh.core",
        opt_level=os.environ.get("HOSTMESH_OPTIMIZE", "2"),
        debug_level="0",
        multi_file=True,
        target_dir="build/mypyc",
    )
    for extension in built:
        # Where mypyc puts the header of a library whose name has a dot.
        extension.include_dirs.append("build/mypyc/hostmesh")
    return built


def write_digests(package: Path = Path("hostmesh")) -> None:
    """Note what is compiled, for :func:`hostmesh.core.stale`."""
    sources = [Path(name) for name in modules()]
    lines = [f"{digest_of(source)}  {source.relative_to(package)}\n" for source in sources]
    (package / DIGESTS).write_text("".join(lines))


if __name__ == "__main__":
    write_digests()
    setup(ext_modules=extensions())
