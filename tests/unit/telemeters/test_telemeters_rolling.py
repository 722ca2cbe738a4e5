from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostmesh.telemeters.rolling import RollingFile, RollPolicy

UTC = UTC


class Clock:
    """Wall time as a text that the test sets."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self) -> float:
        return datetime.fromisoformat(self.text).replace(tzinfo=UTC).timestamp()


def names(folder: Path) -> dict[str, str]:
    return {entry.name: entry.read_text() for entry in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("never", RollPolicy("never")),
        ("Hourly", RollPolicy("hourly")),
        (" daily ", RollPolicy("daily")),
        ("sigHUP", RollPolicy("sighup")),
        ("weekly(7)", RollPolicy("weekly", weekday=7)),
        ("3.megabytes", RollPolicy("size", size=3 << 20)),
        ("1.Kilobyte", RollPolicy("size", size=1024)),
        ("10.bytes", RollPolicy("size", size=10)),
    ],
)
def test_policies_are_read_as_linkerd_writes_them(text: str, policy: RollPolicy) -> None:
    """Each form of the key is understood, in any case."""
    assert RollPolicy.read(text) == policy


@pytest.mark.parametrize(
    "text", ["", "weekly", "weekly(0)", "weekly(8)", "0.bytes", "3mb", "megabytes", "monthly"]
)
def test_other_policies_are_refused(text: str) -> None:
    """What is no policy is refused with what would be one."""
    with pytest.raises(ValueError, match="expected never, hourly, daily"):
        RollPolicy.read(text)


@pytest.mark.parametrize(
    ("policy", "opened", "due"),
    [
        ("never", "2026-11-23T06:10:11", None),
        ("sighup", "2026-11-23T06:10:11", None),
        ("3.megabytes", "2026-11-23T06:10:11", None),
        ("hourly", "2026-12-31T23:10:11", "2027-01-01T00:00:00"),
        ("daily", "2026-12-31T23:10:11", "2027-01-01T00:00:00"),
        # 2026-11-23 is a Monday; 1 is Sunday.
        ("weekly(1)", "2026-11-23T06:10:11", "2026-11-29T00:00:00"),
        ("weekly(2)", "2026-11-23T06:10:11", "2026-11-30T00:00:00"),
        ("weekly(3)", "2026-11-23T06:10:11", "2026-11-24T00:00:00"),
        ("weekly(7)", "2026-11-23T06:10:11", "2026-11-28T00:00:00"),
    ],
)
def test_when_a_file_is_full_by_time(policy: str, opened: str, due: str | None) -> None:
    """A file ends at the next full hour, midnight, or midnight before its weekday."""
    expected = None if due is None else datetime.fromisoformat(due)

    assert RollPolicy.read(policy).next_roll(datetime.fromisoformat(opened)) == expected


@pytest.mark.parametrize(
    ("policy", "before", "after", "rolled"),
    [
        ("hourly", "2026-11-23T06:59:59", "2026-11-23T07:00:00", "access-20261123-06.log"),
        ("daily", "2026-11-23T23:59:59", "2026-11-24T00:00:00", "access-20261123.log"),
        ("weekly(3)", "2026-11-23T23:59:59", "2026-11-24T00:00:00", "access-20261123.log"),
    ],
)
def test_a_file_is_put_aside_when_its_time_is_over(
    tmp_path: Path, policy: str, before: str, after: str, rolled: str
) -> None:
    """The first write of a new period renames the file after the old one and begins afresh."""
    clock = Clock(before)
    file = RollingFile(str(tmp_path / "access.log"), RollPolicy.read(policy), clock, zone=UTC)
    file.write(b"a\n")
    clock.text = after
    file.write(b"b\n")
    file.write(b"c\n")
    file.close()

    assert names(tmp_path) == {rolled: "a\n", "access.log": "b\nc\n"}


def test_a_file_is_put_aside_before_it_grows_over_its_size(tmp_path: Path) -> None:
    """Under a size the file is rolled before a write would pass it; a write that is too big goes alone."""
    clock = Clock("2026-11-23T06:10:11")
    file = RollingFile(str(tmp_path / "access.log"), RollPolicy("size", size=4), clock, zone=UTC)
    for text in (b"a\n", b"b\n", b"c\n", b"longer\n", b"d\n"):
        file.write(text)
    file.close()

    assert names(tmp_path) == {
        "access-20261123-061011.log": "a\nb\n",
        "access-20261123-061011-1.log": "c\n",
        "access-20261123-061011-2.log": "longer\n",
        "access.log": "d\n",
    }


@pytest.mark.parametrize(("count", "kept"), [(-1, 3), (2, 2), (0, 0)])
def test_only_so_many_old_files_are_kept(tmp_path: Path, count: int, kept: int) -> None:
    """With a rotate count the oldest rolled files are deleted, and files of other names never."""
    (tmp_path / "access-notes.log").write_text("mine")
    clock = Clock("2026-11-20T00:00:00")
    file = RollingFile(str(tmp_path / "access.log"), RollPolicy("daily"), clock, rotate_count=count, zone=UTC)
    for day in (20, 21, 22, 23):
        clock.text = f"2026-11-{day}T01:00:00"
        file.write(f"{day}\n".encode())
        # Ages are told by modification time, and four files made in one millisecond have none to speak of.
        os.utime(tmp_path / "access.log", (clock(), clock()))
    file.close()

    rolled = [f"access-202611{day}.log" for day in (20, 21, 22)][3 - kept :]
    assert list(names(tmp_path)) == [*rolled, "access-notes.log", "access.log"]


def test_a_file_of_an_earlier_run_belongs_to_its_own_day(tmp_path: Path) -> None:
    """After a restart yesterday's lines are put aside under yesterday."""
    path = tmp_path / "access.log"
    path.write_text("old\n")
    yesterday = Clock("2026-11-22T23:00:00")()
    os.utime(path, (yesterday, yesterday))
    file = RollingFile(str(path), RollPolicy("daily"), Clock("2026-11-23T06:00:00"), zone=UTC)
    file.write(b"new\n")
    file.close()

    assert names(tmp_path) == {"access-20261122.log": "old\n", "access.log": "new\n"}


@pytest.mark.parametrize(("append", "left"), [(True, "old\nnew\n"), (False, "new\n")])
def test_append_decides_about_what_is_there(tmp_path: Path, append: bool, left: str) -> None:
    """Without append the file is emptied once, at the first write, and not when it is opened again."""
    path = tmp_path / "access.log"
    path.write_text("old\n")
    file = RollingFile(str(path), RollPolicy(), Clock("2026-11-23T06:00:00"), append=append, zone=UTC)
    file.write(b"ne")
    file.reopen()
    file.write(b"w\n")
    file.close()

    assert path.read_text() == left


def test_a_moved_file_is_left_when_asked_to_reopen(tmp_path: Path) -> None:
    """After the file was moved away, reopening writes to a new one under the old name."""
    path = tmp_path / "access.log"
    file = RollingFile(str(path), RollPolicy("sighup"), Clock("2026-11-23T06:00:00"), zone=UTC)
    file.write(b"a\n")
    path.rename(tmp_path / "access.log.1")
    file.write(b"b\n")
    file.reopen()
    file.write(b"c\n")
    file.close()

    assert names(tmp_path) == {"access.log.1": "a\nb\n", "access.log": "c\n"}


def test_the_folder_is_made(tmp_path: Path) -> None:
    """The first write makes the folders on the way."""
    folder = tmp_path / "var" / "log"
    file = RollingFile(str(folder / "access.log"), RollPolicy(), Clock("2026-11-23T06:00:00"), zone=UTC)
    file.write(b"a\n")
    file.close()
    assert names(folder) == {"access.log": "a\n"}


def test_a_failed_write_starts_afresh(tmp_path: Path) -> None:
    """When the folder cannot be had the write fails, and succeeds when it can."""
    folder = tmp_path / "later"
    folder.write_text("in the way")
    file = RollingFile(str(folder / "access.log"), RollPolicy(), Clock("2026-11-23T06:00:00"), zone=UTC)
    with pytest.raises(OSError, match="File exists"):
        file.write(b"a\n")

    folder.unlink()
    file.write(b"b\n")
    file.close()
    assert names(folder) == {"access.log": "b\n"}
