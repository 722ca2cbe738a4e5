"""The daemon's own log: structlog over the standard library's loggers, JSON lines on standard error.

Loggers of libraries go the same way. Three things keep a log from hurting the daemon: a line that repeats is
limited, what looks like a secret is masked, and lines are written by a thread from a bounded queue, so that a
pipe that nobody reads costs lines and not traffic.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog
from attrs import define

MAX_LINES: Final = 10_000
"""Lines that may wait for the thread; about 5 MB."""

REPEATS: Final = 20
"""Lines of one event of one logger that are written per :data:`REPEAT_S`; the next one says how many were
not."""

REPEAT_S: Final = 10.0

MAX_EVENTS: Final = 1000
"""Events that are told apart for that. Our own are constants, so only a library that formats its messages
gets here."""

CLOSE_S: Final = 1.0
"""How long a stream may take for the last lines; one that is stuck must not hold the stop."""

LEVELS: Final = {
    "ALL": 1,
    "TRACE": 5,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
    "OFF": logging.CRITICAL + 50,
}
"""Linkerd's names for levels."""

_SECRETS: Final = (
    "authorization",
    "cookie",
    "token",
    "password",
    "secret",
    "private_key",
    "api_key",
    "apikey",
)
_QUIET: Final = ("hypercorn", "httpx", "httpcore", "hpack", "h2", "kazoo")
"""Libraries that say more at INFO than an operator wants."""

_TELLTALES: Final = ("hpack",)
"""Libraries that write down what they work on, Authorization and cookies included. What they say below WARNING is
never written, whatever level somebody sets (X7)."""

_Event = MutableMapping[str, Any]


def mask_secrets(_logger: object, _method: str, event: _Event) -> _Event:
    """Mask values whose key says that they are secret, mappings inside included."""
    for key, value in event.items():
        if any(word in key.lower() for word in _SECRETS):
            event[key] = "***"
        elif isinstance(value, Mapping):
            event[key] = mask_secrets(None, "", dict(value))
    return event


@define
class _Repeats:
    since: float
    written: int = 0
    suppressed: int = 0


class LimitRepeats:
    """Drops an event that one logger repeats more than :data:`REPEATS` times in :data:`REPEAT_S` seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[tuple[str, str], _Repeats] = {}

    def __call__(self, _logger: object, _method: str, event: _Event) -> _Event:
        key = (str(event.get("logger")), str(event.get("event")))
        now = self._now()
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= MAX_EVENTS:
                self._seen.clear()
            seen = self._seen[key] = _Repeats(now)
        if now - seen.since >= REPEAT_S:
            seen.since, seen.written = now, 0
        if seen.written >= REPEATS:
            seen.suppressed += 1
            raise structlog.DropEvent
        seen.written += 1
        if seen.suppressed:
            event["suppressed"] = seen.suppressed
            seen.suppressed = 0
        return event


def tells_no_secrets(record: logging.LogRecord) -> bool:
    """Whether a record may be written."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in _TELLTALES


class QueuedHandler(logging.Handler):
    """Puts formatted lines on a bounded queue; a thread writes them to a stream.

    ``dropped`` counts lines for which there was no room. :meth:`close` waits a little for what is queued.
    """

    def __init__(self, stream: TextIO, max_lines: int = MAX_LINES) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(max_lines)
        self._thread = threading.Thread(target=self._write, name="hostmesh-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1
        except structlog.DropEvent:
            pass
        except Exception:  # noqa: BLE001 - the log is the last place that may fail for what it is given
            self.dropped += 1

    def close(self) -> None:
        try:
            self._lines.put(None, timeout=CLOSE_S)
            self._thread.join(timeout=CLOSE_S)
        except queue.Full:
            # The stream is stuck, and the thread with it: it is a daemon thread and ends with the process.
            pass
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1


class Logs:
    """The configured log. One per process; :meth:`close` puts back what was there before."""

    def __init__(
        self, now: Callable[[], float], *, stream: TextIO | None = None, level: str = "INFO"
    ) -> None:
        for name in ("ALL", "TRACE", "OFF"):
            logging.addLevelName(LEVELS[name], name)
        self._handler = QueuedHandler(stream or sys.stderr)
        self._handler.addFilter(tells_no_secrets)
        shared: list[Any] = [
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            LimitRepeats(now),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_secrets,
        ]
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                *shared,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
            cache_logger_on_first_use=False,
        )
        self._handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=shared,
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.JSONRenderer(),
                ],
            )
        )
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(LEVELS[level])
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)

    def logger(self, name: str) -> Any:
        """The structlog logger of that name; it is also known to :meth:`levels` from now on."""
        logging.getLogger(name)
        return structlog.get_logger(name)

    @property
    def dropped(self) -> int:
        """Lines that were lost because the stream is stuck or gone."""
        return self._handler.dropped

    def levels(self) -> dict[str, str]:
        """The level in force by logger name, sorted; the root logger is ``root``."""
        known = logging.root.manager.loggerDict
        names = [name for name, logger in known.items() if isinstance(logger, logging.Logger)]
        shown = {"root": _level_name(logging.root.level)}
        shown.update((name, _level_name(logging.getLogger(name).getEffectiveLevel())) for name in names)
        return dict(sorted(shown.items()))

    def set_level(self, name: str, level: str) -> None:
        """Set a logger's level by Linkerd's word for it, in any case.

        Raises ValueError, saying what exists, for an unknown level or logger.
        """
        number = LEVELS.get(level.upper())
        if number is None:
            raise ValueError(f"level {level!r}: expected one of {', '.join(LEVELS)}")
        if name not in self.levels():
            raise ValueError(f"no logger {name!r}")
        logging.getLogger(None if name == "root" else name).setLevel(number)

    def close(self) -> None:
        """Write what is queued and give the root logger back."""
        root = logging.getLogger()
        root.handlers[:], level = self._before[0], self._before[1]
        root.setLevel(level)
        self._handler.close()
        structlog.reset_defaults()


def _level_name(level: int) -> str:
    exact = [name for name, number in LEVELS.items() if number == level]
    return exact[0] if exact else logging.getLevelName(level)
