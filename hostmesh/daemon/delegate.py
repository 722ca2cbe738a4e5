"""``hostmesh delegate FILE PATH``: every step that a path takes, as the dtab playground shows it."""

from __future__ import annotations

import argparse
import sys
from functools import partial

import trio

from hostmesh.base.errors import ConfigError
from hostmesh.base.var import Ok
from hostmesh.config.load import read_file
from hostmesh.daemon.build import AnyRouter, Namers, build_interpreter, carried
from hostmesh.daemon.run import Base, checked
from hostmesh.naming.bound import BoundLeaf, BoundUnion
from hostmesh.naming.delegate import DelegateTree
from hostmesh.naming.delegate_text import render_lines
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.naming.syntax import DtabError

PATIENCE = 5.0
"""Seconds to wait for namers that have to ask a registry before the tree is printed as far as it is known."""


def main_delegate(args: argparse.Namespace) -> int:
    """Print the delegation tree of ``args.path``; 0 if it leads to a bound name, else 1. Raises ConfigError."""
    name = "stdin" if args.file == "-" else args.file
    config = checked(read_file(args.file), name)
    routers = carried(config)
    chosen = [router for router in routers if args.router in (None, router.name)]
    if not chosen:
        known = ", ".join(router.name for router in routers) or "none that this version can run"
        raise ConfigError(f"--router: found {args.router!r}, expected one of: {known}")
    try:
        path = Path.read(args.path)
    except DtabError as error:
        raise ConfigError(f"PATH: {error}") from error
    try:
        extra = Dtab.read(args.dtab)
    except DtabError as error:
        raise ConfigError(f"--dtab: {error}") from error
    with Base(config.seed, quiet=True) as base:
        namers = Namers(base.shared, config.namers, None)
        tree: DelegateTree = base.run(partial(_delegate, base, chosen[0], namers, path, extra))
    sys.stdout.write("\n".join(render_lines(tree)) + "\n")
    return 0 if isinstance(tree.state, Ok) and isinstance(tree.state.value, BoundLeaf | BoundUnion) else 1


async def _delegate(base: Base, router: AnyRouter, namers: Namers, path: Path, extra: Dtab) -> DelegateTree:
    shared = base.shared
    async with trio.open_nursery() as nursery:
        await nursery.start(shared.run)
        for namer in namers.made:
            shared.start(namer)
        interpreter = build_interpreter(shared, router, namers)
        shared.start(interpreter)
        live = interpreter.delegation(router.dtab + extra, path)
        changed = trio.Event()
        close = live.observe(lambda _tree: changed.set())
        with trio.move_on_after(PATIENCE):
            while live.value.pending:
                await changed.wait()
                changed = trio.Event()
        tree = live.value
        close()
        nursery.cancel_scope.cancel()
    return tree
