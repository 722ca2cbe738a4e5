"""The config bases of namers, transformers and interpreters."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from attrs import frozen

from hostmesh.naming.interpreter import InterpreterConfig
from hostmesh.naming.namer import NamerConfig
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import TransformerConfig


@frozen(kw_only=True)
class LaterNamerConfig(NamerConfig):
    unavailable: ClassVar[str | None] = "arrives later"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LaterNamerConfig(kind="io.l5d.x"), "io.l5d.x: arrives later"),
        (NamerConfig(kind="io.l5d.x"), "has no mk()"),
        (TransformerConfig(kind="io.l5d.x"), "has no mk()"),
        (InterpreterConfig(kind="io.l5d.x"), "has no mk()"),
    ],
)
def test_a_kind_that_cannot_run_says_so(config: Any, message: str) -> None:
    """Making what cannot be made names the kind and why."""
    with pytest.raises(NotImplementedError) as caught:
        config.mk(None)

    assert message in str(caught.value)


def test_prefixes() -> None:
    """Without a configured prefix the kind is the prefix."""
    assert NamerConfig(kind="io.l5d.fs").prefix_in_force == Path.of("io.l5d.fs")
    assert NamerConfig(kind="io.l5d.fs", prefix=Path.of("a", "b")).prefix_in_force == Path.of("a", "b")
    assert TransformerConfig().prefix_or("io.l5d.port", "80") == Path.read("/%/io.l5d.port/80")
    assert TransformerConfig(prefix=Path.of("p")).prefix_or("x") == Path.read("/%/p")
