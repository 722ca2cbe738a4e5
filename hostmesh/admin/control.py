"""Pages about the process: alive, ready, who it is, what it was told, what its threads do; logging; shutdown."""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TypedDict
from urllib.parse import parse_qs

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hostmesh.admin.pages import READ, Page
from hostmesh.admin.replies import dumps, json_reply, paced, reply, text
from hostmesh.admin.view import View

_SECRET_KEY = re.compile(r"(?i)(.*(token|password|secret)|authorization|cookie|api_?key)$")

MASKED = "<redacted>"


class _Entry(TypedDict):
    kind: str
    name: str
    stack: list[str]


class ControlPages:
    """The pages that need no names and no metrics."""

    def __init__(self, view: View) -> None:
        self._view = view

    def pages(self) -> list[Page]:
        return [
            Page("/admin/ping", self._ping, "answers pong while the process lives"),
            Page(
                "/admin/ready",
                self._ready,
                "200 while this host should get new traffic, else 503 with the reason",
            ),
            Page("/admin/shutdown", self._shutdown, "POST: drain and exit", ("POST",)),
            Page("/admin/server_info", self._server_info, "version, start time, configuration file"),
            Page("/admin/loop.json", self._loop, "lag and load of the data path's loop"),
            Page("/admin/threads", self._threads, "what every thread and control task is doing"),
            Page("/admin/threads.json", self._threads_json, "the same as JSON"),
            Page("/config.json", self._config, "the running configuration, secrets masked"),
            Page(
                "/logging.json",
                self._logging,
                "log levels; POST logger and level to set one",
                (*READ, "POST"),
            ),
            Page("/favicon.ico", self._favicon, "nothing, cheaply"),
        ]

    async def _ping(self, _request: Request) -> Response:
        return reply("pong")

    async def _ready(self, _request: Request) -> Response:
        health = self._view.health()
        word = "ready" if health.ready else "not ready"
        return text(f"{word}: {health.reason}" if health.reason else word, 200 if health.ready else 503)

    async def _shutdown(self, _request: Request) -> Response:
        return _LastWord("draining\n", self._view.shutdown)

    async def _server_info(self, _request: Request) -> Response:
        return json_reply(dict(self._view.server_info()), pretty=True)

    async def _loop(self, _request: Request) -> Response:
        return json_reply(dict(self._view.loop()), pretty=True)

    async def _favicon(self, _request: Request) -> Response:
        return Response(status_code=204)

    async def _config(self, _request: Request) -> Response:
        return reply(
            dumps(masked(self._view.config_json()), pretty=True) + "\n", "application/json;charset=UTF-8"
        )

    async def _logging(self, request: Request) -> Response:
        levels = self._view.log_levels()
        if request.method != "POST":
            return json_reply([{"logger": name, "level": levels[name]} for name in sorted(levels)])
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        asked = {name: [value] for name, value in request.query_params.items()}
        fields = {**form, **asked}
        missing = [name for name in ("logger", "level") if name not in fields]
        if missing:
            return json_reply({"error": f"missing parameter: {', '.join(missing)}"}, 400)
        try:
            self._view.set_log_level(fields["logger"][-1], fields["level"][-1])
        except ValueError as error:
            return json_reply({"error": str(error), "loggers": sorted(levels)}, 400)
        return reply("")

    async def _threads(self, _request: Request) -> Response:
        def lines() -> Iterator[str]:
            for entry in _stacks():
                yield f"{entry['kind']} {entry['name']}\n{''.join(entry['stack'])}\n"

        return reply(await paced(lines()))

    async def _threads_json(self, _request: Request) -> Response:
        return json_reply(list(_stacks()))


class _LastWord(Response):
    """An answer that acts when it has been sent, or could not be: who asked for the end gets to know that it begins."""

    def __init__(self, body: str, then: Callable[[], None]) -> None:
        super().__init__(body, media_type="text/plain")
        self._then = then

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._then()


def masked(value: object) -> object:
    """A copy of plain data in which the text under keys that hold secrets is replaced."""
    if isinstance(value, dict):
        return {
            key: MASKED if isinstance(item, str) and _SECRET_KEY.match(str(key)) else masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value


def _stacks() -> Iterator[_Entry]:
    """Threads, then trio tasks from the root down. Function names and source lines only, never values."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield {"kind": "thread", "name": names.get(ident, str(ident)), "stack": traceback.format_stack(frame)}
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield {"kind": "task", "name": task.name, "stack": _task_stack(task)}
        waiting.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)


def _task_stack(task: trio.lowlevel.Task) -> list[str]:
    frames = [(frame, line) for frame, line in task.iter_await_frames()]
    summary = traceback.StackSummary.extract(iter(frames), limit=50)
    return summary.format()
