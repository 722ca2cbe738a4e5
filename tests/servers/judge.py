"""Judges what an observer saw against what the registry says happened. Pure: times are given, nothing waits.

Two questions of every answer: may this endpoint still be routed to, and of every failure: was there an endpoint
that should have been routed to?
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from attrs import define, field, frozen

GRACE_S = 2.0
"""How long after the first successful read of the registry a change may take (its backoff ends at 1 s)."""

EMPTY_GRACE_S = 1.0
"""The same for a name that a healthy registry has emptied."""

EARLY_S = 1.0
"""An endpoint may be routed to this long before its registration is acknowledged: the registry's other readers may hear
of it first, and nsd, say, acknowledges nothing at all."""

SHOWN = 5
"""Violations of a kind that are written out."""


@frozen
class Answer:
    """One request, as its caller saw it. Times are ``time.monotonic()`` in seconds."""

    sent: float
    done: float
    endpoint: str | None
    """``ip:port`` of who answered; None: nobody did."""
    failure: str = ""
    """What the caller got instead."""


@define(eq=False)
class Switch:
    """A fact that is true or false over time."""

    initially: bool
    _times: list[float] = field(factory=list)
    _values: list[bool] = field(factory=list)

    def turn(self, value: bool, at: float) -> None:
        """Times must not go back. The same value again is no event."""
        if self._times and at < self._times[-1]:
            raise ValueError(f"event at {at} after one at {self._times[-1]}")
        if value != self.at(inf):
            self._times.append(at)
            self._values.append(value)

    def at(self, when: float) -> bool:
        return self._last(when)[1]

    def since(self, when: float) -> float:
        """Since when it has had the value that it has at ``when``; -inf: from the beginning."""
        return self._last(when)[0]

    def _last(self, when: float) -> tuple[float, bool]:
        index = bisect_right(self._times, when)
        return (-inf, self.initially) if index == 0 else (self._times[index - 1], self._values[index - 1])

    def first_true(self, after: float) -> float:
        """The first time at or after ``after`` when it is true; inf: never."""
        if self.at(after):
            return after
        later = (at for at, value in zip(self._times, self._values, strict=True) if at > after and value)
        return next(later, inf)

    def first_true_for(self, seconds: float, after: float) -> float:
        """The first time at or after ``after`` from which it stays true for that long; inf: never."""
        begin = self.first_true(after)
        for at, value in self.events():
            if value or at < begin:
                continue
            if at >= begin + seconds:
                break
            begin = self.first_true(at)
        return begin

    def events(self) -> list[tuple[float, bool]]:
        return list(zip(self._times, self._values, strict=True))


@define(eq=False)
class EventLog:
    """What happened to one name, in the registry's own words, and to the endpoints themselves.

    Write down a change when the registry has acknowledged it (``at`` is the time of the acknowledgement; default
    now is the observer's business). ``unreadable`` from the moment when the registry is killed, frozen, cut off;
    ``readable`` when a client of the test's own has read it again.
    """

    registered: dict[str, Switch] = field(factory=dict)
    is_readable: Switch = field(factory=lambda: Switch(True))
    dead: dict[str, Switch] = field(factory=dict)
    started: list[float] = field(factory=list)
    """When a hostmesh was (re)started, which knows nothing then."""

    def added(self, endpoint: str, at: float) -> None:
        self.registered.setdefault(endpoint, Switch(False)).turn(True, at)

    def removed(self, endpoint: str, at: float) -> None:
        self.registered.setdefault(endpoint, Switch(False)).turn(False, at)

    def set_to(self, endpoints: Iterable[str], at: float) -> None:
        """The registry now has these, all at once."""
        wanted = set(endpoints)
        for endpoint in wanted:
            self.added(endpoint, at)
        for endpoint in self.registered.keys() - wanted:
            self.removed(endpoint, at)

    def unreadable(self, at: float) -> None:
        self.is_readable.turn(False, at)

    def readable(self, at: float) -> None:
        self.is_readable.turn(True, at)

    def mesh_started(self, at: float) -> None:
        self.started.append(at)

    def died(self, endpoint: str, at: float) -> None:
        self.dead.setdefault(endpoint, Switch(False)).turn(True, at)

    def revived(self, endpoint: str, at: float) -> None:
        self.dead.setdefault(endpoint, Switch(False)).turn(False, at)

    def current(self) -> set[str]:
        return {endpoint for endpoint, switch in self.registered.items() if switch.at(inf)}

    def emptied(self, when: float) -> float | None:
        """Since when the name has had no endpoint; None if it has one at ``when``."""
        if any(switch.at(when) for switch in self.registered.values()):
            return None
        return max((switch.since(when) for switch in self.registered.values()), default=-inf)


@frozen(kw_only=True)
class Verdict:
    """What was seen, and what of it was against the rules."""

    requests: int
    answered: int
    per_endpoint: Mapping[str, int]
    failed: Sequence[str]
    """Failures while an endpoint lived that should have been known."""
    excused: int
    """Failures when there was none."""
    stale: Sequence[str]
    """Answers of endpoints gone for longer than the bound."""
    latest_s: float
    """The longest that an endpoint was routed to after its removal could be read, counting no outage."""
    unjudged: int
    """Answers of gone endpoints while the registry could not be read."""
    learned_s: Mapping[str, float]
    """For each endpoint, from its last registration to its next answer."""

    @property
    def is_clean(self) -> bool:
        return not self.failed and not self.stale

    def check(self) -> Verdict:
        """Itself; AssertionError that says what is wrong unless it is clean."""
        assert self.is_clean, self.show()
        return self

    def show(self) -> str:
        lines = [
            f"{self.requests} requests, {self.answered} answered by {len(self.per_endpoint)} endpoints, "
            f"{len(self.failed)} failed without excuse, {self.excused} failed with nobody there",
            f"{len(self.stale)} stale beyond the bound; the latest {self.latest_s:.2f} s after the removal could "
            f"be read; {self.unjudged} while it could not",
        ]
        for what, found in (("failed", self.failed), ("stale", self.stale)):
            lines += [f"  {what}: {line}" for line in found[:SHOWN]]
            if len(found) > SHOWN:
                lines.append(f"  {what}: and {len(found) - SHOWN} more")
        return "\n".join(lines)


def judge(
    answers: Sequence[Answer],
    log: EventLog,
    *,
    hold_s: float = 2.0,
    grace_s: float = GRACE_S,
    empty_grace_s: float = EMPTY_GRACE_S,
) -> Verdict:
    """The rules: no request fails while an endpoint lives; no route to an endpoint that is gone for more than
    ``grace_s`` + ``hold_s`` after the registry could first be read; a healthy registry's emptying is believed
    within ``hold_s`` + ``empty_grace_s``.
    """
    begin = min((answer.sent for answer in answers), default=0.0)
    failed: list[str] = []
    stale: list[str] = []
    per_endpoint: dict[str, int] = {}
    excused = unjudged = 0
    latest = 0.0
    for answer in answers:
        if answer.endpoint is None:
            living = _obliged(log, answer, hold_s, grace_s)
            if living is None:
                excused += 1
            else:
                failed.append(f"at {answer.sent - begin:.3f} s: {answer.failure}, while {living} lived")
            continue
        per_endpoint[answer.endpoint] = per_endpoint.get(answer.endpoint, 0) + 1
        switch = log.registered.get(answer.endpoint)
        if switch is None:
            stale.append(f"at {answer.sent - begin:.3f} s: {answer.endpoint} was never registered")
            continue
        if switch.first_true(answer.sent) <= answer.done + EARLY_S:
            continue
        if switch.since(answer.sent) == -inf:
            stale.append(f"at {answer.sent - begin:.3f} s: {answer.endpoint} was not registered yet")
            continue
        if not log.is_readable.at(answer.sent):
            unjudged += 1
            continue
        gone = switch.since(answer.sent)
        since = max(gone, log.is_readable.since(answer.sent))
        late = answer.sent - since
        latest = max(latest, late)
        emptied = log.emptied(answer.sent)
        healthy = emptied is not None and log.is_readable.since(answer.sent) <= emptied
        bound = hold_s + (empty_grace_s if healthy and emptied == gone else grace_s)
        if late > bound:
            stale.append(
                f"at {answer.sent - begin:.3f} s: {answer.endpoint}, gone and readable since {late:.3f} s, "
                f"bound {bound:g} s"
            )
    return Verdict(
        requests=len(answers),
        answered=sum(per_endpoint.values()),
        per_endpoint=per_endpoint,
        failed=failed,
        excused=excused,
        stale=stale,
        latest_s=latest,
        unjudged=unjudged,
        learned_s=_learned(answers, log),
    )


def _obliged(log: EventLog, answer: Answer, hold_s: float, grace_s: float) -> str | None:
    """An endpoint that hostmesh should have used from the beginning to the end of this request."""
    start = max((at for at in log.started if at <= answer.sent), default=-inf)
    for endpoint, switch in log.registered.items():
        dead = log.dead.get(endpoint)
        if dead is not None and (dead.at(answer.sent) or dead.at(answer.done)):
            continue
        if switch.at(answer.sent) and switch.at(answer.done):
            registered = switch.since(answer.sent)
            learned = log.is_readable.first_true(max(registered, start)) + grace_s
            if learned < answer.sent:
                return endpoint
        elif not switch.at(answer.done):
            gone = switch.since(answer.done)
            before = switch.since(gone - 1e-9) if gone > -inf else inf
            learned = log.is_readable.first_true(max(before, start)) + grace_s
            if learned < answer.sent and answer.done < gone + hold_s:
                return endpoint
    return None


def _learned(answers: Sequence[Answer], log: EventLog) -> dict[str, float]:
    found: dict[str, float] = {}
    for endpoint, switch in log.registered.items():
        added = [at for at, value in switch.events() if value]
        if added:
            done = [a.done for a in answers if a.endpoint == endpoint and a.done >= added[-1]]
            if done:
                found[endpoint] = min(done) - added[-1]
    return found


def journal_faults(
    entries: Sequence[Mapping[str, object]],
    log: EventLog,
    *,
    hold_s: float = 2.0,
    grace_s: float = GRACE_S,
    lag_s: float = 0.0,
) -> list[str]:
    """How the journal of one name (oldest first, as ``/namer_journal.json`` gives it) differs from the log.

    Per endpoint it must tell the same comings and goings. A removal that was taken back within the hold is none,
    one taken back soon after it may be told or not, and what changed while the registry could not be read is one
    change from before to after. ``lag_s`` is how much later than another a change may be seen: the period of polling.
    """
    told: dict[str, list[str]] = {}
    for entry in entries:
        if entry["action"] in ("add", "remove"):
            told.setdefault(str(entry["what"]), []).append(str(entry["action"]))
    faults = [
        f"{endpoint}: in the journal, not in the log" for endpoint in told.keys() - log.registered.keys()
    ]
    for endpoint, switch in log.registered.items():
        allowed = _histories(switch.events(), log.is_readable, hold_s, grace_s, lag_s)
        found = told.get(endpoint, [])
        if tuple(found) not in allowed:
            faults.append(f"{endpoint}: expected {' or '.join(map(str, sorted(allowed)))}, found {found}")
    return faults


def _histories(
    events: Sequence[tuple[float, bool]], readable: Switch, hold_s: float, grace_s: float, lag_s: float
) -> set[tuple[str, ...]]:
    """The sequences of add and remove that may be told of one endpoint."""
    visible: list[tuple[float, bool]] = []
    for at, present in events:
        seen = readable.first_true(at)
        if visible and visible[-1][0] == seen and seen != at:
            # Both within one outage: only their sum can be seen.
            visible.pop()
            if (visible[-1][1] if visible else False) == present:
                continue
        visible.append((seen, present))
    histories: set[tuple[str, ...]] = {()}
    index = 0
    while index < len(visible):
        at, present = visible[index]
        following = visible[index + 1] if index + 1 < len(visible) else None
        # An outage within the hold begins it anew.
        surely = readable.first_true_for(hold_s, at) + hold_s + grace_s
        if not present and following is not None and following[0] < surely:
            long = {(*history, "remove", "add") for history in histories}
            histories = histories if following[0] - at < hold_s - lag_s else histories | long
            index += 2
            continue
        histories = {(*history, "add" if present else "remove") for history in histories}
        index += 1
    return histories
