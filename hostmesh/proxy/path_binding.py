"""What one dst path is bound to now: the branches that its requests draw from, and who waits for them.

Once bound, a path stays bound: through outages of what names it, and through reloads until the new configuration has
bound it as well.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from hostmesh.base.errors import MeshError
from hostmesh.base.reasons import Reason
from hostmesh.base.var import Activity, Failed, Ok, Pending, State
from hostmesh.naming.bound import BoundName, BoundTree, shares
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.proxy.branch import Branch
from hostmesh.routing.draw import WeightedDraw

if TYPE_CHECKING:
    from hostmesh.proxy.exchange import Exchange
    from hostmesh.proxy.router import Router

MAX_PARKED = 1000
"""Requests that may wait for one name to be bound; the next is answered 503 at once (hardening R7)."""


def _nothing() -> None:
    """Stands for the end of a binding that has ended."""


class PathBinding:
    """What :class:`hostmesh.proxy.path_stack.PathStack` is apart from its requests."""

    def __init__(
        self,
        *,
        router: Router,
        path: Path,
        local: Dtab,
        rng: Random,
        drop_branch: Callable[[Branch], None],
    ) -> None:
        self.router = router
        self.loop = router.loop
        self.path = path
        self.local = local
        self.text = path.show()
        self._random = rng.random
        self._drop_branch = drop_branch
        self.closed = False
        self.single: Branch | None = None
        """The only branch, when the bound tree is a leaf: most are, and then a request draws nothing."""
        self._branches: dict[BoundName, Branch] = {}
        self._draw: Callable[[float], int] = WeightedDraw([1.0]).draw
        self._drawn: list[Branch | None] = []
        self._bound = False
        self._state: State[BoundTree] = Pending()
        self._waiting: dict[Exchange, float] = {}
        self._moving: list[tuple[dict[BoundName, Branch], Callable[[Branch], None]]] = []
        """Branches of former configurations, and how to drop them; they serve until the new binding is there."""
        self._close_binding: Callable[[], object] = _nothing

    def attempt(self, ex: Exchange, now: float) -> None:
        """Draw a branch and dispatch; parks until the name is bound."""
        raise NotImplementedError

    def _make_branch(self, name: BoundName) -> Branch:
        """The branch of a name that it is bound to now and was not before."""
        raise NotImplementedError

    # -- what it is bound to --------------------------------------------------------------------------------------

    def _follow(self, binding: Activity[BoundTree]) -> None:
        """Watch what the path is bound to; what was watched before serves until then."""
        close_binding = self._close_binding
        # The new one first: what both of them watch stays watched, and is known at once.
        self._close_binding = binding.observe(self._rebound, initial=True)
        close_binding()

    def _remake(self, drop_branch: Callable[[Branch], None]) -> None:
        """Make the branches anew; those that are there serve until the next binding."""
        self._moving.append((self._branches, self._drop_branch))
        self._branches = {}
        self._drop_branch = drop_branch

    def _rebound(self, state: State[BoundTree]) -> None:
        if not isinstance(state, Ok):
            # Once bound, the last good tree is kept through Pending and Failed.
            if not self._bound:
                self._state = state
                if isinstance(state, Failed):
                    self._wake()
            return
        self._state = state
        self._bound = True
        tree = state.value
        old = self._branches
        fresh: dict[BoundName, Branch] = {}

        def branch(name: BoundName) -> Branch:
            known = fresh.get(name)
            if known is None:
                known = old.pop(name, None) or self._make_branch(name)
                fresh[name] = known
            return known

        # A branch that is bound to nothing keeps its share, and those requests fail (reference 2.5).
        parts = shares(tree)
        drawn = [None if name is None else branch(name) for _share, name in parts]
        self._branches = fresh
        self.single = drawn[0] if len(drawn) == 1 else None
        self._drawn = drawn
        self._draw = WeightedDraw([share for share, _name in parts]).draw
        for gone in old.values():
            self._drop_branch(gone)
        self._leave()
        self._wake()

    def _leave(self) -> None:
        """Drop the branches of former configurations."""
        moving, self._moving = self._moving, []
        for branches, drop in moving:
            for gone in branches.values():
                drop(gone)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for ex in waiting:
            ex.unparked()
            ex.router.guard(self.attempt, ex, self.loop.now())

    # -- who waits for it -----------------------------------------------------------------------------------------

    def _unbound(self, ex: Exchange, now: float) -> None:
        state = self._state
        if isinstance(state, Failed):
            ex.fail(self.unroutable(ex, Reason.REGISTRY_UNREACHABLE, state.cause))
        elif len(self._waiting) >= MAX_PARKED:
            ex.fail(
                MeshError(
                    Reason.LIMIT_PARKED,
                    f"{MAX_PARKED} requests already wait for {self.text} to be bound",
                    status=503,
                )
            )
        else:
            self._waiting[ex] = now
            ex.parked = True
            ex.retry_timer = self.loop.call_at(now + self.router.binding_timeout, self._binding_timed_out, ex)

    def _binding_timed_out(self, ex: Exchange) -> None:
        ex.retry_timer = None
        if ex.parked and self._waiting.pop(ex, None) is not None:
            ex.parked = False
            ex.fail(
                self.unroutable(
                    ex,
                    Reason.BINDING_TIMEOUT,
                    f"Exceeded {self.router.binding_timeout:g} seconds binding timeout "
                    f"while resolving name: {self.text}",
                    status=503,
                )
            )

    def unpark(self, ex: Exchange) -> None:
        self._waiting.pop(ex, None)
        ex.parked = False
        if ex.client is not None:
            ex.client.unpark(ex)

    # -- names that lead nowhere ----------------------------------------------------------------------------------

    def _bound_to_nothing(self, ex: Exchange) -> MeshError:
        if len(self._drawn) == 1:
            # Nobody waits for these answers, so they may cost a delegation.
            tree = self.router.interpreter.delegate(self.router.base_dtab + self.local, self.path)
            if tree.type == "neg" and tree.dentry is None:
                return self.unroutable(ex, Reason.NO_DENTRY, f"no dentry matches {self.text}")
            return self.unroutable(ex, Reason.NAME_NEGATIVE, f"{self.text} is bound to nothing")
        return self.unroutable(
            ex, Reason.NAME_NEGATIVE, f"{self.text} is bound to nothing in the branch that was drawn"
        )

    def unroutable(self, ex: Exchange, reason: Reason, why: str, status: int = 502) -> MeshError:
        """The error of a name that leads nowhere, with the dtabs that were followed (reference 8.5)."""
        lines = ["Unable to route request!", "", why, "", f"service name: {self.text}"]
        lines += ["dtab:", *[f"  {d}" for d in self.router.base_dtab_lines()]]
        if self.local:
            lines += ["override dtab:", *[f"  {d.show()};" for d in self.local.dentries]]
        lines += ["", f"try: hostmesh delegate FILE {self.text}, or GET /delegator.json on the admin port"]
        return MeshError(reason, "\n".join(lines), status=status)

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the binding and of every branch; exchanges in flight go on with what they hold."""
        if not self.closed:
            self.closed = True
            self._close_binding()
            self._close_binding = _nothing
            for branch in self._branches.values():
                self._drop_branch(branch)
            self._branches = {}
            self._leave()

    def explain(self) -> dict[str, object]:
        """For the admin API: what the name is bound to now."""
        return {
            "path": self.text,
            "local": self.local.show(),
            "bound": self._bound,
            "branches": [
                None if b is None else {"id": b.name.id.show(), "residual": b.name.residual.show()}
                for b in self._drawn
            ],
        }
