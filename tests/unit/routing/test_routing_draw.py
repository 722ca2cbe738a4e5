"""Weighted draws."""

from __future__ import annotations

import pytest
from routing_stand_ins import make_node

from hostmesh.routing.balancers.weighted import WeightClasses
from hostmesh.routing.draw import WeightedDraw

BELOW_ONE = 1 - 2**-53


@pytest.mark.parametrize(
    ("weights", "probabilities"),
    [
        ([1, 3], [1 / 4, 3 / 4]),
        ([1, 2, 3], [1 / 6, 2 / 6, 3 / 6]),
        ([5, 0, 5], [1 / 2, 0, 1 / 2]),
        ([0, 0], [1 / 2, 1 / 2]),
        ([0.9, 0.1], [0.9, 0.1]),
        ([7], [1]),
        ([1, 0], [1, 0]),
        ([0, 1], [0, 1]),
    ],
)
def test_probabilities(weights: list[float], probabilities: list[float]) -> None:
    """Each index is as likely as its weight; all zero means all equal."""
    draw = WeightedDraw(weights)
    steps = 6000
    counts = [0] * len(weights)
    for step in range(steps):
        counts[draw.draw((step + 0.5) / steps)] += 1

    assert [count / steps for count in counts] == pytest.approx(probabilities, abs=1 / steps)
    assert [draw.probability(index) for index in range(len(weights))] == pytest.approx(probabilities)


@pytest.mark.parametrize("weights", [[0.1] * 3 + [0.0], [1e-9, 0.0], [0.3, 0.3, 0.4]])
def test_largest_draw_stays_inside(weights: list[float]) -> None:
    """A draw just below 1 names an index that has weight."""
    assert weights[WeightedDraw(weights).draw(BELOW_ONE)] > 0


@pytest.mark.parametrize(("weights", "message"), [([], "at least one"), ([1, -1], "below 0")])
def test_impossible_weights(weights: list[float], message: str) -> None:
    """No weights, and weights below 0, are refused."""
    with pytest.raises(ValueError, match=message):
        WeightedDraw(weights)


def test_classes() -> None:
    """Two endpoints of weight 1 and one of weight 4 make classes of 2/6 and 4/6."""
    classes = WeightClasses([make_node(1), make_node(2), make_node(3, weight=4.0)])

    assert classes.weights == [1.0, 4.0]
    assert [classes.draw(u, 0.0) for u in (0.0, 0.33, 0.34, BELOW_ONE)] == [
        (0, False),
        (0, False),
        (1, False),
        (1, False),
    ]


def test_stand_in_is_the_next_class_upwards() -> None:
    """A class without an open node is replaced by the next heavier one that has some, cyclically."""
    classes = WeightClasses(
        [make_node(1), make_node(2, weight=2.0, blocked_until=9.0), make_node(3, weight=3.0)]
    )
    assert classes.draw(0.4, 0.0) == (2, True)

    classes.groups[2][0].blocked_until = 9.0
    assert classes.draw(0.4, 0.0) == (0, True)

    classes.groups[0][0].blocked_until = 9.0
    assert classes.draw(0.4, 0.0) == (1, False)
