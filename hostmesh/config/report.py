"""Everything that is wrong with a file, in the order of its lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeAlias

from attrs import field, frozen, mutable

KeyPath: TypeAlias = tuple[str | int, ...]

MAX_FOUND = 60
"""Longest quotation from the file in a message, in characters: a pasted certificate must not flood the terminal."""

MAX_LISTED = 30
"""How many known keys or kinds a message lists when none is near; more helps nobody."""


def show_path(path: KeyPath) -> str:
    """``("routers", 0, "servers")`` as ``routers[0].servers``."""
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


def quote(text: str) -> str:
    """A piece of the file, quoted and cut to :data:`MAX_FOUND`, control characters escaped."""
    return repr(text if len(text) <= MAX_FOUND else text[: MAX_FOUND - 3] + "...")


_SECRET_KEY = re.compile(r"(?i)(.*(token|password|secret|credential)|auth|authInfo|api_?key)")

_FOUND = re.compile(
    r"found (?!nothing|a list|an empty|the key|the unknown key).*?(?=, (?:expected|taken)\b)", re.DOTALL
)


def holds_secret(key: str) -> bool:
    """Whether what stands under a key must not be repeated (rule X7 of docs/threat-model.md)."""
    return _SECRET_KEY.fullmatch(key) is not None


def _hidden(path: KeyPath, message: str) -> str:
    """The message without what was found, if that may be a part of a secret."""
    if any(isinstance(part, str) and holds_secret(part) for part in path):
        return _FOUND.sub("found something that is not shown here", message, count=1)
    return message


NEAR = 0.6
"""How alike two words must be (difflib's ratio) for one to be offered in place of the other."""

SURE = 0.8
"""How alike for going on as if the other had been written, to show what else is wrong."""


def nearest(word: str, known: Iterable[str], cutoff: float = NEAR) -> str | None:
    """The known word that was probably meant, or None. Case is ignored, as people do."""
    by_folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[close[0]] if close else None


def one_of(known: Iterable[str], near: str | None) -> str:
    """The ``expected ...`` half of a message about an unknown word."""
    if near is not None:
        return f"expected {near!r}"
    names = sorted(known)
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return f"expected one of: {listed}" if names else "expected none"


@frozen(order=True)
class Finding:
    """One line of a report. ``line`` counts from 1; 0 is the file as a whole."""

    line: int
    path: str
    message: str

    def render(self, file: str) -> str:
        place = f"{file}:{self.line}" if self.line else file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


@mutable
class Report:
    """What ``load`` found. ``mistakes`` refuse the file; ``warnings`` do not; ``unavailable`` refuse to *run* it."""

    file: str
    mistakes: list[Finding] = field(factory=list)
    warnings: list[Finding] = field(factory=list)
    unavailable: list[Finding] = field(factory=list)
    advice: list[Finding] = field(factory=list)
    """What is legal and mostly a slip; for ``hostmesh check``."""

    @property
    def ok(self) -> bool:
        return not self.mistakes

    def mistake(self, line: int, path: KeyPath, message: str) -> None:
        """Record what makes the file unusable: what was found, what was expected."""
        self.mistakes.append(Finding(line, show_path(path), _hidden(path, message)))

    def warn(self, line: int, path: KeyPath, message: str) -> None:
        """Record what is accepted and should be written differently."""
        self.warnings.append(Finding(line, show_path(path), _hidden(path, message)))

    def advise(self, line: int, path: KeyPath, message: str) -> None:
        """Record what is legal and should be thought about."""
        self.advice.append(Finding(line, show_path(path), message))

    def cannot_run(self, line: int, path: KeyPath, message: str) -> None:
        """Record what parses and cannot run in this version."""
        self.unavailable.append(Finding(line, show_path(path), message))

    def _lines(self, findings: list[Finding]) -> list[str]:
        # The same mistake can be met twice on the way (an alias used in two places): say it once.
        return [finding.render(self.file) for finding in sorted(set(findings))]

    def mistake_lines(self) -> list[str]:
        return self._lines(self.mistakes)

    def warning_lines(self) -> list[str]:
        return self._lines(self.warnings)

    def advice_lines(self) -> list[str]:
        return self._lines(self.advice)

    def unavailable_lines(self) -> list[str]:
        return self._lines(self.unavailable)
