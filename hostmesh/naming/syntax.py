"""The characters of paths, prefixes, name trees and dtabs, and the scanner that reads them.

Paths, trees and dtabs share one lexical grammar, so they share one scanner. Segments are bytes on the wire;
here they are ``str``, decoded as UTF-8 with ``surrogateescape``, which is what Python gives for file names
and what turns back into exactly the bytes it came from.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

SEGMENT_CHARS: Final = "0-9A-Za-z_:.#$%-"
"""What a segment may show as itself; a segment with anything else is shown wholly as ``\\xHH``."""

PLAIN_SEGMENT: Final = re.compile(f"[{SEGMENT_CHARS}]+")
PLAIN_PATH: Final = re.compile(f"(?:/[{SEGMENT_CHARS}]+)+")

MAX_NESTING: Final = 50
"""Parentheses inside parentheses in one tree. People write two or three; a request header could write
thousands, and trees are walked recursively.
"""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SEGMENT: Final = re.compile(rf"(?:[{SEGMENT_CHARS}]|\\x[0-9A-Fa-f]{{2}})+")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_ESCAPE: Final = re.compile(rb"\\x([0-9A-Fa-f]{2})")


class DtabError(ValueError):
    """Text that is not a path, tree or dtab. ``line`` and ``column`` count from 1 and point at the first bad
    character.
    """

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


def segment_text(segment: str) -> str:
    """The segment as it is written in a path."""
    if PLAIN_SEGMENT.fullmatch(segment):
        return segment
    return "".join(f"\\x{byte:02x}" for byte in segment.encode("utf-8", "surrogateescape"))


def segment_value(text: str) -> str:
    """The segment that is written as ``text``, which has matched the grammar."""
    if "\\" not in text:
        return text
    raw = _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")


def canonical_segment(segment: str) -> str:
    """The one ``str`` for these bytes; ValueError if it is empty or no bytes decode to it."""
    if not segment:
        raise ValueError("a path segment cannot be empty")
    if segment.isascii():
        return segment
    return segment.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


class Scanner:
    """Reads tokens from left to right. ``text[at:]`` is what is left."""

    __slots__ = ("at", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raise DtabError for the character at ``at``, by default the next one."""
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        raise DtabError(message, line, column)

    def found(self) -> str:
        """What comes next, for messages."""
        if self.at >= len(self.text):
            return "the end"
        return repr(self.text[self.at])

    def blank(self) -> None:
        """Skip white space and comments."""
        skipped = _BLANK.match(self.text, self.at)
        if skipped is not None:
            self.at = skipped.end()

    def peek(self) -> str:
        """The next character, or ``""`` at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, token: str) -> bool:
        """Step over ``token`` if it comes next."""
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def expect(self, token: str, where: str) -> None:
        if not self.take(token):
            self.fail(f"expected '{token}' {where}, found {self.found()}")

    def number(self) -> float | None:
        """A weight, if one comes next."""
        matched = _NUMBER.match(self.text, self.at)
        if matched is None:
            return None
        value = float(matched[0])
        if value == float("inf"):
            self.fail("this weight is too large")
        self.at = matched.end()
        return value

    def segments(self, *, wildcards: bool = False) -> list[str | None]:
        """A path, its segments; with ``wildcards`` an element ``*`` is None. Comments cannot stand inside a
        path.
        """
        if not self.take("/"):
            self.fail(f"expected a path, which starts with '/', found {self.found()}")
        segments: list[str | None] = []
        while True:
            matched = _SEGMENT.match(self.text, self.at)
            if matched is not None:
                self.at = matched.end()
                segments.append(segment_value(matched[0]))
                if self.peek() == "\\":
                    self.fail("expected an escape of the form \\xHH")
            elif wildcards and self.take("*"):
                segments.append(None)
            elif not segments and self._at_end_of_path():
                return segments
            elif self.peek() == "*":
                self.fail("'*' stands for a whole element, and only in the prefix of a dentry")
            elif self.peek() == "\\":
                self.fail("expected an escape of the form \\xHH")
            else:
                self.fail(f"expected a path segment after '/', found {self.found()}")
            if not self.take("/"):
                return segments

    def _at_end_of_path(self) -> bool:
        return self.peek() in ("", " ", "\t", "\r", "\n", ";", "|", "&", "=", ")")

    def end(self, what: str) -> None:
        """Fail unless everything has been read."""
        if self.at < len(self.text):
            self.fail(f"unexpected {self.found()} after {what}")
