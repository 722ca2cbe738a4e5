"""Which form of the data path runs, and that it is the one that can be read."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import pytest

from hostmesh import cli, core, core_build
from hostmesh.proxy import exchange

ROOT = Path(__file__).parents[2]


def test_the_kind_is_what_the_modules_are() -> None:
    """Where the library is there, the exchange is loaded from it."""
    assert exchange.__spec__ is not None
    compiled = isinstance(exchange.__spec__.loader, ExtensionFileLoader)

    assert core.kind() == ("compiled" if compiled else "pure")


def test_the_version_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a report of a bug says it, too."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])

    assert f"{core.kind()} core" in capsys.readouterr().out


def test_a_source_that_changed_is_stale(tmp_path: Path) -> None:
    """A module is stale if its source is another than that which was compiled; what runs as Python is not, and nor is
    what was only touched, or installed without its source."""
    built = tmp_path / "pump"
    built.mkdir()
    for name in ("same", "changed", "python", "gone"):
        (built / f"{name}.py").write_text(name)
        if name != "python":
            (built / f"{name}{EXTENSION_SUFFIXES[0]}").touch()
    digests = [f"{core.digest_of(file)}  {file.relative_to(tmp_path)}\n" for file in built.glob("*.py")]
    assert core.stale(tmp_path) == []
    (tmp_path / core.DIGESTS).write_text("".join(digests))
    assert core.stale(tmp_path) == []
    for name in ("changed", "python"):
        (built / f"{name}.py").write_text("another")
    (built / "same.py").touch()
    (built / "gone.py").unlink()

    assert core.stale(tmp_path) == ["pump/changed.py"]


def test_what_is_compiled_has_digests() -> None:
    """Of every module, as written by the build; and none where Python runs."""
    digests = ROOT / "hostmesh" / core.DIGESTS
    written = digests.read_text().splitlines() if core.kind() == "compiled" else []

    assert [f"hostmesh/{line.split()[1]}" for line in written] == (
        core_build.modules() if core.kind() == "compiled" else []
    )


COMPILED = core_build.modules()

PYTHON_BASES = frozenset({"MeshError", "ClientSettings"})
"""Classes of Python from which compiled modules inherit: exceptions and attrs classes, which are no structs."""


def test_what_is_compiled_exists() -> None:
    """The list of the build names modules that there are."""
    assert [name for name in COMPILED if not (ROOT / name).is_file()] == []
    assert len(COMPILED) == len(set(COMPILED)) > 50


def inherited(file: Path) -> Iterator[tuple[str, str]]:
    """For each class of a module and each base that is imported from hostmesh: the base and its module's file."""
    tree = ast.parse(file.read_text())
    origin = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hostmesh.")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in origin:
                    yield base.id, origin[base.id].replace(".", "/") + ".py"


def test_classes_are_compiled_with_their_bases() -> None:
    """A module that was split is listed with its parts: structs are made on top of structs, and a class of Python
    cannot inherit from one."""
    wrong = []
    for file in sorted((ROOT / "hostmesh").rglob("*.py")):
        name = str(file.relative_to(ROOT))
        for base, module in inherited(file):
            if base not in PYTHON_BASES and (name in COMPILED) != (module in COMPILED):
                missing = module if name in COMPILED else name
                wrong.append(f"hostmesh/core_build.py must list {missing}, because of {base}")

    assert wrong == []


def declared(node: ast.ClassDef) -> tuple[set[str], set[str]]:
    """The attributes that a class declares without a value in its body, and all that it has or sets."""
    bare = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.value is None
    }
    stored = {
        each.attr if isinstance(each, ast.Attribute) else each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute | ast.Name) and isinstance(each.ctx, ast.Store)
    }
    return bare, bare | stored


def test_attributes_are_declared_once() -> None:
    """The collector counts an attribute twice that a compiled class declares and its base has, and frees no cycle of
    which it is a part.
    """
    trees = [ast.parse((ROOT / name).read_text()) for name in COMPILED]
    classes = {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    twice = []
    for name, node in classes.items():
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        while bases:
            base = classes.get(bases.pop())
            if base is not None:
                bases += [each.id for each in base.bases if isinstance(each, ast.Name)]
                twice += [f"{name}.{each}" for each in declared(node)[0] & declared(base)[1]]

    assert twice == []


def test_unions_with_protocols_are_declared_in_init() -> None:
    """In the body of a class mypy takes them for the protocol, and mypyc forgets that they begin as None."""
    wrong = []
    for name in COMPILED:
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            for each in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(each, ast.AnnAssign) and re.search(r"\bAny[A-Z]", ast.unparse(each.annotation)):
                    wrong.append(f"{name}: {ast.unparse(each)}")

    assert wrong == []


def test_nothing_of_mypy_is_needed_to_run() -> None:
    """Neither as Python nor compiled: it is a dependency of developers."""
    code = "import sys, hostmesh.proxy.h2_caller, hostmesh.proxy.h2_client; print('mypy_extensions' in sys.modules)"

    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
