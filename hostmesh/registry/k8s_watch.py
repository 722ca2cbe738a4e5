"""One list of Kubernetes objects, kept up to date: list, then watch from there, for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from hostmesh.base.backoff import Decorrelated
from hostmesh.registry.k8s_objects import GONE, BadAnswerError, Lines, Listing, RefusedError, newest

if TYPE_CHECKING:
    from hostmesh.registry.k8s_client import Http, K8sClient, Selection

RESYNC_S: Final = 600.0
"""Seconds after which a list repairs whatever events have missed, even if nothing seems to be wrong."""

SHORT_S: Final = 1.0
"""A watch that a server ends sooner, without any event, counts as an attempt: the next waits for the backoff."""

BACKOFF: Final = Decorrelated(0.05, 1.0)

UNKNOWN: Final = 401
"""The server does not know who asks."""


class Follower(Protocol):
    """Who follows a watch. Called on the trio thread, in the order of what happens."""

    def known(self, values: tuple[Any, ...], version: str) -> None:
        """These are all objects now."""
        ...

    def confirmed(self) -> None:
        """Nothing has changed."""
        ...

    def failed(self, cause: str, status: int | None) -> None:
        """The server cannot tell; ``status`` if it is the server who says so."""
        ...


class Watch:
    """Runs while it has followers; see :meth:`K8sClient.watch`."""

    def __init__(self, client: K8sClient, selection: Selection) -> None:
        self.client = client
        self.selection = selection
        self.listing: Listing[Any] = Listing(selection.digest)
        self.cause: str | None = None
        self.status: int | None = None
        self.is_known = False
        """Whether there has been a complete list."""
        self.is_following = False
        self.events = 0
        self.begun = 0
        """Watches that the server has accepted, one after the other."""
        self._followers: list[Follower] = []
        self._stop: Callable[[], None] | None = None
        self._attempt: trio.CancelScope | None = None
        self._listed_at = 0.0

    def follow(self, follower: Follower) -> Callable[[], None]:
        """Tell ``follower`` what is known, now and from now on, until the returned function is called."""
        self._followers.append(follower)
        if self._stop is None:
            self.client.keep(self)
            self._stop = self.client.tasks.start(self.run)
        elif self.cause is not None:
            follower.failed(self.cause, self.status)
        elif self.is_known:
            follower.known(self.listing.values, self.listing.version)

        def close() -> None:
            if follower in self._followers:
                self._followers.remove(follower)
                if not self._followers:
                    self._end()

        return close

    def _end(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None
        self.client.drop(self)
        self.listing = Listing(self.selection.digest)
        self.is_known = self.is_following = False
        self.cause = self.status = None

    def lost(self, cause: str) -> None:
        """The server is not there: what this watch waits for will not come."""
        self._failed(cause, None)
        if self._attempt is not None:
            self._attempt.cancel()

    # What followers hear.

    def _known(self) -> None:
        self.is_known = True
        self.cause = self.status = None
        values, version = self.listing.values, self.listing.version
        for follower in tuple(self._followers):
            follower.known(values, version)

    def _confirmed(self) -> None:
        for follower in tuple(self._followers):
            follower.confirmed()

    def _failed(self, cause: str, status: int | None) -> None:
        # What has been missed meanwhile only a list can tell.
        self.listing.forget()
        self.is_following = False
        self.cause, self.status = cause, status
        for follower in tuple(self._followers):
            follower.failed(cause, status)

    # The loop.

    async def run(self) -> None:
        """List and watch until cancelled; whatever goes wrong is told to the followers and tried again."""
        client = self.client
        delays = BACKOFF.delays(client.rng)
        while True:
            if client.trouble is not None:
                self._failed(client.trouble, None)
                await client.wait_well()
            began = client.env.now()
            lively = False
            with trio.CancelScope() as self._attempt:
                lively = await self._try()
            self._attempt = None
            self.is_following = False
            if lively or client.env.now() - began >= SHORT_S:
                delays = BACKOFF.delays(client.rng)
            await trio.sleep(next(delays))

    async def _try(self) -> bool:
        """One connection. Returns whether it was of any use."""
        try:
            async with self.client.connected() as http:
                while True:
                    if not self.listing.version or self._is_resync_due():
                        await self._list(http)
                    if not await self._follow(http):
                        return False
                    if not self.client.is_fresh(http):
                        return True
        except RefusedError as refused:
            if refused.status == GONE:
                # No failure: the list that follows says what is there now.
                self.client.gone += 1
                self.listing.forget()
            else:
                if refused.status == UNKNOWN:
                    self.client.renounce()
                self._failed(f"{self.selection.path}: {refused}", refused.status)
        except self.client.errors as error:
            cause = self.client.cause_of(error)
            if self.is_following and not isinstance(error, BadAnswerError):
                # A stream was cut. Whether the server is there shows at the next attempt, which is at once.
                self.listing.forget()
                return True
            self._failed(cause, None)
            self.client.suspect()
        except Exception as error:  # noqa: BLE001 - else nobody would follow, and the name be silently stale
            self._failed(f"{type(error).__name__}: {error}", None)
            self.client.report("k8s.watch_broken", {"watch": self.selection.show(), "error": repr(error)})
        return False

    def _is_resync_due(self) -> bool:
        return self.client.env.now() - self._listed_at >= RESYNC_S

    async def _list(self, http: Http) -> None:
        self.listing.forget()
        async with self.client.lists:
            pages = await http.list(self.selection, cached=True)
            if newest(pages) < self.listing.newest:
                # Another server, whose memory is behind what is known already; or one restored from a backup. What is
                # stored decides.
                pages = await http.list(self.selection, cached=False)
        self.listing.replace(pages)
        self._listed_at = self.client.env.now()
        self.client.listed += 1
        self._known()

    async def _follow(self, http: Http) -> bool:
        """Follow changes until the server ends the watch. Returns whether there was any, or it took its time."""
        env = self.client.env
        began, before = env.now(), self.events
        seconds = max(1, round(self.client.watch_s * (1 - 0.2 * self.client.rng.random())))
        async with http.watch(self.selection, self.listing.version, seconds) as stream:
            self.is_following = True
            self.begun += 1
            lines = Lines()
            async for part in stream:
                self._take(lines.feed(part))
        self.is_following = False
        return self.events > before or env.now() - began >= SHORT_S

    def _take(self, lines: list[bytes]) -> None:
        """What arrived together is told together."""
        changed = False
        try:
            for line in lines:
                self.events += 1
                changed = self.listing.event(line) or changed
        finally:
            # An event that is none does not take back those before it.
            if changed:
                self._known()
            elif lines:
                self._confirmed()
