"""What must hold for every request, whatever happens to it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.base.errors import MeshError, Sent
from hostmesh.naming.addr import Endpoint
from hostmesh.naming.path import Path
from hostmesh.routing.accrual import Accrual, AccrualCounters, AccrualState, ConsecutiveFailuresConfig
from hostmesh.routing.balancers import ApertureConfig, EwmaConfig, HeapConfig, P2cConfig, RoundRobinConfig
from hostmesh.routing.balancers.held import FAILURE_HOLD
from hostmesh.routing.budget import RetryBudget
from hostmesh.routing.identifiers import HeaderConfig, HeaderTokenConfig, MethodAndHostConfig, PathConfig
from hostmesh.routing.node import Node, NodeKey, reconcile
from hostmesh.routing.retry import may_retry

SVC = Path.read("/svc")


@given(
    committed=st.booleans(),
    replayable=st.booleans(),
    sent=st.sampled_from(Sent),
    reused_and_unread=st.booleans(),
    idempotent=st.booleans(),
    retryable=st.booleans(),
    time_left=st.floats(-1, 10),
    delay=st.floats(0, 10),
    granted=st.booleans(),
)
def test_may_retry_is_its_five_conditions(
    committed: bool,
    replayable: bool,
    sent: Sent,
    reused_and_unread: bool,
    idempotent: bool,
    retryable: bool,
    time_left: float,
    delay: float,
    granted: bool,
) -> None:
    """A retry happens if and only if all five conditions hold, and only a retry is charged for."""
    charged: list[bool] = []

    def withdraw() -> bool:
        charged.append(granted)
        return granted

    allowed = may_retry(
        committed=committed,
        replayable=replayable,
        sent=sent,
        reused_and_unread=reused_and_unread,
        idempotent=idempotent,
        retryable=retryable,
        time_left=time_left,
        delay=delay,
        withdraw=withdraw,
    )

    safe = sent is Sent.NOTHING or (reused_and_unread and idempotent) or retryable
    others = not committed and replayable and safe and time_left > delay
    assert allowed == (others and granted)
    assert len(charged) == (1 if others else 0)


@given(
    outcomes=st.lists(
        st.tuples(st.sampled_from(["dispatch", "success", "failure", "ignorable"]), st.floats(0, 400)),
        max_size=80,
    )
)
def test_accrual_never_leaves_its_table(outcomes: list[tuple[str, float]]) -> None:
    """Whatever comes in whatever order: blocked_until says the state, and a node is never stuck."""
    node = Node(Endpoint("10.0.0.1", 80))
    machine = Accrual(node, ConsecutiveFailuresConfig(failures=2).mk(Random(1)), AccrualCounters())
    now = 0.0
    for event, wait in outcomes:
        now += wait
        before = machine.state(now)
        getattr(machine, f"on_{event}")(now)
        after = machine.state(now)
        if after is AccrualState.PROBE_CLOSED and before is not after:
            assert (before, event) == (AccrualState.PROBE_OPEN, "dispatch")
        assert (node.blocked_until == 0.0) == (after is AccrualState.ALIVE)
        assert node.is_open(now) == (after in (AccrualState.ALIVE, AccrualState.PROBE_OPEN))
    now += 1000
    machine.on_dispatch(now)
    machine.on_success(now)
    assert machine.state(now) is AccrualState.ALIVE
    assert machine.counters.probes >= machine.counters.revivals


class BudgetOfLogs:
    """The leaky bucket as one would write it without slices: every entry with its time."""

    def __init__(self, ttl: float, min_per_sec: int, percent: float) -> None:
        self.log: list[tuple[float, int]] = []
        self.ttl = ttl
        self.deposit_amount = 1000 if percent > 0 else 0
        self.withdrawal = int(1000 / percent) if percent > 0 else 1
        self.reserve = min_per_sec * int(ttl) * self.withdrawal

    def count(self, now: float) -> int:
        width = self.ttl / 10
        oldest = int(now / width) - 9
        return self.reserve + sum(amount for at, amount in self.log if int(at / width) >= oldest)


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200),
    percent=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 2.0]),
    min_per_sec=st.sampled_from([0, 1]),
)
def test_budget_is_a_log_with_an_age_limit(
    steps: list[tuple[bool, int]], percent: float, min_per_sec: int
) -> None:
    """Slices, rings and skips give what a plain log of deposits and withdrawals gives."""
    budget = RetryBudget(10, min_per_sec, percent)
    log = BudgetOfLogs(10, min_per_sec, percent)
    eighths = 0
    for deposits, wait in steps:
        eighths += wait
        now = eighths / 8
        if deposits:
            budget.deposit(now)
            log.log.append((now, log.deposit_amount))
        else:
            expected = log.count(now) >= log.withdrawal
            assert budget.try_withdraw(now) is expected
            if expected:
                log.log.append((now, -log.withdrawal))
        assert budget.balance(now) == max(0, log.count(now) // log.withdrawal)


@pytest.mark.parametrize(
    "config",
    [P2cConfig(), EwmaConfig(), ApertureConfig(smooth_window_ms=50), HeapConfig(), RoundRobinConfig()],
    ids=lambda config: type(config).__name__,
)
@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["start", "start", "end", "fail", "leave", "update", "block"]),
            st.integers(0, 255),
        ),
        max_size=120,
    ),
    probation=st.booleans(),
)
def test_balancers_account_for_every_request(
    config: P2cConfig, seed: int, steps: list[tuple[str, int]], probation: bool
) -> None:
    """Through starts, ends, failures, updates, weights and ejections: picks come from the roster, only an empty
    roster refuses, an open node is preferred, and in the end nothing is outstanding."""
    config = type(config)(enable_probation=probation)
    balancer = config.mk(Random(seed))
    known: dict[NodeKey, Node] = {}
    everyone: set[Node] = set()
    running: list[Node] = []
    now = 0.0
    for step, choice in steps:
        now += choice / 512
        if step == "update":
            endpoints = [
                Endpoint(f"10.0.0.{index}", 80, weight=float(1 + (choice & index & 1)))
                for index in range(8)
                if choice >> index & 1
            ]
            nodes = reconcile(known, endpoints, Node)
            everyone.update(nodes)
            for node in balancer.update(nodes, now):
                del known[node.key]
            assert set(nodes) <= set(balancer.nodes)
        elif step == "block":
            if balancer.nodes:
                balancer.nodes[choice % balancer.size].blocked_until = now + (choice % 4) / 8
        elif step == "start":
            node = balancer.pick(now)
            assert (node is None) == (balancer.size == 0)
            if node is not None:
                assert node in balancer.nodes
                assert node.is_open(now) or not balancer.available(now) or balancer.last_resort == 0
                balancer.started(node, now)
                running.append(node)
        elif running:
            node = running.pop(choice % len(running))
            if step == "leave":
                balancer.abandoned(node, now, 0.01)
            else:
                balancer.finished(node, now, 0.01, failed=step == "fail")
    for node in running:
        balancer.finished(node, now, None, failed=False)
    balancer.pick(now + FAILURE_HOLD)
    assert [node.pending for node in everyone] == [0] * len(everyone)
    assert balancer.adds - balancer.removes == balancer.size


@given(value=st.binary(max_size=60), kind=st.sampled_from(["token", "header", "path"]))
def test_p4_no_request_names_a_reserved_path(value: bytes, kind: str) -> None:
    """P4: whatever bytes a request carries, its dst path lies under the prefix and reads back as itself."""

    class Head:
        method, version = b"GET", 11
        host = value
        target = b"/" + value

        def get(self, name: bytes) -> bytes | None:
            return value

    config = {"token": HeaderTokenConfig(), "header": HeaderConfig(), "path": PathConfig()}[kind]
    try:
        found = config.mk(SVC).identify(Head())
    except MeshError:
        return
    if isinstance(found, Path):
        assert found[0] == "svc"
        assert Path.read(found.show()) == found
        assert not {"", ".", ".."} & set(found)


class AnyHead:
    """A request head of which three parts matter."""

    method, version = b"GET", 11

    def __init__(self, host: bytes, target: bytes, name: bytes | None) -> None:
        self.host = host
        self.target = target
        self.name = name

    def get(self, name: bytes) -> bytes | None:
        return self.name


def answer(config: HeaderTokenConfig, head: AnyHead) -> object:
    try:
        return config.mk(SVC).identify(head)
    except MeshError as error:
        return error.message


heads = st.builds(
    AnyHead,
    host=st.sampled_from([b"", b"web", b"api"]),
    target=st.text("ab/?", max_size=6).map(lambda text: b"/" + text.encode()),
    name=st.none() | st.text("ab/", max_size=4).map(str.encode),
)


@given(one=heads, other=heads)
@pytest.mark.parametrize(
    "config",
    [
        HeaderTokenConfig(),
        HeaderTokenConfig(header="x"),
        HeaderConfig(),
        PathConfig(),
        PathConfig(segments=2),
        MethodAndHostConfig(),
    ],
    ids=repr,
)
def test_equal_keys_mean_equal_paths(config: HeaderTokenConfig, one: AnyHead, other: AnyHead) -> None:
    """Whatever the router remembers under a key, a name or a refusal, holds for every head with that key."""
    identifier = config.mk(SVC)
    if identifier.key(one) == identifier.key(other):
        assert answer(config, one) == answer(config, other)
