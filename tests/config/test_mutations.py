"""One slip in a good file: the report has to name its line.

The good files are Linkerd's own examples (``HOSTMESH_EXAMPLES``, or ``../shared/reference/linkerd-examples``
beside the repository) and those in ``config/``. The slips are drawn with a seed that is part of the test's name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from attrs import frozen

from hostmesh.config.load import load
from hostmesh.config.registry import Registry
from hostmesh.config.report import KeyPath, Report
from hostmesh.config.source import read_source
from hostmesh.config.to_json import to_json
from hostmesh.config.tree import Items, Node, Scalar, Table

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = Path(os.environ.get("HOSTMESH_EXAMPLES", ROOT.parent / "shared/reference/linkerd-examples"))
MUTATIONS = 10
"""Per file."""

LINKERD = sorted(EXAMPLES.glob("*.yaml"))
SHIPPED = sorted(path for path in (ROOT / "config").rglob("*") if path.suffix in (".yaml", ".yml"))
FILES = [*LINKERD, *SHIPPED]

REGISTRY = Registry.installed()


@frozen
class Key:
    """A key of a file: where it is and what it holds."""

    path: KeyPath
    line: int
    node: Node

    @property
    def name(self) -> str:
        return str(self.path[-1])


def keys_of(node: Node, path: KeyPath = ()) -> Iterator[Key]:
    if isinstance(node, Table):
        for name, entry in node.entries.items():
            yield Key((*path, name), entry.line, entry.node)
            yield from keys_of(entry.node, (*path, name))
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from keys_of(item, (*path, index))


@frozen
class Text:
    """The lines of a file, its keys, and chance."""

    lines: tuple[str, ...]
    keys: tuple[Key, ...]
    rng: Random

    def pick(self, wanted: Callable[[Key], bool]) -> Key | None:
        found = [key for key in self.keys if wanted(key)]
        return self.rng.choice(found) if found else None

    def edit(self, line: int, pattern: str, replacement: str) -> tuple[str, int]:
        """The text with the first match on a line replaced, and that line."""
        old = self.lines[line - 1]
        new = re.sub(pattern, lambda _match: replacement, old, count=1)
        assert new != old, f"{pattern} does not occur in {old!r}"
        return self.join([*self.lines[: line - 1], new, *self.lines[line:]]), line

    def insert(self, after: int, line: str) -> tuple[str, int]:
        return self.join([*self.lines[:after], line, *self.lines[after:]]), after + 1

    @staticmethod
    def join(lines: list[str]) -> str:
        return "\n".join(lines) + "\n"


Slip = tuple[str, int] | None
"""The wrong text and the line it is wrong on; None where a file offers no place for the slip."""


def slipped(word: str, rng: Random) -> str:
    """A word with one letter typed twice, left out, or swapped with the next."""
    while True:
        at = rng.randrange(1, len(word))
        typo = rng.choice(
            [
                word[:at] + word[at - 1] + word[at:],
                word[:at] + word[at + 1 :],
                word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :],
            ]
        )
        if typo != word and re.fullmatch(r"[A-Za-z].*[A-Za-z0-9]", typo):
            return typo


def _key_pattern(name: str) -> str:
    return rf"(?<![\w.]){re.escape(name)}(?=\s*:)"


def misspelt_key(text: Text) -> Slip:
    key = text.pick(lambda key: True)
    return key and text.edit(key.line, _key_pattern(key.name), slipped(key.name, text.rng))


def misspelt_kind(text: Text) -> Slip:
    key = text.pick(lambda key: key.name in ("kind", "protocol") and isinstance(key.node, Scalar))
    if key is None or not isinstance(key.node, Scalar):
        return None
    return text.edit(key.line, re.escape(key.node.text), slipped(key.node.text, text.rng))


def duplicate_key(text: Text) -> Slip:
    key = text.pick(lambda key: _alone(text, key))
    if key is None:
        return None
    again = (
        text.lines[key.line - 1].replace("- ", "  ", 1)
        if _starts_item(text, key)
        else text.lines[key.line - 1]
    )
    return text.insert(key.line, again)


def port_clash(text: Text) -> Slip:
    key = text.pick(lambda key: key.name == "port" and "servers" in key.path)
    admin = next((key.node for key in text.keys if key.path == ("admin", "port")), None)
    port = admin.text if isinstance(admin, Scalar) else "9990"
    return key and text.edit(key.line, r"(?<=port: )\S+", port)


def wrong_type(text: Text) -> Slip:
    key = text.pick(lambda key: _one_line(text, key) and not isinstance(key.node, Scalar | Items))
    scalar = text.pick(
        lambda key: _one_line(text, key) and isinstance(key.node, Scalar) and key.node.value != ""
    )
    key = text.rng.choice([each for each in (key, scalar) if each is not None] or [None])
    if key is None:
        return None
    value = (
        "{is: {not: this}}" if isinstance(key.node, Scalar) and isinstance(key.node.value, str) else "[1, 2]"
    )
    return text.edit(key.line, rf"(?<=\b{re.escape(key.name)}:)\s+.*", f" {value}")


def path_without_slash(text: Text) -> Slip:
    def is_path(key: Key) -> bool:
        scalar = isinstance(key.node, Scalar) and key.node.text.startswith("/") and "\n" not in key.node.text
        named = key.name in ("prefix", "dst", "root", "basePath", "pathPrefix", "path", "pattern", "name")
        return scalar and named and "telemetry" not in key.path

    key = text.pick(is_path)
    return key and text.edit(key.line, r"(?<=[\s\"])/", "")


def dtab_without_arrow(text: Text) -> Slip:
    lines = [
        number
        for number, line in enumerate(text.lines, 1)
        if "=>" in line and not line.lstrip().startswith("#")
    ]
    return text.edit(text.rng.choice(lines), "=>", "=") if lines else None


def dtab_without_slash(text: Text) -> Slip:
    lines = [number for number, line in enumerate(text.lines, 1) if re.search(r"^\s*/\S+\s*=>", line)]
    return text.edit(text.rng.choice(lines), r"/(?=\S*\s*=>)", "") if lines else None


def removed_key(text: Text) -> Slip:
    key = text.pick(lambda key: key.name == "protocol")
    assert key is not None, "every router has a protocol"
    gone = text.rng.choice(["baseDtab: /a => /b", "maxRequestKB: 5", "timeoutMs: 100", "failFast: true"])
    return text.insert(key.line, f"  {gone}")


def second_router(text: Text) -> Slip:
    key = text.pick(lambda key: key.name == "label" and key.path[0] == "routers")
    if key is None:
        return None
    same = f"- protocol: http\n  label: {_text_of(key)}\n  servers: [{{port: 0}}]"
    end = next(each.line for each in text.keys if each.path == ("routers",))
    wrong, line = text.insert(end, same)
    # The report blames the later one, which is the one that was there before.
    return wrong, key.line + 3 if line <= key.line else line + 1


def not_yaml(text: Text) -> Slip:
    key = text.pick(lambda key: _one_line(text, key))
    return key and text.edit(key.line, r":\s+.*", ": ]")


SLIPS = (
    misspelt_key,
    misspelt_kind,
    duplicate_key,
    port_clash,
    wrong_type,
    path_without_slash,
    dtab_without_arrow,
    dtab_without_slash,
    removed_key,
    second_router,
    not_yaml,
)


def _text_of(key: Key) -> str:
    assert isinstance(key.node, Scalar)
    return key.node.text


def _starts_item(text: Text, key: Key) -> bool:
    return text.lines[key.line - 1].lstrip().startswith("- ")


def _one_line(text: Text, key: Key) -> bool:
    """Whether key and value are alone on their line: nothing else changes with it."""
    line = text.lines[key.line - 1]
    return bool(re.fullmatch(rf"\s*(- )?\s*{re.escape(key.name)}\s*:\s+[^|>{{\[#\s].*", line))


def _alone(text: Text, key: Key) -> bool:
    return _one_line(text, key) and isinstance(key.node, Scalar) and "\n" not in key.node.text


def read(path: Path) -> tuple[str, Node]:
    source = path.read_text(encoding="utf-8")
    node = read_source(source.encode(), Report(path.name))
    assert node is not None
    return source, node


def mutated(path: Path, number: int) -> tuple[str, str, int]:
    """The ``number``-th slip in a file: its name, the wrong text and the line to be named."""
    source, node = read(path)
    rng = Random(f"{path.name}/{number}")
    text = Text(tuple(source.splitlines()), tuple(keys_of(node)), rng)
    slips = list(SLIPS)
    rng.shuffle(slips)
    # The first slips are one of each kind, so that ten of them are of as many kinds as the file allows.
    order = [*SLIPS[number % len(SLIPS) :], *slips]
    for slip in order:
        result = slip(text)
        if result is not None:
            return slip.__name__, *result
    raise AssertionError("every file has keys to misspell")


def no_files(reason: str) -> list[object]:
    return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]


@pytest.mark.parametrize(
    "path",
    LINKERD or no_files(f"no example files in {EXAMPLES}"),
    ids=lambda path: getattr(path, "name", "none"),
)
def test_linkerd_example_is_accepted(path: Path) -> None:
    """Linkerd's own example files are fine, unchanged."""
    _config, report = load(path.read_bytes(), path.name, REGISTRY)

    assert report.mistake_lines() == []


@pytest.mark.parametrize(
    "path",
    FILES or no_files(f"no example files in {EXAMPLES}"),
    ids=lambda path: getattr(path, "name", "none"),
)
def test_json_form_is_read_back_equal(path: Path) -> None:
    """What /config.json shows of a real file is a configuration that means the same."""
    config, _report = load(path.read_bytes(), path.name, REGISTRY)
    assert config is not None

    again, report = load(json.dumps(to_json(config)), path.name, REGISTRY)

    assert report.mistake_lines() == []
    assert config == again


@pytest.mark.parametrize(
    "path", SHIPPED or no_files("nothing in config/ yet"), ids=lambda path: getattr(path, "name", "none")
)
def test_shipped_file_is_accepted_without_a_word(path: Path) -> None:
    """The files that come with hostmesh have no mistakes, no warnings, and nothing that cannot run."""
    _config, report = load(path.read_bytes(), path.name, REGISTRY)

    assert report.mistake_lines() + report.warning_lines() + report.unavailable_lines() == []


@pytest.mark.parametrize("number", range(MUTATIONS))
@pytest.mark.parametrize(
    "path",
    FILES or no_files(f"no example files in {EXAMPLES}"),
    ids=lambda path: getattr(path, "name", "none"),
)
def test_slip_is_reported_on_its_line(path: Path, number: int) -> None:
    """A file with one slip is refused, and the report names the line of the slip."""
    slip, wrong, line = mutated(path, number)

    config, report = load(wrong, path.name, REGISTRY)

    assert config is None, f"{slip} on line {line} went unnoticed:\n{wrong}"
    named = {int(said.split(":")[1]) for said in report.mistake_lines()}
    assert line in named, f"{slip} on line {line}, reported were {report.mistake_lines()}:\n{wrong}"
