"""A node: an endpoint as a balancer sees it. The proxy's endpoint stack is a Node with a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from math import inf
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from hostmesh.naming.addr import Endpoint
    from hostmesh.routing.accrual import Accrual

NodeKey: TypeAlias = tuple[str, int]


class Node:
    """An endpoint with what picking needs, as plain attributes: they are read several times per request.

    ``blocked_until`` is the whole health of a node in one float: 0.0 while Alive, the revive time (seconds on
    the monotonic clock) while Dead or waiting for its probe, infinity while a probe is in flight. A node may
    be picked without regret when ``blocked_until <= now``, so no timer is needed to revive it.

    ``pending`` counts requests from ``started`` to ``finished``, connecting included, plus slots that a
    balancer holds for a while after failures. ``cost`` is a latency average in seconds as of ``stamp``; 0.0
    means that nothing is known yet. ``penalised`` says that the newest sample in ``cost`` was a failure.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.weight: float = endpoint.weight
        self.pending = 0
        self.cost = 0.0
        self.stamp = 0.0
        self.penalised = False
        self.blocked_until = 0.0
        self.accrual: Accrual | None = None
        self._accrual_until = 0.0
        self._refuses_connects = False

    @property
    def key(self) -> NodeKey:
        """What makes it the same node after an address update. The weight is not part of it."""
        return (self.endpoint.host, self.endpoint.port)

    def is_open(self, now: float) -> bool:
        """Whether failure accrual lets requests through at ``now`` (seconds, monotonic)."""
        return self.blocked_until <= now

    def block_until(self, until: float) -> None:
        """For failure accrual: its part of ``blocked_until``."""
        self._accrual_until = until
        self.blocked_until = inf if self._refuses_connects else until

    def block_connects(self, refused: bool) -> None:
        """For fail-fast: its part of ``blocked_until``. The worse of the two counts."""
        self._refuses_connects = refused
        self.blocked_until = inf if refused else self._accrual_until

    def __repr__(self) -> str:
        where = f"{self.endpoint.host}:{self.endpoint.port}"
        return f"{type(self).__name__}({where}, pending={self.pending}, cost={self.cost:.6f})"


N = TypeVar("N", bound=Node)


def reconcile(
    known: MutableMapping[NodeKey, N], endpoints: Iterable[Endpoint], make: Callable[[Endpoint], N]
) -> list[N]:
    """Nodes for a new address list, in its order; nodes of endpoints that stay are the same objects as
    before.

    ``known`` gains the new nodes (made by ``make``) and loses nothing: whoever closes nodes takes them out,
    after the balancer has let go of them. A changed weight or metadata is written into the node, which so
    keeps its load, latency and accrual history. Duplicate (host, port) pairs collapse into the first.
    """
    nodes: dict[NodeKey, N] = {}
    for endpoint in endpoints:
        key = (endpoint.host, endpoint.port)
        if key in nodes:
            continue
        node = known.get(key)
        if node is None:
            node = known[key] = make(endpoint)
        else:
            node.endpoint = endpoint
            node.weight = endpoint.weight
        nodes[key] = node
    return list(nodes.values())
