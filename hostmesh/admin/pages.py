"""A page: a path, the methods it takes, and a function from request to response; and the table that finds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from hostmesh.admin.replies import text

Answer: TypeAlias = Callable[[Request], Awaitable[Response]]

READ = ("GET", "HEAD")


@frozen
class Page:
    """One entry of the table; ``about`` is its line in the index at ``/admin``."""

    path: str
    answer: Answer
    about: str
    methods: tuple[str, ...] = READ


class Table:
    """Pages by exact path.

    A dict, not a list of patterns: two pages with one path are a mistake that shows when the table is made, and the
    few pages with a name in their path are found by their own code.
    """

    def __init__(self, pages: Iterable[Page]) -> None:
        self.pages: dict[str, Page] = {}
        for page in pages:
            if page.path in self.pages:
                raise ValueError(f"two admin pages for {page.path}")
            self.pages[page.path] = page

    async def answer(self, request: Request) -> Response | None:
        """None if there is no such page."""
        page = self.pages.get(request.scope["path"])
        if page is None:
            return None
        if request.method not in page.methods:
            return wrong_method(page.methods)
        return await page.answer(request)


def not_found() -> Response:
    """Also what ``security`` refuses with: a refused page must not be told from a missing one."""
    return text("Not Found", 404)


def wrong_method(methods: tuple[str, ...]) -> Response:
    return text("Method Not Allowed", 405, allow=", ".join(methods))


def flag(request: Request, name: str) -> bool:
    """A yes/no query parameter as Linkerd 1 takes it: ``?pretty=true``, ``?tree=1``."""
    return request.query_params.get(name, "").lower() in ("1", "true")
