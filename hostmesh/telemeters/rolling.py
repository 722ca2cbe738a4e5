"""A log file that is rolled by time, by size or on request, as Linkerd's access log is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import BinaryIO, Final, Literal

from attrs import frozen

_UNITS: Final = {"byte": 0, "kilobyte": 1, "megabyte": 2, "gigabyte": 3, "terabyte": 4}
_SIZE: Final = re.compile(r"([0-9]+)\.(byte|kilobyte|megabyte|gigabyte|terabyte)s?")
_WEEKLY: Final = re.compile(r"weekly\(([1-7])\)")


@frozen
class RollPolicy:
    """When a file is put aside and a new one begun. Times are local."""

    kind: Literal["never", "hourly", "daily", "weekly", "sighup", "size"] = "never"
    weekday: int = 1
    """For weekly: the day that begins a new file, 1 is Sunday and 7 Saturday."""
    size: int = 0
    """For size: bytes."""

    @classmethod
    def read(cls, text: str) -> RollPolicy:
        """``never``, ``hourly``, ``daily``, ``sighup``, ``weekly(n)`` or ``3.megabytes``, in any case.

        Raises ValueError, saying what is expected, for anything else.
        """
        word = text.strip().lower()
        if word == "never":
            return cls("never")
        if word == "hourly":
            return cls("hourly")
        if word == "daily":
            return cls("daily")
        if word == "sighup":
            return cls("sighup")
        if (match := _WEEKLY.fullmatch(word)) is not None:
            return cls("weekly", weekday=int(match[1]))
        if (match := _SIZE.fullmatch(word)) is not None and int(match[1]) > 0:
            return cls("size", size=int(match[1]) << (10 * _UNITS[match[2]]))
        raise ValueError(
            f"roll policy {text!r}: expected never, hourly, daily, sighup, weekly(1) to weekly(7), "
            "or a size such as 3.megabytes"
        )

    def next_roll(self, opened: datetime) -> datetime | None:
        """When a file that was opened at this local time is full by time; None if never."""
        midnight = opened.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.kind == "hourly":
            return opened.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        if self.kind == "daily":
            return midnight + timedelta(days=1)
        if self.kind == "weekly":
            today = (midnight.weekday() + 1) % 7 + 1
            return midnight + timedelta(days=(self.weekday - today - 1) % 7 + 1)
        return None

    def suffix(self, opened: datetime) -> str:
        """What the name of a rolled file says about when it was begun."""
        formats = {"hourly": "%Y%m%d-%H", "daily": "%Y%m%d", "weekly": "%Y%m%d", "size": "%Y%m%d-%H%M%S"}
        return opened.strftime(formats.get(self.kind, "%Y"))


class RollingFile:
    """The file of a path under a policy.

    Nothing is touched before the first write, which makes the folder, too. All methods but :meth:`reopen` belong to
    one thread at a time; the owner calls :meth:`close`. ``wall`` gives seconds since the epoch, ``zone`` is None for
    the machine's.
    """

    def __init__(
        self,
        path: str,
        policy: RollPolicy,
        wall: Callable[[], float],
        *,
        append: bool = True,
        rotate_count: int = -1,
        zone: tzinfo | None = None,
    ) -> None:
        self._path = Path(path)
        self._policy = policy
        self._wall = wall
        self._append = append
        self._rotate_count = rotate_count
        self._zone = zone
        self._file: BinaryIO | None = None
        self._opened = datetime.min
        self._roll_at: datetime | None = None
        self._reopen = False

    def reopen(self) -> None:
        """Close and open again before the next write: somebody moved the file. Any thread may call it, any
        time."""
        self._reopen = True

    def write(self, data: bytes) -> None:
        """Append some lines, rolled before if it is time. Raises OSError; the next write then starts
        afresh."""
        try:
            now = self._local(self._wall())
            if self._reopen:
                self._reopen = False
                self.close()
            file = self._file or self._open(now)
            if self._is_due(now, file, len(data)):
                self.close()
                self._roll()
                file = self._open(now)
            file.write(data)
            file.flush()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file if it is open; a later write opens it again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _local(self, wall: float) -> datetime:
        return datetime.fromtimestamp(wall, self._zone)

    def _open(self, now: datetime) -> BinaryIO:
        # As Linkerd does; its own examples log to a folder that nobody makes.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self._path, "ab" if self._append else "wb")  # noqa: SIM115
        # Only a fresh start may empty the file, never a reopening.
        self._append = True
        self._file = file
        self._opened = now
        if file.tell() > 0:
            # Left by an earlier run, perhaps yesterday: its lines belong to the period they were written in.
            self._opened = min(now, self._local(os.fstat(file.fileno()).st_mtime))
        self._roll_at = self._policy.next_roll(self._opened)
        return file

    def _is_due(self, now: datetime, file: BinaryIO, more: int) -> bool:
        if self._policy.kind == "size":
            return file.tell() > 0 and file.tell() + more > self._policy.size
        return self._roll_at is not None and now >= self._roll_at

    def _roll(self) -> None:
        stem, extension = self._path.stem, self._path.suffix
        name = f"{stem}-{self._policy.suffix(self._opened)}"
        target = self._path.with_name(name + extension)
        again = 0
        while target.exists():
            # Two files of one period, after a restart: the older one must not be overwritten.
            again += 1
            target = self._path.with_name(f"{name}-{again}{extension}")
        self._path.rename(target)
        if self._rotate_count >= 0:
            self._forget(stem, extension)

    def _forget(self, stem: str, extension: str) -> None:
        rolled = re.compile(re.escape(stem) + r"-\d{4}[\d-]*" + re.escape(extension))
        found = [entry for entry in self._path.parent.iterdir() if rolled.fullmatch(entry.name)]
        found.sort(key=lambda entry: (entry.stat().st_mtime, entry.name))
        for entry in found[: len(found) - self._rotate_count]:
            entry.unlink(missing_ok=True)
