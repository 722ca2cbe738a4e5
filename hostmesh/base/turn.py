"""The ready list: what is to be called soon, but not from within the call that asks for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class Turn:
    """A ready list. The pump drains it between batches; tests drain it by hand.

    ``wake`` is called when the list becomes non-empty, so that a sleeping pump gets up. ``on_error`` receives
    exceptions of callbacks: one broken observer must not starve the others.
    """

    __slots__ = ("on_error", "ready", "wake")

    def __init__(
        self,
        wake: Callable[[], None] | None = None,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        """What is to be run, in order; the pump looks here instead of asking, twice for every batch."""
        self.wake = wake
        self.on_error = on_error

    def __bool__(self) -> bool:
        return bool(self.ready)

    def call_soon(self, fn: Callable[..., object], *args: object) -> None:
        """Run ``fn(*args)`` in a later step of the owning thread, in the order of the calls."""
        self.ready.append((fn, args))
        if len(self.ready) == 1 and self.wake is not None:
            self.wake()

    def run(self, limit: int = 10_000) -> int:
        """Run what is ready, including what that makes ready, up to ``limit`` callbacks; return how many ran.

        The limit is a bound against observers that set each other for ever; the rest stays for the next call.
        """
        done = 0
        ready = self.ready
        while ready and done < limit:
            fn, args = ready.popleft()
            done += 1
            try:
                fn(*args)
            except Exception as error:
                if self.on_error is None:
                    raise
                self.on_error(error)
        return done
