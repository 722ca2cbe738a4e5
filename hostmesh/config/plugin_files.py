"""Plugins in ``.py`` files that the configuration names under ``plugins``.

They run with the daemon's rights, so a file counts only if nobody else can have written it: it belongs to root or to
the daemon's user, and neither its group nor others may write to it. It is read once and what was read is what was
judged and what runs. Its config classes are known by their default ``kind``.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import attrs
from attrs import frozen

from hostmesh.base.plugin import PluginConfig
from hostmesh.config.registry import Registry
from hostmesh.config.report import Report
from hostmesh.config.shape import slot_of
from hostmesh.config.tree import Items, Scalar, Table
from hostmesh.registry.trusted_file import read_trusted

KEY: Final = "plugins"

MAX_BYTES: Final = 1024 * 1024
"""Of one file. Larger is no plugin but a slip of the path."""


@frozen
class PluginFile:
    """One file that was run."""

    path: str
    sha256: str
    module: ModuleType


_loaded: dict[str, PluginFile] = {}
"""By path: a reload runs a file again only if it has changed."""


def loaded() -> list[dict[str, str]]:
    """Which files run in this process, for the admin page."""
    return [{"file": file.path, "sha256": file.sha256} for file in _loaded.values()]


def add_plugin_files(root: Table, registry: Registry, report: Report) -> None:
    """Load what ``plugins`` names into ``registry``; mistakes go into the report.

    A relative path is relative to the folder of the configuration file.
    """
    listed = root.get(KEY)
    if not isinstance(listed, Items):
        return  # absent, or of a wrong shape, which the converter reports
    folder = Path(report.file).parent
    for index, item in enumerate(listed.items):
        if not isinstance(item, Scalar) or not isinstance(item.value, str):
            continue
        for problem in _add(os.path.abspath(folder / item.value), registry):
            report.mistake(item.line, (KEY, index), problem)


def _add(path: str, registry: Registry) -> list[str]:
    try:
        file = _load(path)
    except OSError as error:
        return [f"{path}: {error.strerror or error}"]
    except ValueError as error:
        return [f"{path}: {error}"]
    except Exception as error:  # noqa: BLE001 - anybody's code
        return [f"{path}: cannot be run: {_where(path, error)}{type(error).__name__}: {error}"]
    classes = _config_classes(file.module)
    if not classes:
        return [f"{path}: expected a config class with a kind, found none"]
    problems = []
    for kind, cls in classes.items():
        slot = slot_of(cls)
        if slot is None:
            problems.append(f"{path}: {cls.__name__}: expected the config of a namer or another plugin")
        elif not registry.add(slot, kind, cls):
            problems.append(f"{path}: {cls.__name__}: there is a {slot} {kind!r} already")
    return problems


def _load(path: str) -> PluginFile:
    source = read_trusted(path, MAX_BYTES)
    digest = hashlib.sha256(source).hexdigest()
    known = _loaded.get(path)
    if known is not None and known.sha256 == digest:
        return known
    # Annotations are evaluated in the module's names, which are looked up here.
    name = f"hostmesh_plugin_{Path(path).stem}_{digest[:12]}"
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    try:
        exec(compile(source, path, "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    file = _loaded[path] = PluginFile(path, digest, module)
    return file


def _config_classes(module: ModuleType) -> dict[str, type[PluginConfig]]:
    """The config classes that the file itself defines, by their default ``kind``."""
    found = {}
    for value in vars(module).values():
        if not (isinstance(value, type) and issubclass(value, PluginConfig)):
            continue
        kind = attrs.fields_dict(value)["kind"].default
        if value.__module__ == module.__name__ and isinstance(kind, str) and kind:
            found[kind] = value
    return found


def _where(path: str, error: BaseException) -> str:
    """``line 7: ``, where in the file it went wrong."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""
