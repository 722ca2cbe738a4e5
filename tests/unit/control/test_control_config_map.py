"""The dtab of a ConfigMap: what is believed of what the API server says, and when."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import pytest

from hostmesh.base.var import PENDING, Failed, Ok
from hostmesh.control.config_map import MAX_TEXT, ConfigMapDtab, K8sConfigMapInterpreterConfig
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.interpreter import InterpreterDeps
from hostmesh.naming.system import SystemNamers
from hostmesh.naming.transformer import TransformerDeps
from tests.fs_world import SetEnv, World

TEXT = "/svc => /#/fs ;"


class Believed:
    """A ConfigMap on a clock that is set by hand."""

    def __init__(self, root: FilePath, **keys: Any) -> None:
        self.world = World(root)
        self.env = SetEnv(0.0)
        self.alarms = self.world.shared.alarms
        self.alarms.env = self.env
        system = SystemNamers(self.world.turn, self.world.shared.resolver)
        deps = InterpreterDeps(
            env=self.env,
            turn=self.world.turn,
            dtab=Dtab.EMPTY,
            namers=[],
            system=system,
            transformer_deps=TransformerDeps(
                turn=self.world.turn,
                system=system,
                resolver=self.world.shared.resolver,
                local_ips=frozenset,
                shared=self.world.shared,
            ),
            files=self.world.files,
            report=self.world.report,
        )
        config = K8sConfigMapInterpreterConfig(kind="x", name="dtabs", filename="web", **keys)
        self.map = ConfigMapDtab(config, deps)

    def at(self, time: float) -> None:
        self.env.time = time
        self.alarms.ring()

    def shown(self) -> str:
        """The dtab, or the state without one."""
        value = self.map.dtab.value
        return value.value.show() if isinstance(value, Ok) else type(value).__name__


def test_the_dtab_follows_the_text(tmp_path: FilePath) -> None:
    """What is said is believed at once, also that there is none at first."""
    believed, empty = Believed(tmp_path), Believed(tmp_path)
    assert believed.map.dtab.value == PENDING

    believed.map.known((TEXT,), "1")
    assert believed.shown() == Dtab.read(TEXT).show()
    believed.map.known(("/svc => /#/other ;",), "2")
    assert believed.shown() == Dtab.read("/svc => /#/other").show()
    empty.map.known((), "1")
    assert empty.map.dtab.value == Ok(Dtab.EMPTY)
    assert empty.map.state()["missing"] is True


def test_a_bad_text_changes_nothing(tmp_path: FilePath) -> None:
    """Its place is in the message; at first it is Failed, and it is over with the next good one."""
    believed, bad = Believed(tmp_path), Believed(tmp_path)
    believed.map.known((TEXT,), "1")

    for map_ in (believed.map, bad.map):
        map_.known(("/svc =>\n/#/fs ; /svc",), "2")

    assert believed.shown() == Dtab.read(TEXT).show()
    assert isinstance(bad.map.dtab.value, Failed)
    assert str(believed.map.trouble).startswith("default/dtabs:web:2:")
    assert "interpreter.bad_dtab" in believed.world.reported()
    believed.map.known((TEXT,), "3")
    assert believed.map.trouble is None


def test_an_error_is_not_an_empty_dtab(tmp_path: FilePath) -> None:
    """A server that fails takes nothing away, neither what is there nor what was about to go."""
    believed = Believed(tmp_path)
    believed.map.known((TEXT,), "1")
    believed.map.known((), "2")

    believed.at(1.0)
    believed.map.failed("no answer", None)
    believed.at(60.0)

    assert believed.shown() == Dtab.read(TEXT).show()
    assert believed.map.state()["error"] == "no answer"


def test_an_error_at_first_is_an_error(tmp_path: FilePath) -> None:
    """Nothing is bound on the word of a server that has not spoken."""
    believed = Believed(tmp_path)

    believed.map.failed("403 forbidden", 403)

    assert believed.map.dtab.value == Failed("403 forbidden")


def test_a_missing_map_is_believed_after_the_hold(tmp_path: FilePath) -> None:
    """One that is back before was replaced."""
    gone, replaced = Believed(tmp_path), Believed(tmp_path)
    for each in (gone, replaced):
        each.map.known((TEXT,), "1")
        each.map.known((None,), "2")

    replaced.at(1.9)
    replaced.map.known((TEXT,), "3")
    for each in (gone, replaced):
        each.at(2.0)

    assert gone.shown() == ""
    assert replaced.shown() == Dtab.read(TEXT).show()


def test_x8_a_huge_text_is_no_dtab(tmp_path: FilePath) -> None:
    """A ConfigMap cannot hold as much, but whoever answers may."""
    believed = Believed(tmp_path)

    believed.map.known(("#" * (MAX_TEXT + 1),), "1")

    assert isinstance(believed.map.dtab.value, Failed)
    assert f"expected at most {MAX_TEXT} characters" in believed.map.dtab.value.cause


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"name": "a/b"}, "name: expected the name of a Kubernetes object, found 'a/b'"),
        ({"namespace": ""}, "namespace: expected the name of a Kubernetes object, found ''"),
        ({"filename": "a b"}, "filename: expected a key of a ConfigMap, found 'a b'"),
    ],
)
def test_names_that_cannot_be(keys: dict[str, str], expected: str) -> None:
    """They would be something else in a URL."""
    config = K8sConfigMapInterpreterConfig(**{"kind": "x", "name": "dtabs", "filename": "web", **keys})

    assert config.check() == [expected]
