"""Marathon's answers: application ids, and the endpoints of an application's tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostmesh.plugin import Path

MAX_APPS = 100_000
"""Applications of one master."""

MAX_TASKS = 50_000
"""Tasks of one application; the freshness contract takes no more endpoints."""

RUNNING = "TASK_RUNNING"


def app_ids(answer: Any) -> frozenset[tuple[str, ...]]:
    """The ids in an answer of ``/v2/apps``, each as its segments. ValueError for what is no such answer."""
    apps = _of(answer, "apps", list)
    if len(apps) > MAX_APPS:
        raise ValueError(f"expected at most {MAX_APPS} applications, found {len(apps)}")
    found = set()
    for app in apps:
        id = app.get("id") if isinstance(app, dict) else None
        if isinstance(id, str) and id.strip("/"):
            found.add(tuple(id.strip("/").split("/")))
    return frozenset(found)


def name_in(ids: frozenset[tuple[str, ...]], path: Path) -> Path | None:
    """The shortest beginning of ``path`` that is an application's id, as Linkerd has it."""
    for count in range(1, len(path) + 1):
        if tuple(path.take(count)) in ids:
            return path.take(count)
    return None


def places(answer: Any, *, use_health_check: bool) -> list[tuple[str, int]]:
    """Host and port of each task of an application, in an answer of ``/v2/apps/<id>``; hosts may be names.

    A task's first port on its agent counts, or, where the application has addresses of its own (``ipAddress``), its
    first address with the first discovery port. With ``use_health_check`` only tasks that run, and of whose checks all
    have a good result. ValueError for what is no such answer.
    """
    app = _of(answer, "app", dict)
    tasks = app.get("tasks")
    if not isinstance(tasks, list):
        raise ValueError("expected an application with its tasks, found none")
    if len(tasks) > MAX_TASKS:
        raise ValueError(f"expected at most {MAX_TASKS} tasks, found {len(tasks)}")
    checks = app.get("healthChecks")
    wanted = len(checks) if use_health_check and isinstance(checks, list) else 0
    discovery = _discovery_port(app)
    found = []
    for task in tasks:
        if not isinstance(task, dict) or (use_health_check and not _is_healthy(task, wanted)):
            continue
        place = _place(task, discovery)
        if place is not None:
            found.append(place)
    return found


def _is_healthy(task: Mapping[str, Any], wanted: int) -> bool:
    results = task.get("healthCheckResults")
    results = results if isinstance(results, list) else []
    alive = sum(isinstance(result, dict) and result.get("alive") is True for result in results)
    return task.get("state", RUNNING) == RUNNING and alive == wanted


def _place(task: Mapping[str, Any], discovery: int | None) -> tuple[str, int] | None:
    host, ports = task.get("host"), task.get("ports")
    port = ports[0] if isinstance(ports, list) and ports else None
    if discovery is not None:
        addresses = task.get("ipAddresses")
        first = addresses[0] if isinstance(addresses, list) and addresses else None
        host, port = first.get("ipAddress") if isinstance(first, dict) else None, discovery
    if isinstance(host, str) and isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536:
        return host, port
    return None


def _discovery_port(app: Mapping[str, Any]) -> int | None:
    value: Any = app
    for key in ("ipAddress", "discovery", "ports"):
        value = value.get(key) if isinstance(value, dict) else None
    first = value[0] if isinstance(value, list) and value else None
    number = first.get("number") if isinstance(first, dict) else None
    return number if isinstance(number, int) else None


def _of(answer: Any, key: str, type: type) -> Any:
    value = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(value, type):
        raise ValueError(f"expected a JSON object with {key!r}, found something else")
    return value
