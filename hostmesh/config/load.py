"""The way in: from the text of a file to a checked :class:`LinkerConfig`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import attrs

from hostmesh.base.errors import ConfigError
from hostmesh.config.convert import BAD, Converter, Made
from hostmesh.config.crosscheck import crosscheck
from hostmesh.config.lint import lint
from hostmesh.config.model import LinkerConfig
from hostmesh.config.plugin_files import add_plugin_files
from hostmesh.config.registry import Registry
from hostmesh.config.report import KeyPath, Report, show_path
from hostmesh.config.shape import fields_of
from hostmesh.config.source import MAX_BYTES, read_source
from hostmesh.config.tls import CertificateFiles, ClientTlsConfig, ServerTlsConfig
from hostmesh.config.tree import Node, Table, line_at

STDIN = "-"
"""The file name that stands for standard input."""


class UnreadableError(ConfigError):
    """There is no file to find mistakes in."""


def load(
    text: str | bytes, filename: str, registry: Registry | None = None, *, advice: bool = False
) -> tuple[LinkerConfig | None, Report]:
    """Parse and check a configuration. Never raises for what is in it.

    The config is None exactly if the report has mistakes. ``filename`` is only for messages. Without ``registry``, the
    kinds of the installed distributions are known; ConfigError if two of them offer one kind. ``advice`` is for people
    who ask what could be better; it looks at the key files that are named.
    """
    report = Report(filename)
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    root = read_source(data, report)
    if root is None:
        return None, report
    if registry is None:
        registry = Registry.installed()
    if isinstance(root, Table):
        add_plugin_files(root, registry, report)
    converter = Converter(report, registry)
    config = converter.table(LinkerConfig, root, ())
    if config is not BAD:
        crosscheck(report, root, converter.made)
    if config is BAD or not report.ok:
        return None, report
    if advice:
        lint(report, root, converter.made)
    found = attrs.evolve(
        config,
        file=filename,
        unavailable_lines=tuple(report.unavailable_lines()),
        lines=file_lines(root, converter.made),
    )
    return found, report


def file_lines(root: Node, made: Sequence[Made]) -> dict[str, int]:
    """The line of every key that may name a file of TLS: what is wrong with the file is found out when it runs."""
    lines = {}
    for each in made:
        if isinstance(each.value, CertificateFiles | ClientTlsConfig | ServerTlsConfig):
            kind: Any = type(each.value)
            for known in fields_of(kind):
                path: KeyPath = (*each.path, known.key)
                lines[show_path(path)] = line_at(root, path)
    return lines


def read_file(filename: str) -> bytes:
    """The bytes of a file or of standard input (``-``); UnreadableError, a ConfigError, if it cannot be read.

    Reads at most one byte more than a config may have, so that ``check /dev/zero`` ends with a message.
    """
    try:
        if filename == STDIN:
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with FilePath(filename).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"{filename}: cannot be read: {error.strerror or error}") from error


def load_file(filename: str, registry: Registry | None = None) -> tuple[LinkerConfig, Report]:
    """Read, parse and check a file (``-`` is standard input); the report may hold warnings.

    ConfigError, one line per mistake, if the file cannot be read or used.
    """
    config, report = load(read_file(filename), "stdin" if filename == STDIN else filename, registry)
    if config is None:
        raise ConfigError("\n".join(report.mistake_lines()))
    return config, report
