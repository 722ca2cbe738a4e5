"""From tree to config objects."""

from __future__ import annotations

from enum import Enum
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal

import pytest
from attrs import field, frozen, validators

from hostmesh.base.plugin import PluginConfig
from hostmesh.config.convert import BAD, Converter
from hostmesh.config.nouns import noun
from hostmesh.config.registry import Registry
from hostmesh.config.report import Report
from hostmesh.config.shape import Bounds, Text, camel, fields_of
from hostmesh.config.source import read_source
from hostmesh.config.to_json import to_json
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path


@frozen(kw_only=True)
class BackoffConfig(PluginConfig):
    """Named after its slot."""


@frozen(kw_only=True)
class SlowConfig(BackoffConfig):
    """A backoff of this test."""

    ms: int = 0

    def check(self) -> list[str]:
        return ["ms must be even"] if self.ms % 2 else []


@frozen(kw_only=True)
class BuggyConfig(BackoffConfig):
    """Its check fails."""

    def check(self) -> list[str]:
        raise ZeroDivisionError("oops")


@frozen(kw_only=True)
class SlottedConfig(PluginConfig):
    """Says its slot."""

    slot: ClassVar[str] = "accrual"

    backoff: BackoffConfig | None = None
    backoffs: tuple[BackoffConfig, ...] = ()
    listed: list[BackoffConfig] = field(factory=list)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@frozen(kw_only=True)
class Inner:
    size: int = 1


@frozen(kw_only=True)
class Everything:
    """One field of each kind."""

    whole: int = 0
    real: float = 0.0
    on: bool = False
    text: str = ""
    word: Literal["a", "b", 3] = "a"
    colour: Colour = Colour.RED
    path: Path | None = None
    dtab: Dtab | None = None
    file: FilePath | None = None
    inner: Inner | None = None
    several: tuple[int, ...] = ()
    as_list: list[str] = field(factory=list)
    as_set: frozenset[str] = frozenset()
    mapping: dict[str, int] = field(factory=dict)
    bounded: Annotated[int, Bounds(1, 5, "of things")] = 1
    checked: Annotated[str, Text(lambda text: None if text.isupper() else "capitals")] = "A"
    either: int | Inner = 0
    anything: Any = None
    renamed_kb: int = field(default=1, metadata={"key": "renamedKB"})
    accrual: SlottedConfig | None = None
    hidden: int = field(default=0, metadata={"internal": True})
    limited: int = field(default=1, validator=validators.ge(1))


REGISTRY = Registry(
    {
        "backoff": {"io.l5d.slow": SlowConfig, "buggy": BuggyConfig},
        "accrual": {"slotted": SlottedConfig},
    }
)


def convert(text: str, cls: type = Everything) -> tuple[Any, Report]:
    report = Report("f")
    node = read_source(text.encode(), report)
    assert node is not None
    return Converter(report, REGISTRY).table(cls, node, ()), report


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("whole: 5", "whole", 5),
        ("whole: '5'", "whole", 5),
        ("real: 5", "real", 5.0),
        ("real: '0.5'", "real", 0.5),
        ("on: true", "on", True),
        ("text: x", "text", "x"),
        ("text: 127.1", "text", "127.1"),
        ("text: '5'", "text", "5"),
        ("word: b", "word", "b"),
        ("word: 3", "word", 3),
        ("colour: blue", "colour", Colour.BLUE),
        ("path: /a/b", "path", Path.of("a", "b")),
        ("path: /", "path", Path.EMPTY),
        ("path:", "path", None),
        ("dtab: /a => /b", "dtab", Dtab.read("/a => /b")),
        ("file: some/where", "file", FilePath("some/where")),
        ("inner: {size: 3}", "inner", Inner(size=3)),
        ("inner: {}", "inner", Inner()),
        ("several: [1, 2]", "several", (1, 2)),
        ("asList: [a]", "as_list", ["a"]),
        ("asSet: [a, a]", "as_set", frozenset({"a"})),
        ("mapping: {a: 1}", "mapping", {"a": 1}),
        ("bounded: 5", "bounded", 5),
        ("checked: ABC", "checked", "ABC"),
        ("either: 4", "either", 4),
        ("either: {size: 4}", "either", Inner(size=4)),
        ("anything: {a: [1, null]}", "anything", {"a": [1, None]}),
        ("renamedKB: 7", "renamed_kb", 7),
        ("whole:", "whole", 0),
        ("accrual: {kind: slotted}", "accrual", SlottedConfig(kind="slotted")),
        (
            "accrual: {kind: slotted, backoff: {kind: slow, ms: 2}}",
            "accrual",
            SlottedConfig(kind="slotted", backoff=SlowConfig(kind="io.l5d.slow", ms=2)),
        ),
        (
            "accrual: {kind: slotted, backoffs: [{kind: slow}], listed: [{kind: slow}]}",
            "accrual",
            SlottedConfig(
                kind="slotted",
                backoffs=(SlowConfig(kind="io.l5d.slow"),),
                listed=[SlowConfig(kind="io.l5d.slow")],
            ),
        ),
    ],
)
def test_value_is_taken(text: str, name: str, expected: object) -> None:
    """Each type has its YAML form."""
    value, report = convert(text)

    assert report.mistake_lines() == []
    assert expected == getattr(value, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("whole: 5.0", "f:1: whole: found 5.0, expected a whole number"),
        ("whole: true", "f:1: whole: found true, expected a whole number"),
        ("whole: '0x5'", "f:1: whole: found '0x5', expected a whole number"),
        ("whole: '5.0'", "f:1: whole: found '5.0', expected a whole number"),
        ("whole: ' 5'", "f:1: whole: found ' 5', expected a whole number"),
        ("real: x", "f:1: real: found 'x', expected a number"),
        ("on: 'true'", "f:1: on: found 'true', expected true or false"),
        ("on: 1", "f:1: on: found 1, expected true or false"),
        ("text: true", "f:1: text: found true, expected text"),
        ("text: [a]", "f:1: text: found a list of 1, expected text"),
        ("word: c", "f:1: word: found 'c', expected one of: a, b, 3"),
        ("colour: green", "f:1: colour: found 'green', expected one of: red, blue"),
        ("path: a/b", "f:1: path: found 'a/b', expected a path that starts with '/'"),
        ("path: [a]", "f:1: path: found a list of 1, expected a path that starts with '/'"),
        ("inner: 5", "f:1: inner: found 5, expected a mapping"),
        ("inner:\n  size: x", "f:2: inner.size: found 'x', expected a whole number"),
        ("several: 1", "f:1: several: found 1, expected a list"),
        ("several:\n- 1\n- x", "f:3: several[1]: found 'x', expected a whole number"),
        ("mapping:\n  a: 1\n  b: x", "f:3: mapping.b: found 'x', expected a whole number"),
        ("bounded: 6", "f:1: bounded: found 6, expected a whole number of things from 1 to 5"),
        ("bounded: x", "f:1: bounded: found 'x', expected a whole number of things from 1 to 5"),
        ("checked: abc", "f:1: checked: found 'abc', expected capitals"),
        ("either: [1]", "f:1: either: found a list of 1, expected a whole number or a mapping"),
        ("hidden: 1", "f:1: hidden: found the unknown key 'hidden', expected one of: "),
        ("renamedKb: 1", "f:1: renamedKb: found the unknown key 'renamedKb', expected 'renamedKB'"),
        ("accrual: slotted", "f:1: accrual: found 'slotted', expected a mapping with the key 'kind'"),
        ("accrual: {}", "f:1: accrual.kind: found no kind, expected one of: slotted"),
        ("accrual: {kin: slotted}", "f:1: accrual.kin: found the unknown key 'kin', expected 'kind'"),
        ("accrual: {kind: [1]}", "f:1: accrual.kind: found a list of 1, expected the name of a kind"),
        ("accrual:\n  kind: slotted\n  backoff:\n    kind: slow\n    ms: 3",
         "f:5: accrual.backoff.ms: found 3; ms must be even"),
        ("accrual: {kind: slotted, backoff: {kind: buggy}}",
         "f:1: accrual.backoff: this plugin's check failed: ZeroDivisionError: oops"),
        ("accrual: {kind: slotted, backoffs: {}}", "f:1: accrual.backoffs: found an empty mapping, expected a list"),
        ("limited: 0", "f:1: limited: found 0, refused: 'limited' must be >= 1: 0"),
    ],
)  # fmt: skip
def test_mistake_says_what_was_found_and_expected(text: str, expected: str) -> None:
    """A wrong value is reported with line, key, what was found and what was expected."""
    _value, report = convert(text)

    (line,) = report.mistake_lines()
    assert expected == line[: len(expected)] if expected.endswith(": ") else expected == line


def test_all_mistakes_are_reported_in_order() -> None:
    """One run shows everything, sorted by line, and nothing twice."""
    _value, report = convert("zzz: 1\nwhole: x\nreal: y\nseveral: [a, b]\n")

    assert [int(line.split(":")[1]) for line in report.mistake_lines()] == [1, 2, 3, 4, 4]


def test_object_with_a_bad_optional_key_is_still_made() -> None:
    """Cross checks see an object whose other keys are wrong, with the default in the place of the bad one."""
    value, report = convert("whole: x\ntext: y\n")

    assert not report.ok
    assert (value.whole, value.text) == (0, "y")


def test_object_without_a_required_key_is_not_made() -> None:
    """A required key that is missing or wrong leaves nothing to work with."""

    @frozen(kw_only=True)
    class Needy:
        must: int

    missing, report = convert("{}", Needy)
    wrong, report_of_wrong = convert("must: x", Needy)

    assert (missing, wrong) == (BAD, BAD)
    assert report.mistake_lines() == ["f:1: must: found nothing, expected a whole number"]
    assert report_of_wrong.mistake_lines() == ["f:1: must: found 'x', expected a whole number"]


def test_quoted_number_and_unquoted_text_are_warnings() -> None:
    """What Linkerd's parser coerces is accepted with a warning that says how to write it."""
    _value, report = convert("whole: '5'\ntext: 5\n")

    assert report.warning_lines() == [
        "f:1: whole: found '5' in quotes, taken for the number; expected it without quotes",
        "f:2: text: found the number 5, taken for text; expected it in quotes",
    ]


def test_long_text_is_cut_in_messages() -> None:
    """A pasted novel does not flood the report."""
    _value, report = convert(f"whole: {'x' * 500}\n")

    assert report.mistake_lines() == [f"f:1: whole: found '{'x' * 57}...', expected a whole number"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("total_timeout_ms", "totalTimeoutMs"), ("ip", "ip"), ("for_", "for"), ("k8s_host", "k8sHost")],
)
def test_keys_are_camel_case(name: str, expected: str) -> None:
    """An attribute's key follows from its name."""
    assert expected == camel(name)


def test_field_type_without_yaml_form_is_a_programming_mistake() -> None:
    """A config class with a field that no file can fill is found when it is first used."""

    @frozen(kw_only=True)
    class Odd:
        odd: object = None

    with pytest.raises(TypeError, match="which has no YAML form"):
        convert("odd: 1", Odd)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (bool, "true or false"),
        (float, "a number"),
        (str | None, "text"),
        (int | Inner, "a whole number or a mapping"),
        (Literal["a", "b"], "one of: a, b"),
        (dict[str, int], "a mapping"),
        (list[int], "a list"),
        (Annotated[float, Bounds(0)], "a number, at least 0"),
        (Annotated[int, Bounds(None, 5)], "a whole number"),
        (Annotated[str, Text(lambda _text: None)], "text"),
        (Dtab, "a dtab"),
        (Colour, "one of: red, blue"),
        (FilePath, "a file path"),
    ],
)
def test_missing_key_says_what_it_takes(annotation: Any, expected: str) -> None:
    """Every type has words for what is expected."""
    assert expected == noun(annotation)


def test_plugins_of_a_type_checking_import_are_named_after_their_field() -> None:
    """A class imported only for the type checker needs no metadata if its field is called like the slot."""

    @frozen(kw_only=True)
    class Late:
        backoff: OnlyWhileTypeChecking | None = None  # type: ignore[name-defined]  # noqa: F821
        backoffs: tuple[OnlyWhileTypeChecking, ...] = ()  # type: ignore[name-defined]  # noqa: F821

    value, report = convert("backoff: {kind: slow}\nbackoffs: [{kind: slow}]", Late)

    assert report.mistake_lines() == []
    assert (value.backoff.kind, len(value.backoffs)) == ("io.l5d.slow", 1)


def test_annotation_that_cannot_be_evaluated_is_a_programming_mistake() -> None:
    """A name that does not exist at run time is found when the class is first used."""

    @frozen(kw_only=True)
    class Late:
        thing: OnlyWhileTypeChecking | None = None  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match=r"Late\.thing: cannot evaluate"):
        convert("{}", Late)


def test_json_form_of_every_type() -> None:
    """What was read is shown as it would be written, unset keys left out."""
    value, _report = convert(
        "colour: blue\nfile: a/b\nmapping: {a: 1}\npath: /a\ndtab: /a => /b\nasSet: [x]\n"
    )

    shown = to_json(value)

    assert [shown[key] for key in ("colour", "file", "mapping", "path", "dtab", "asSet")] == [
        "blue",
        "a/b",
        {"a": 1},
        "/a",
        "/a=>/b",
        ["x"],
    ]
    assert "inner" not in shown


def test_shape_is_computed_once() -> None:
    """Annotations are evaluated once per class."""
    assert fields_of(Everything) is fields_of(Everything)
