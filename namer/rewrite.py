"""``io.l5d.rewrite``: names that are other names, by pattern."""

from __future__ import annotations

from attrs import frozen

from hostmesh.plugin import (
    NEG,
    Activity,
    Leaf,
    LookupTree,
    Matcher,
    NamerConfig,
    NamerDeps,
    Ok,
    Path,
    State,
    Turn,
    Var,
    substituted,
    variables_of,
)


class RewriteNamer:
    """Answers a path that matches the pattern with another path, which is resolved through the dtab again.

    What follows the pattern in the path is dropped, as in Linkerd.
    """

    def __init__(self, turn: Turn, prefix: Path, pattern: Matcher, name: str) -> None:
        self.prefix = prefix
        self._turn = turn
        self._pattern = pattern
        self._name = name
        self._observed: dict[Path, Var[State[LookupTree]]] = {}

    def lookup(self, path: Path) -> Activity[LookupTree]:
        """The rewritten path, or Neg; it never changes."""
        known = self._observed.get(path)
        if known is not None:
            return known

        def keep() -> None:
            self._observed.setdefault(path, answer)

        def drop() -> None:
            if self._observed.get(path) is answer:
                del self._observed[path]

        state: State[LookupTree] = Ok(self._rewritten(path))
        answer: Var[State[LookupTree]] = Var(self._turn, state, on_active=keep, on_idle=drop)
        return answer

    def state(self) -> object:
        """What the admin page shows."""
        return {"pattern": self._pattern.text, "name": self._name, "observed": len(self._observed)}

    def _rewritten(self, path: Path) -> LookupTree:
        captures = self._pattern.match(path)
        if captures is None:
            return NEG
        try:
            return Leaf(Path.read(substituted(self._name, captures)))
        except ValueError:
            # A capture may be empty and leave an empty segment: that is no name, and no fault of anybody's
            # registry.
            return NEG


@frozen(kw_only=True)
class RewriteConfig(NamerConfig):
    """Rewrites paths by pattern."""

    prefix: Path
    """Where the namer lives below ``/#``. Required: a rewriter without a name of its own says nothing."""

    pattern: str
    """A prefix matcher for the path after the namer's prefix: literal segments, ``*``, ``{variable}``."""

    name: str
    """The path to answer with, in which ``{variable}`` is what the pattern captured."""

    def check(self) -> list[str]:
        """A pattern or a name that cannot be read, or a variable that is never captured."""
        try:
            matcher = Matcher.read(self.pattern)
        except ValueError as error:
            return [f"pattern: {error}"]
        try:
            Path.read(substituted(self.name, dict.fromkeys(variables_of(self.name), "x")))
        except ValueError as error:
            return [f"name: {self.name!r} is no path: {error}"]
        missing = sorted(variables_of(self.name) - matcher.variables)
        known = ", ".join(f"{{{each}}}" for each in sorted(matcher.variables)) or "no variables"
        return [f"name: {{{each}}} is not in the pattern, which has {known}" for each in missing]

    def mk(self, deps: NamerDeps) -> RewriteNamer:
        """The namer; it has no task."""
        return RewriteNamer(deps.turn, deps.prefix, Matcher.read(self.pattern), self.name)
