"""The freshness contract, which all namers share: what is believed of a name, and since when it is known.

A source says one of three things of a name: these are its endpoints, it does not exist, or (by failing)
nothing.

* The first answer is believed at once.
* New endpoints are believed at once.
* Missing ones, and the absence of the name, are believed when a healthy source has said so for ``hold_s``:
deploying,
  restarting and restoring tools all take things away for a moment. 0 believes at once, as Linkerd 1 does.
* An error is never an empty answer: what was believed last stays, with its age, and what was about to be
removed
  is not removed on the word of a source that has failed since.
* Where the daemon's guard is configured, some addresses are never believed, and a removal of most of a set at once is
  believed later than others (:mod:`hostmesh.registry.guard`).
* A source that fails before it has spoken says nothing either: where a warm start is configured, what was believed
  before the daemon's start is believed until it speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from hostmesh.naming.addr import (
    ADDR_NEG,
    ADDR_PENDING,
    Addr,
    AddrBound,
    AddrFailed,
    AddrNeg,
    AddrPending,
    Endpoint,
)
from hostmesh.registry.guard import Guard
from hostmesh.registry.watched import Report, no_report

if TYPE_CHECKING:
    from hostmesh.base.var import Var
    from hostmesh.registry.alarms import Alarm, Alarms
    from hostmesh.registry.journal import Journal
    from hostmesh.registry.warm import WarmStart

HOLD_S = 2.0
"""Longer than the gap that common tools leave between removing and restoring, shorter than people notice."""

MAX_ENDPOINTS = 50_000
"""Endpoints of one name. More is a registry gone wrong: the answer is refused like an error."""

_Key: TypeAlias = tuple[str, int]


class Freshness:
    """What is believed of one name. It writes ``addr``, and nobody else does.

    ``source`` and the ``index`` arguments are for the journal and the admin page. The owner calls
    :meth:`forget` when the name is no longer observed.
    """

    def __init__(
        self,
        name: str,
        addr: Var[Addr],
        alarms: Alarms,
        journal: Journal,
        *,
        hold_s: float = HOLD_S,
        source: str = "",
        report: Report = no_report,
        on_believed: Callable[[], None] | None = None,
        warm: WarmStart | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.name = name
        self.addr = addr
        self.source = source
        self.hold_s = hold_s
        self._alarms = alarms
        self._journal = journal
        self._report = report
        self._on_believed = on_believed
        self._warm = warm
        self._guard = guard or Guard()
        self._believed: dict[_Key, Endpoint] = {}
        self._leaving: dict[_Key, float] = {}
        """When to believe each missing endpoint's removal."""
        self._guarded_until: float | None = None
        """When the mass removal that is put off will be believed."""
        self._denied = 0
        """Endpoints of the last answer that the guard has filtered out."""
        self._absent_at: float | None = None
        self._alarm: Alarm | None = None
        self._index = ""
        self.confirmed: float | None = None
        """``env.now()`` of the source's last word on this name."""
        self.error: str | None = None
        """Why the source has no answer now; None while it is healthy."""
        self.last_error: tuple[str, float] | None = None
        """The last error and its ``env.wall()``, also when it is over."""

    @property
    def is_good(self) -> bool:
        """Whether the source has ever answered (since the name is observed)."""
        return isinstance(self.addr.value, AddrBound | AddrNeg)

    @property
    def is_settled(self) -> bool:
        """Whether the source has answered and nothing is about to be removed on its word: when it goes away, nothing
        has to be taken back."""
        return self.is_good and not self._leaving and self._absent_at is None

    def age(self) -> float | None:
        """Seconds since the source last confirmed what is believed; None if it never has."""
        return None if self.confirmed is None else self._alarms.env.now() - self.confirmed

    # What the source says.

    def found(self, endpoints: Iterable[Endpoint], *, index: str = "", complete: bool = True) -> None:
        """These are the endpoints. Of two with the same address and port the last counts.

        ``complete=False``: these are there, and of others nothing is known (a host name among them could not
        be resolved); then nothing is removed, and the age goes on.
        """
        said = {(endpoint.host, endpoint.port): endpoint for endpoint in endpoints}
        if len(said) > MAX_ENDPOINTS:
            self.failed(f"{self.name}: expected at most {MAX_ENDPOINTS} endpoints, found {len(said)}")
            return
        said = self._filtered(said)
        self._index = index
        self._absent_at = None
        if complete:
            self._healthy()
        now = self._alarms.env.now()
        if not isinstance(self.addr.value, AddrBound):
            self._believed = {}
        news: list[tuple[str, _Key]] = []
        for key, endpoint in said.items():
            known = self._believed.get(key)
            if known != endpoint:
                self._believed[key] = endpoint
                news.append(("change" if known else "add", key))
        if self._leaving:
            for key in said.keys() & self._leaving.keys():
                del self._leaving[key]
        self._write_all(news)
        if complete:
            self._missing(self._believed.keys() - said.keys(), now)
            if self._warm is not None:
                self._warm.keep(self.name, tuple(said.values()))
        self._believe(AddrBound(tuple(self._believed.values())))
        self._expire()

    def absent(self, *, index: str = "") -> None:
        """The name does not exist."""
        self._index = index
        self._healthy()
        if self._warm is not None:
            self._warm.forget(self.name)
        if isinstance(self.addr.value, AddrBound):
            if self._absent_at is None:
                now = self._alarms.env.now()
                self._absent_at = now + self._hold_s(len(self._believed), now)
            self._expire()
        elif not isinstance(self.addr.value, AddrNeg):
            self._write("absent", "")
            self._believe(ADDR_NEG)

    def _filtered(self, said: dict[_Key, Endpoint]) -> dict[_Key, Endpoint]:
        allowed = self._guard.allowed(said)
        denied = len(said) - len(allowed)
        if denied and not self._denied:
            self._report(
                "names.endpoints_denied", {"name": self.name, "denied": denied, "source": self.source}
            )
        self._denied = denied
        return allowed

    def _missing(self, missing: set[_Key], now: float) -> None:
        """Set the times at which the removal of ``missing`` endpoints, which are all that are, is believed."""
        if not missing:
            self._guarded_until = None
        if missing <= self._leaving.keys():
            return
        when = self._guarded_until
        if when is None or when <= now:
            hold_s = self._hold_s(len(missing), now)
            when = now + hold_s
            guarded = hold_s > self.hold_s
        else:
            # One that goes while most do goes with them; it does not put them off once more.
            guarded = True
        for key in missing:
            known = self._leaving.get(key)
            if known is None:
                self._leaving[key] = max(when, now + self.hold_s)
            elif guarded:
                self._leaving[key] = max(when, known)

    def _hold_s(self, missing: int, now: float) -> float:
        believed = len(self._believed)
        hold_s = self._guard.hold_s(missing, believed, self.hold_s)
        if hold_s > self.hold_s:
            self._guard.mass_removals += 1
            self._guarded_until = now + hold_s
            what = f"{missing} of {believed} endpoints are gone: believed in {hold_s:g} s"
            self._write("guard", what)
            self._report("names.mass_removal", {"name": self.name, "what": what, "source": self.source})
        return hold_s

    def failed(self, cause: str) -> None:
        """The source cannot tell."""
        self._leaving.clear()
        self._absent_at = self._guarded_until = None
        self._arm()
        if cause != self.error:
            self.error = cause
            self.last_error = (cause, self._alarms.env.wall())
            self._write("error", cause)
            self._report("names.source_failed", {"name": self.name, "cause": cause, "source": self.source})
        if not self.is_good:
            kept = None if self._warm is None else self._warm.recall(self.name)
            if kept is None:
                self._believe(AddrFailed(cause))
            else:
                self._restore(kept)

    def _restore(self, kept: tuple[Endpoint, ...]) -> None:
        """Believe what was believed before the start, with no age until the source has spoken."""
        self._believed = self._guard.allowed({(endpoint.host, endpoint.port): endpoint for endpoint in kept})
        kept = tuple(self._believed.values())
        for key in self._believed:
            self._write("restore", _show(key))
        self._report("names.restored", {"name": self.name, "endpoints": len(kept), "source": self.source})
        self._believe(AddrBound(kept))

    def confirm(self) -> None:
        """Nothing has changed since the last answer."""
        self._healthy()

    def forget(self) -> None:
        """Nobody observes the name: nothing is known of it any more."""
        self._leaving.clear()
        self._believed = {}
        self._absent_at = self._guarded_until = None
        self._denied = 0
        self._arm()
        self.confirmed = self.error = None
        self.addr.set(ADDR_PENDING)

    # What is believed.

    def _healthy(self) -> None:
        self.confirmed = self._alarms.env.now()
        if self.error is not None:
            self._write("recovered", self.error)
            self._report("names.source_recovered", {"name": self.name, "source": self.source})
            self.error = None

    def _expire(self) -> None:
        """Believe what has been said for long enough."""
        now = self._alarms.env.now()
        if self._absent_at is not None and self._absent_at <= now:
            self._write_all([("remove", key) for key in self._believed])
            self._write("absent", "")
            self._believed = {}
            self._leaving.clear()
            self._absent_at = self._guarded_until = None
            self._believe(ADDR_NEG)
        gone = [key for key, when in self._leaving.items() if when <= now]
        for key in gone:
            del self._leaving[key]
            del self._believed[key]
        self._write_all([("remove", key) for key in gone])
        if gone:
            self._believe(AddrBound(tuple(self._believed.values())))
        self._arm()

    def _arm(self) -> None:
        """Have one alarm, at the earliest time something is to be believed."""
        when = min((at for at in (self._absent_at, *self._first_leaving()) if at is not None), default=None)
        if self._alarm is not None and self._alarm.is_set:
            if self._alarm.when == when:
                return
            self._alarm.cancel()
        self._alarm = None if when is None else self._alarms.at(when, self._expire)

    def _first_leaving(self) -> list[float]:
        return [min(self._leaving.values())] if self._leaving else []

    def _believe(self, addr: Addr) -> None:
        if addr != self.addr.value:
            self.addr.set(addr)
            if self._on_believed is not None:
                self._on_believed()

    def _write(self, action: str, what: str) -> None:
        self._journal.write(self.name, action, what, self.source, self._index)

    def _write_all(self, news: list[tuple[str, _Key]]) -> None:
        dropped = max(0, len(news) - self._journal.size)
        self._journal.skip(dropped)
        for action, key in news[dropped:]:
            self._write(action, _show(key))

    def state(self) -> dict[str, object]:
        """For the admin page: JSON values, times in milliseconds."""
        age = self.age()
        return {
            "value": addr_json(self.addr.value),
            "ageMs": None if age is None else round(age * 1000),
            "source": self.source,
            "index": self._index,
            "error": self.error,
            "lastError": None if self.last_error is None else self.last_error[0],
            "lastErrorAt": None if self.last_error is None else round(self.last_error[1] * 1000),
            "leaving": [_show(key) for key in self._leaving],
            "denied": self._denied,
        }


def addr_json(addr: Addr) -> dict[str, object]:
    """An address state as the admin page shows it."""
    match addr:
        case AddrBound(endpoints):
            return {
                "type": "bound",
                "addresses": [
                    {
                        "ip": endpoint.host,
                        "port": endpoint.port,
                        "weight": endpoint.weight,
                        **dict(endpoint.meta),
                    }
                    for endpoint in endpoints
                ],
            }
        case AddrFailed(cause):
            return {"type": "failed", "cause": cause}
        case AddrNeg():
            return {"type": "neg"}
        case AddrPending():
            return {"type": "pending"}


def _show(key: _Key) -> str:
    host, port = key
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
