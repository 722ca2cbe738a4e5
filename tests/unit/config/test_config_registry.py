"""Kinds and the classes behind them."""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest
from attrs import frozen

from hostmesh.base.errors import ConfigError
from hostmesh.base.plugin import SLOTS, PluginConfig
from hostmesh.config import registry as registry_module
from hostmesh.config.registry import Registry, UnknownKindError

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@frozen(kw_only=True)
class TestNamerConfig(PluginConfig):
    """A namer of this test."""

    __test__ = False


class _Distribution(Distribution):
    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: object) -> Path:
        raise NotImplementedError


def entry_point(name: str, value: str, distribution: str) -> EntryPoint:
    point = EntryPoint(name, value, "hostmesh.namer")
    # The standard library's own way to tie the two together (EntryPoints of a distribution).
    vars(point).update(dist=_Distribution(distribution))
    return point


@pytest.mark.parametrize("kind", ["io.l5d.test", "test"])
def test_kind_is_known_with_and_without_prefix(kind: str) -> None:
    """A kind under io.l5d. may be written without it."""
    registry = Registry({"namer": {"io.l5d.test": TestNamerConfig}})

    assert ("io.l5d.test", TestNamerConfig) == (
        registry.full_kind("namer", kind),
        registry.load("namer", kind),
    )


def test_full_spelling_wins_over_a_short_one() -> None:
    """A kind that is registered as written is not expanded."""
    registry = Registry({"namer": {"io.l5d.test": PluginConfig, "test": TestNamerConfig}})

    assert TestNamerConfig is registry.load("namer", "test")


def test_kind_without_prefix_is_not_known_with_one() -> None:
    """Only io.l5d. kinds have two spellings."""
    registry = Registry({"balancer": {"p2c": TestNamerConfig}})

    assert registry.full_kind("balancer", "io.l5d.p2c") is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("io.l5d.tset", "expected 'io.l5d.test'"),
        ("tset", "expected 'io.l5d.test'"),
        ("IO.L5D.TEST", "expected 'io.l5d.test'"),
        ("zzz", "expected one of: io.l5d.test, p2c"),
        ("", "expected one of: io.l5d.test, p2c"),
    ],
)
def test_unknown_kind_names_the_nearest_or_all(kind: str, expected: str) -> None:
    """A misspelt kind gets the nearest one, a strange one the whole list."""
    registry = Registry({"namer": {"io.l5d.test": TestNamerConfig, "p2c": TestNamerConfig}})

    with pytest.raises(UnknownKindError) as caught:
        registry.load("namer", kind)

    assert expected == str(caught.value)


def test_unknown_slot_is_refused() -> None:
    """A registry for a slot that does not exist is a programming mistake."""
    with pytest.raises(ConfigError, match="no such plugin slot: nmaer"):
        Registry({"nmaer": {}})


def test_broken_plugin_is_named() -> None:
    """An entry point that cannot be imported says whose it is and why."""
    registry = Registry({"namer": {"x": entry_point("x", "hostmesh.nothing:X", "some-plugin")}})

    with pytest.raises(ConfigError) as caught:
        registry.load("namer", "x")

    assert str(caught.value) == (
        "the namer 'x' of some-plugin (hostmesh.nothing:X) cannot be imported: "
        "ModuleNotFoundError: No module named 'hostmesh.nothing'"
    )


def test_entry_point_that_is_no_config_is_named() -> None:
    """An entry point to something else than a PluginConfig class is refused."""
    registry = Registry({"namer": {"x": entry_point("x", "json:dumps", "some-plugin")}})

    with pytest.raises(
        ConfigError, match=r"the namer 'x' of some-plugin \(json:dumps\) is not a PluginConfig class"
    ):
        registry.load("namer", "x")


def test_two_distributions_with_one_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that two installed distributions offer is an error that names both."""
    offered = [entry_point("x", "a:A", "one"), entry_point("x", "b:B", "two")]
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: offered if group == "hostmesh.namer" else []
    )

    with pytest.raises(ConfigError) as caught:
        Registry.installed()

    assert (
        str(caught.value) == "two distributions offer the namer 'x': one (a:A) and two (b:B); uninstall one"
    )


def test_entry_points_are_those_of_pyproject() -> None:
    """The installed distribution is the one in this directory; if not: `pip install -e .` again."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        declared = tomllib.load(file)["project"]["entry-points"]

    installed = Registry.installed()

    assert {slot: sorted(declared.get(f"hostmesh.{slot}", {})) for slot in SLOTS} == {
        slot: installed.kinds(slot) for slot in SLOTS
    }


@pytest.mark.parametrize(
    ("slot", "kind"),
    [(slot, kind) for slot in SLOTS for kind in Registry.installed().kinds(slot)],
)
def test_every_kind_can_be_loaded(slot: str, kind: str) -> None:
    """Each kind has a class that the converter understands."""
    from hostmesh.config.shape import fields_of

    cls = Registry.installed().load(slot, kind)

    assert fields_of(cls)
