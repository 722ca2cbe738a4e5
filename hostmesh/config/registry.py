"""Which class stands behind a ``kind``. One registry for built-ins and plugins: entry points, or a literal in tests."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from hostmesh.base.errors import ConfigError
from hostmesh.base.plugin import SLOTS, PluginConfig
from hostmesh.config.report import NEAR, SURE, nearest, one_of

KIND_PREFIX: Final = "io.l5d."
"""A kind that starts so may be written without it."""

GROUP: Final = "hostmesh."
"""Entry point groups are ``hostmesh.<slot>``."""


class UnknownKindError(LookupError):
    """No plugin has this kind; the message is the ``expected ...`` half, with the nearest or all known kinds."""

    def __init__(self, message: str, meant: str | None) -> None:
        super().__init__(message)
        self.meant = meant
        """The full kind that was meant, if there is little doubt."""


class Registry:
    """Kinds by slot. Classes are loaded when a config names them, so a library is imported only by who uses it."""

    def __init__(self, kinds: Mapping[str, Mapping[str, type[PluginConfig] | EntryPoint]]) -> None:
        """``kinds`` maps slot to kind to a class, or to the entry point to load it from."""
        unknown = set(kinds) - set(SLOTS)
        if unknown:
            raise ConfigError(f"no such plugin slot: {', '.join(sorted(unknown))}")
        self._kinds: dict[str, dict[str, type[PluginConfig] | EntryPoint]] = {
            slot: dict(kinds.get(slot, {})) for slot in SLOTS
        }

    @classmethod
    def installed(cls) -> Registry:
        """What the installed distributions offer. Raises ConfigError if two of them offer one kind."""
        found: dict[str, dict[str, type[PluginConfig] | EntryPoint]] = {}
        for slot in SLOTS:
            of_slot = found[slot] = {}
            for point in entry_points(group=GROUP + slot):
                earlier = of_slot.get(point.name)
                if isinstance(earlier, EntryPoint) and _origin(earlier) != _origin(point):
                    raise ConfigError(
                        f"two distributions offer the {slot} {point.name!r}: {_origin(earlier)} and {_origin(point)}; "
                        "uninstall one"
                    )
                of_slot[point.name] = point
        return cls(found)

    def add(self, slot: str, kind: str, cls: type[PluginConfig]) -> bool:
        """Offer one more kind; False, and nothing is done, if that already means another one, in full or in short."""
        if self.full_kind(slot, kind) is None:
            self._kinds[slot][kind] = cls
        return self._kinds[slot].get(kind) is cls

    def kinds(self, slot: str) -> list[str]:
        """Every kind of a slot, sorted, in full."""
        return sorted(self._kinds[slot])

    def full_kind(self, slot: str, kind: str) -> str | None:
        """The kind as registered, from the full or the short spelling; None when there is none."""
        of_slot = self._kinds[slot]
        if kind in of_slot:
            return kind
        return KIND_PREFIX + kind if KIND_PREFIX + kind in of_slot else None

    def load(self, slot: str, kind: str) -> type[PluginConfig]:
        """The config class of a full or short kind.

        Raises :class:`UnknownKindError`, or ConfigError when the plugin is installed and broken.
        """
        full = self.full_kind(slot, kind)
        if full is None:
            raise UnknownKindError(self.expected(slot, kind), self._nearest(slot, kind, SURE))
        offered = self._kinds[slot][full]
        if not isinstance(offered, EntryPoint):
            return offered
        try:
            loaded = offered.load()
        except Exception as error:
            raise ConfigError(
                f"the {slot} {full!r} of {_origin(offered)} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, PluginConfig)):
            raise ConfigError(f"the {slot} {full!r} of {_origin(offered)} is not a PluginConfig class")
        self._kinds[slot][full] = loaded
        return loaded

    def expected(self, slot: str, kind: str) -> str:
        """The ``expected ...`` half of a message about an unknown or missing kind."""
        return one_of(self._kinds[slot], self._nearest(slot, kind, NEAR))

    def _nearest(self, slot: str, kind: str, cutoff: float) -> str | None:
        # Compared without the common prefix, which would make every kind look like every other.
        full = {name.removeprefix(KIND_PREFIX): name for name in self._kinds[slot]}
        word = kind[len(KIND_PREFIX) :] if kind.casefold().startswith(KIND_PREFIX) else kind
        near = nearest(word, full, cutoff)
        return None if near is None else full[near]


def _origin(point: EntryPoint) -> str:
    name = point.dist.name if point.dist is not None else "an unknown distribution"
    return f"{name} ({point.value})"
