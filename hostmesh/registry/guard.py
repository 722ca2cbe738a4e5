"""What is not believed of any registry: addresses that nobody may be sent to, and sudden emptiness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias, TypeVar

Key: TypeAlias = tuple[str, int]
T = TypeVar("T")

MASS_PART = 0.5
"""More than this part of a replica set at once is a mass removal: deployments replace sets piece by piece, or add the
new half before they take the old one."""

MASS_MIN = 3
"""Endpoints of a set for which this makes sense: of two, each is a half."""

MAX_VERDICTS = 65_536
"""Addresses whose verdict is remembered; a registry names the same ones again and again."""


class Guard:
    """One per daemon. Without :meth:`open` it allows everything."""

    def __init__(self) -> None:
        self._denied: tuple[IPv4Network | IPv6Network, ...] = ()
        self._verdicts: dict[str, bool] = {}
        self._mass_hold_s = 0.0
        self._mass_part = MASS_PART
        self.denied = 0
        """Endpoints that were filtered out, counted in each answer anew."""
        self.mass_removals = 0
        """How often a mass removal was put off."""

    def open(
        self,
        *,
        denied: Iterable[IPv4Network | IPv6Network] = (),
        mass_hold_s: float = 0.0,
        mass_part: float = MASS_PART,
    ) -> None:
        """Before the first answer: what to deny, and for how many seconds a mass removal is put off (0: not at all)."""
        self._denied = tuple(denied)
        self._verdicts.clear()
        self._mass_hold_s = mass_hold_s
        self._mass_part = mass_part

    def allowed(self, said: Mapping[Key, T]) -> dict[Key, T]:
        """What remains of a registry's answer."""
        if not self._denied:
            return dict(said)
        kept = {key: endpoint for key, endpoint in said.items() if self._is_allowed(key[0])}
        self.denied += len(said) - len(kept)
        return kept

    def _is_allowed(self, host: str) -> bool:
        verdict = self._verdicts.get(host)
        if verdict is None:
            address = ip_address(host)
            verdict = not any(address in network for network in self._denied)
            if len(self._verdicts) >= MAX_VERDICTS:
                self._verdicts.clear()
            self._verdicts[host] = verdict
        return verdict

    def hold_s(self, missing: int, believed: int, hold_s: float) -> float:
        """For how long to go on believing in ``missing`` of ``believed`` endpoints; ``hold_s`` if that is no mass
        removal, else more."""
        is_mass = believed >= MASS_MIN and missing > believed * self._mass_part
        return self._mass_hold_s if is_mass and self._mass_hold_s > hold_s else hold_s
