"""The local interpreter: live bindings, last good trees, the file's dtab."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
import trio
import trio.testing

from hostmesh.base.var import PENDING, Failed, Ok, State, Turn, Var
from hostmesh.control.interpreter import (
    MAX_COMBINED,
    BoundPath,
    DefaultInterpreterConfig,
    FsInterpreterConfig,
    LocalInterpreter,
)
from hostmesh.naming.bind import mount
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.interpreter import Interpreter, InterpreterDeps
from hostmesh.naming.nametree import NEG
from hostmesh.naming.path import Path
from hostmesh.naming.system import SystemNamers
from hostmesh.naming.transformer import TransformerDeps
from hostmesh.naming.transformers import PortConfig
from tests.fakes_naming import LiteralNamer, LiteralResolver, endpoints, tree_text

WEB = Path.read("/svc/web")


class NoTime:
    """An Env for code that needs none."""

    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0

    def rng(self, name: str) -> Random:
        return Random(name)


class Files:
    """Files whose text a test sets."""

    def __init__(self, turn: Turn) -> None:
        self.content: Var[State[str]] = Var(turn, PENDING)
        self.asked: list[str] = []

    def text(self, path: str) -> Var[State[str]]:
        self.asked.append(path)
        return self.content


class World:
    """A turn, a namer at /#/fs with web and api, and an interpreter."""

    def __init__(self, dtab: str = "/svc => /#/fs") -> None:
        self.turn = Turn()
        self.fs = LiteralNamer(self.turn)
        self.fs.add("web", "10.0.0.1:80")
        self.fs.add("api", "10.0.0.2:80")
        resolver = LiteralResolver(self.turn)
        self.system = SystemNamers(self.turn, resolver)
        self.files = Files(self.turn)
        self.reports: list[tuple[str, Mapping[str, object]]] = []
        self.deps = InterpreterDeps(
            env=NoTime(),
            turn=self.turn,
            dtab=Dtab.read(dtab),
            namers=[mount(self.fs)],
            system=self.system,
            transformer_deps=TransformerDeps(
                turn=self.turn, system=self.system, resolver=resolver, local_ips=frozenset
            ),
            files=self.files,
            report=lambda event, facts: self.reports.append((event, facts)),
        )
        self.interpreter = DefaultInterpreterConfig().mk(self.deps)

    def watch(self, path: Path = WEB, local: str = "") -> Watcher:
        return Watcher(self.interpreter, Dtab.read(local), path, self.turn)


class Watcher:
    """Observes a binding and keeps what it emits."""

    def __init__(self, interpreter: Interpreter, local: Dtab, path: Path, turn: Turn) -> None:
        self.turn = turn
        self.bound = interpreter.bind(local, path)
        self._seen: list[str] = []
        self._first = True
        self.close = self.bound.observe(lambda state: self._seen.append(tree_text(state)))

    def seen(self) -> list[str]:
        """The first time what is known, then what was emitted since last asked."""
        self.turn.run()
        seen, self._seen = self._seen, []
        if self._first:
            self._first = False
            return [tree_text(self.bound.value)]
        return seen


def test_a_binding_is_there_when_observed() -> None:
    """With names known, the first observation finds the tree."""
    assert World().watch().seen() == ["/#/fs/web"]


def test_base_dtab_changes_are_followed() -> None:
    """A new base dtab re-binds what is observed, and only what changes is emitted."""
    world = World()
    web, api = world.watch(), world.watch(Path.read("/svc/api"))
    web.seen(), api.seen()

    world.interpreter.set_base(Dtab.read("/svc => /#/fs ; /svc/web => /#/fs/api"))

    assert web.seen() == ["/#/fs/api"]
    assert api.seen() == []
    assert world.interpreter.base == Ok(Dtab.read("/svc => /#/fs ; /svc/web => /#/fs/api"))


def test_weights_change_while_observed() -> None:
    """A new weight is a new tree."""
    world = World("/svc/web => 9 * /#/fs/web & 1 * /#/fs/api")
    web = world.watch()

    assert web.seen() == ["9 * (/#/fs/web) & 1 * (/#/fs/api)"]
    world.interpreter.set_base(Dtab.read("/svc/web => 5 * /#/fs/web & 5 * /#/fs/api"))
    assert web.seen() == ["5 * (/#/fs/web) & 5 * (/#/fs/api)"]


def test_a_name_that_appears_is_followed() -> None:
    """Neg becomes bound when the namer learns the name, and fallback ends."""
    world = World("/svc => /#/fs ; /svc/new => /#/fs/new | /#/fs/web")
    new = world.watch(Path.read("/svc/new"))

    assert new.seen() == ["/#/fs/web"]
    world.fs.add("new", "10.0.0.3:80")
    assert new.seen() == ["/#/fs/new"]


def test_the_last_good_tree_is_kept() -> None:
    """Once bound, trouble is noted and not emitted; the next good tree replaces it."""
    world = World()
    web = world.watch()
    bound = web.bound
    assert isinstance(bound, BoundPath)
    assert web.seen() == ["/#/fs/web"]

    world.fs.set("/web", Failed("registry down"))

    assert web.seen() == []
    assert bound.trouble == Failed("registry down")
    assert tree_text(bound.value) == "/#/fs/web"
    world.fs.set("/web", PENDING)
    assert web.seen() == []
    world.fs.set("/web", Ok(NEG))
    assert web.seen() == ["~"]
    assert bound.trouble is None


def test_before_it_was_bound_trouble_is_emitted() -> None:
    """Pending and failed are states like others until there is something to keep."""
    world = World()
    world.fs.set("/web", PENDING)
    web = world.watch()

    assert web.seen() == ["Pending()"]
    world.fs.set("/web", Failed("x"))
    assert web.seen() == ["Failed(cause='x')"]
    world.fs.add("web")
    assert web.seen() == ["/#/fs/web"]


def test_equal_trees_are_not_emitted_again() -> None:
    """Re-evaluation to the same names is no change."""
    world = World()
    web = world.watch()
    web.seen()

    world.interpreter.set_base(Dtab.read("/svc => /srv ; /srv => /#/fs"))

    assert web.seen() == []


def test_bindings_are_shared_while_observed() -> None:
    """The same (local dtab, path) is one object as long as somebody observes it, and nothing is left after."""
    world = World()
    first, second = world.watch(), world.watch()

    assert second.bound is first.bound
    assert world.interpreter.bind(Dtab.read("/svc=>/x"), WEB) is not first.bound
    first.close()
    assert world.interpreter.bind(Dtab.EMPTY, WEB) is second.bound
    second.close()
    assert first.bound.value == PENDING
    assert world.interpreter.bind(Dtab.EMPTY, WEB) is not first.bound
    assert not any(var.observed for var in world.fs.vars.values())


def test_unobserved_bindings_cost_nothing() -> None:
    """Asking for bindings without observing them keeps none."""
    world = World()
    for n in range(100):
        world.interpreter.bind(Dtab.EMPTY, Path.of("svc", str(n)))

    assert {
        key: value
        for key, value in world.interpreter.state().items()
        if key == "bound"  # type: ignore[attr-defined]
    } == {"bound": 0}


def test_local_dtabs_win() -> None:
    """A request's dtab comes after the base and so before it, and follows the base's changes."""
    world = World()
    web = world.watch(local="/svc/web => /#/fs/api")

    assert web.seen() == ["/#/fs/api"]
    world.interpreter.set_base(Dtab.read("/#/fs/api => $"))
    assert web.seen() == ["$"]


def test_combined_dtabs_are_bounded() -> None:
    """More local dtabs than are remembered still bind."""
    world = World()
    for n in range(MAX_COMBINED + 10):
        watcher = world.watch(local=f"/svc/web{n} => /#/fs/web")
        assert watcher.seen() == ["/#/fs/web"]
        watcher.close()


def test_interpreter_transformers_always_run() -> None:
    """The interpreter's transformers see every bound name, whatever it came from."""
    world = World()
    interpreter = DefaultInterpreterConfig(transformers=[PortConfig(port=4141)]).mk(world.deps)
    web = Watcher(interpreter, Dtab.EMPTY, WEB, world.turn)

    assert web.seen() == ["/%/io.l5d.port/4141/#/fs/web"]


def test_delegate_takes_the_dtab_as_the_whole() -> None:
    """The base dtab plays no part in an explanation unless it is passed."""
    world = World()

    assert world.interpreter.delegate(Dtab.EMPTY, WEB).type == "neg"
    assert world.interpreter.delegate(Dtab.read("/svc=>/#/fs"), WEB).type == "delegate"
    assert not any(var.observed for var in world.fs.vars.values())


def test_delegation_is_live() -> None:
    """An observed delegation becomes complete when the names arrive."""
    world = World()
    world.fs.set("/web", PENDING)
    tree = world.interpreter.delegation(Dtab.EMPTY, Path.read("/#/fs/web"))
    close = tree.observe(lambda _tree: None)

    assert tree.value.pending
    world.fs.add("web", "10.0.0.1:80")
    world.turn.run()
    assert not tree.value.pending
    assert tree.value.addr == endpoints("10.0.0.1:80")
    close()


def test_state_names_what_is_in_trouble() -> None:
    """The admin page lists bindings whose namer is in trouble, and whether they still serve."""
    world = World()
    world.fs.set("/bad", Failed("down"))
    watchers = [world.watch(), world.watch(Path.read("/svc/bad"))]
    world.fs.set("/web", PENDING)
    world.turn.run()

    assert world.interpreter.state() == {
        "dtab": "/svc=>/#/fs",
        "error": None,
        "bound": 2,
        "troubled": [
            {"path": "/svc/web", "dtab": "", "cause": "no answer yet", "serving": True},
            {"path": "/svc/bad", "dtab": "", "cause": "down", "serving": False},
        ],
    }
    for each in watchers:
        each.close()


def fs_interpreter(world: World) -> LocalInterpreter:
    return FsInterpreterConfig(dtab_file="/etc/web.dtab").mk(world.deps)


def test_fs_dtab_comes_before_the_base() -> None:
    """The file's dentries lose to the router's own, and a change of the file re-binds."""
    world = World("/svc/api => /#/fs/web")
    interpreter = fs_interpreter(world)
    web, api = (Watcher(interpreter, Dtab.EMPTY, Path.of("svc", name), world.turn) for name in ("web", "api"))

    assert (web.seen(), api.seen()) == (["Pending()"], ["Pending()"])
    world.files.content.set(Ok("/svc => /#/fs ;\n"))
    assert (web.seen(), api.seen()) == (["/#/fs/web"], ["/#/fs/web"])
    world.files.content.set(Ok("/svc => /#/fs ; /svc/web => /#/fs/api"))
    assert (web.seen(), api.seen()) == (["/#/fs/api"], [])
    interpreter.set_base(Dtab.EMPTY)
    assert (web.seen(), api.seen()) == ([], ["/#/fs/api"])
    assert world.files.asked == ["/etc/web.dtab"]


def test_fs_bad_dtab_keeps_what_is_bound() -> None:
    """A file that is no dtab fails new names with its place, and leaves bound ones alone."""
    world = World("")
    interpreter = fs_interpreter(world)
    world.files.content.set(Ok("/svc => /#/fs"))
    web = Watcher(interpreter, Dtab.EMPTY, WEB, world.turn)
    assert web.seen() == ["/#/fs/web"]

    world.files.content.set(Ok("/svc => /#/fs ;\n/svc = /x"))
    assert web.seen() == []
    api = Watcher(interpreter, Dtab.EMPTY, Path.of("svc", "api"), world.turn)
    cause = "/etc/web.dtab:2:6: expected '=>' after the prefix of a dentry, found '='"
    assert api.seen() == [f'Failed(cause="{cause}")']
    assert interpreter.delegate(Dtab.EMPTY, WEB).type == "exception"

    world.files.content.set(Ok("/svc => /#/fs"))
    assert (web.seen(), api.seen()) == ([], ["/#/fs/api"])


def test_fs_delegate_appends_to_the_fetched_dtab() -> None:
    """An explanation is under the file's dtab followed by the one asked about."""
    world = World("")
    interpreter = fs_interpreter(world)
    world.files.content.set(Ok("/svc => /#/fs"))

    tree = interpreter.delegate(Dtab.read("/svc/web => /#/fs/api"), WEB)

    assert tree_text(tree.state) == "/#/fs/api"


def test_fs_run_keeps_the_file_watched_and_reports() -> None:
    """While the task runs the file is followed without any binding, and each change is reported."""
    world = World("")
    interpreter = fs_interpreter(world)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interpreter.run)  # type: ignore[attr-defined]
            await trio.testing.wait_all_tasks_blocked()
            world.files.content.set(Ok("/svc => "))
            world.turn.run()
            world.files.content.set(Ok("/svc => /a"))
            world.turn.run()
            assert world.files.content.observed
            nursery.cancel_scope.cancel()

    trio.run(main)

    assert [event for event, _facts in world.reports] == ["interpreter.bad_dtab", "interpreter.dtab"]
    assert world.reports[1][1] == {"path": "/etc/web.dtab", "dentries": 1}
    assert not world.files.content.observed


@pytest.mark.parametrize("dtab", ["/svc => /#/fs", "/svc/web => 9 * /#/fs/web & 1 * /#/fs/api"])
def test_rebinding_keeps_watching_what_both_need(dtab: str) -> None:
    """A change of dtab does not stop and restart the watch of a name that is in both."""
    world = World("/svc/web => /#/fs/web")
    web = world.watch()
    watched = world.fs.vars[Path.of("web")]
    idle: list[int] = []
    watched._on_idle = lambda: idle.append(1)

    world.interpreter.set_base(Dtab.read(dtab))
    web.seen()

    assert idle == []
