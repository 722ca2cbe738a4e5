"""The configuration as plain data with the keys of the file, for ``/config.json``."""

from __future__ import annotations

from enum import Enum
from pathlib import PurePath
from typing import Any, Final

import attrs

from hostmesh.config.policies import GLOBAL, Policy
from hostmesh.config.shape import fields_of
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path

REDACTED: Final = "<redacted>"
"""What stands for a secret (rule X7 of docs/threat-model.md)."""


def to_json(config: object) -> Any:
    """A config object as JSON data: camelCase keys, defaults filled in, unset keys left out, secrets redacted.

    But for secrets, ``load`` reads it back as an equal configuration.
    """
    if isinstance(config, Policy):
        return _policy(config)
    if isinstance(config, Path | Dtab):
        return config.show()
    if isinstance(config, Enum):
        return config.value
    if isinstance(config, PurePath):
        return str(config)
    if attrs.has(type(config)):
        return _table(config)
    if isinstance(config, dict):
        return {str(key): to_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple | set | frozenset):
        return [to_json(value) for value in config]
    return config


def _table(config: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for field in fields_of(config.__class__):
        value = getattr(config, field.name)
        if value is None or (field.name == "experimental" and value is False):
            continue
        key = "protocol" if field.name == "kind" and getattr(config, "place", None) == "router" else field.key
        table[key] = REDACTED if field.secret else to_json(value)
    return table


def _policy(policy: Policy[Any]) -> dict[str, Any]:
    if policy.kind == GLOBAL:
        return {"kind": GLOBAL, **(_table(policy.configs[0].params) if policy.configs else {})}
    configs = [{"prefix": each.prefix, **_table(each.params)} for each in policy.configs]
    return {"kind": policy.kind, "configs": configs}
