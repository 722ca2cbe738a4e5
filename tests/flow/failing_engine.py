"""An HTTP/2 engine with a bug, for what becomes of others then (Blame, design)."""

from __future__ import annotations

from typing import Any


class FailingEngine:
    """As the engine it stands for, until something is to be read, or sent."""

    def __init__(self, engine: Any, *, all_of_it: bool = False, writes: bool = False) -> None:
        self._engine = engine
        self._writes = writes
        """It is the sending that fails."""
        self._all_of_it = all_of_it
        """It does not even say GOAWAY."""

    def receive(self, data: bytes, now: float) -> None:
        if not self._writes:
            raise ZeroDivisionError("the engine's bug")
        self._engine.receive(data, now)

    def take(self) -> Any:
        if self._writes:
            raise ZeroDivisionError("the engine's bug")
        return self._engine.take()

    def goaway(self, *args: Any, **options: Any) -> None:
        if self._all_of_it:
            raise ZeroDivisionError("another of its bugs")
        self._engine.goaway(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
