from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hostmesh.daemon import logs as module
from hostmesh.daemon.logs import Logs, QueuedHandler


class Log:
    """A configured log on a list of lines, with a clock that stands."""

    def __init__(self) -> None:
        self.at = 0.0
        self.stream = io.StringIO()
        self.logs = Logs(lambda: self.at, stream=self.stream)

    def lines(self) -> list[dict[str, Any]]:
        """All lines; closes the log."""
        self.logs.close()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.logs.close()


def test_a_line_is_json_with_time_level_and_logger(log: Log) -> None:
    """Our loggers and those of libraries give the same kind of line."""
    log.logs.logger("hostmesh.x").info("started", port=4140)
    structlog.get_logger("hostmesh.admin").warning("odd")
    logging.getLogger("library").error("broken %s", "pipe")

    lines = log.lines()
    assert [line.pop("timestamp")[-1] for line in lines] == ["Z", "Z", "Z"]
    assert lines == [
        {"event": "started", "port": 4140, "logger": "hostmesh.x", "level": "info"},
        {"event": "odd", "logger": "hostmesh.admin", "level": "warning"},
        {"event": "broken pipe", "logger": "library", "level": "error"},
    ]


def test_an_exception_is_one_line_with_its_traceback(log: Log) -> None:
    """A traceback is a value of the line and not lines of its own."""
    try:
        raise ValueError("odd")
    except ValueError:
        log.logs.logger("hostmesh.x").exception("bug")

    [line] = log.lines()
    assert line["exception"].splitlines()[-1] == "ValueError: odd"


def test_levels_are_set_by_name_and_heard_at_once(log: Log) -> None:
    """A level counts for its logger and those below; ALL and OFF are levels."""
    above, below = log.logs.logger("hostmesh.p"), log.logs.logger("hostmesh.p.q")
    below.debug("unheard")
    log.logs.set_level("hostmesh.p", "debug")
    below.debug("heard")
    log.logs.set_level("hostmesh.p", "OFF")
    above.critical("unheard")
    log.logs.set_level("root", "error")

    levels = log.logs.levels()
    assert (levels["root"], levels["hostmesh.p"], levels["hostmesh.p.q"]) == ("ERROR", "OFF", "OFF")
    assert [line["event"] for line in log.lines()] == ["heard"]


@pytest.mark.parametrize(
    ("name", "level", "message"),
    [
        ("nobody", "INFO", "no logger 'nobody'"),
        ("root", "loud", "level 'loud': expected one of ALL, TRACE, DEBUG"),
    ],
)
def test_an_unknown_logger_or_level_is_refused(log: Log, name: str, level: str, message: str) -> None:
    """A mistake says what was found and expected."""
    with pytest.raises(ValueError, match=message):
        log.logs.set_level(name, level)


def test_libraries_are_quiet_at_first(log: Log) -> None:
    """Libraries that chat at INFO start at WARNING."""
    assert log.logs.levels()["httpx"] == "WARNING"


def test_r13_what_repeats_is_limited_and_the_rest_told(log: Log) -> None:
    """Of one event a number is written per interval; the next line says how many were not; others are not
    touched."""
    ours, library = log.logs.logger("hostmesh.x"), logging.getLogger("library")
    for _ in range(module.REPEATS + 5):
        ours.info("again")
        library.warning("again")
    ours.info("other")
    log.at = module.REPEAT_S
    ours.info("again")

    lines = log.lines()
    assert [line["logger"] for line in lines].count("library") == module.REPEATS
    assert [line["event"] for line in lines if line["logger"] == "hostmesh.x"] == (
        ["again"] * module.REPEATS + ["other", "again"]
    )
    assert [line["suppressed"] for line in lines if "suppressed" in line] == [5]


def test_the_number_of_events_told_apart_is_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many different events and all are forgotten, which writes more and never less."""
    monkeypatch.setattr(module, "MAX_EVENTS", 2)
    monkeypatch.setattr(module, "REPEATS", 1)
    for event in "abca":
        log.logs.logger("hostmesh.x").info(event)

    assert [line["event"] for line in log.lines()] == ["a", "b", "c", "a"]


def test_x7_secrets_are_masked(log: Log) -> None:
    """Values under keys that say so are not written, at any depth."""
    log.logs.logger("hostmesh.x").info(
        "sent", Authorization="Bearer x", headers={"Set-Cookie": "a", "host": "web"}, vault_token="t", port=1
    )

    [line] = log.lines()
    assert line["headers"] == {"Set-Cookie": "***", "host": "web"}
    assert (line["Authorization"], line["vault_token"], line["port"]) == ("***", "***", 1)


def test_x7_a_library_that_tells_headers_is_not_heard(log: Log) -> None:
    """hpack logs every field that it decodes; only its warnings are written, whatever its level."""
    telltale = logging.getLogger("hpack.hpack")
    telltale.setLevel(1)
    telltale.debug("Decoded %s", (b"authorization", b"Bearer x"))
    telltale.warning("odd")
    telltale.setLevel(logging.NOTSET)

    assert [line["event"] for line in log.lines()] == ["odd"]


class StuckStream(io.StringIO):
    """Takes nothing until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.free.wait(5)
        return super().write(text)


def test_r13_a_pipe_that_nobody_reads_costs_lines_and_not_time() -> None:
    """With a stuck stream lines over the bound are dropped and counted, and nobody waits."""
    stream = StuckStream()
    handler = QueuedHandler(stream, max_lines=2)
    lines = [logging.LogRecord("x", logging.INFO, "", 0, f"line {n}", None, None) for n in range(5)]
    handler.emit(lines[0])
    assert stream.entered.wait(5)
    for line in lines[1:]:
        handler.emit(line)

    assert handler.dropped == 2
    stream.free.set()
    handler.close()
    assert stream.getvalue() == "line 0\nline 1\nline 2\n"


def test_a_stream_that_breaks_is_counted() -> None:
    """Lines for a stream that is gone are counted as dropped."""
    stream = io.StringIO()
    stream.close()
    handler = QueuedHandler(stream)
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "line", None, None))
    handler.close()

    assert handler.dropped >= 1


def test_closing_gives_the_root_logger_back() -> None:
    """After close the standard library's log is as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    log = Log()
    assert log.logs.dropped == 0
    log.logs.close()

    assert (root.handlers, root.level) == before
