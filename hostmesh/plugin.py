"""The public API for plugin authors. It re-exports, and nothing else.

A namer is a config class with ``mk(deps)`` behind an entry point of the group ``hostmesh.namer``; its name is
the ``kind``. What it may use of the inside is here, and in :mod:`hostmesh.registry`.
"""

from hostmesh.base.env import Env
from hostmesh.base.errors import ConfigError, MeshError, Side
from hostmesh.base.plugin import PluginConfig
from hostmesh.base.reasons import Reason
from hostmesh.base.var import PENDING, Activity, Closer, Computed, Failed, Ok, Pending, Read, State, Turn, Var
from hostmesh.config.shape import Bounds
from hostmesh.config.tls import ClientTlsConfig
from hostmesh.config.types import Count, Millis, Port, Positive, Seconds
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
from hostmesh.naming.bound import BoundName
from hostmesh.naming.matcher import Matcher, substituted, variables_of
from hostmesh.naming.namer import (
    NAMER_ROOT,
    Counter,
    LookupTree,
    Metrics,
    Namer,
    NamerConfig,
    NamerDeps,
    Resolver,
)
from hostmesh.naming.nametree import EMPTY, FAIL, NEG, Alt, Leaf, NameTree, Union, Weighted
from hostmesh.naming.path import Path
from hostmesh.naming.transformer import TransformerConfig, TransformerDeps
from hostmesh.naming.transformers import EachAddr
from hostmesh.registry.polled import PolledName, PolledNamer
from hostmesh.registry.usable import endpoint_of
from hostmesh.routing.identifiers import IdentifierConfig
from hostmesh.routing.identify import HeadFacts, Identifier, IdentifierDeps, NotIdentified, checked

__all__ = [
    "ADDR_NEG",
    "ADDR_PENDING",
    "EMPTY",
    "FAIL",
    "NAMER_ROOT",
    "NEG",
    "PENDING",
    "Activity",
    "Addr",
    "AddrBound",
    "AddrFailed",
    "AddrNeg",
    "AddrPending",
    "Alt",
    "BoundName",
    "Bounds",
    "ClientTlsConfig",
    "Closer",
    "Computed",
    "ConfigError",
    "Count",
    "Counter",
    "EachAddr",
    "Endpoint",
    "Env",
    "Failed",
    "HeadFacts",
    "Identifier",
    "IdentifierConfig",
    "IdentifierDeps",
    "Leaf",
    "LookupTree",
    "Matcher",
    "MeshError",
    "Metrics",
    "Millis",
    "NameTree",
    "Namer",
    "NamerConfig",
    "NamerDeps",
    "NotIdentified",
    "Ok",
    "Path",
    "Pending",
    "PluginConfig",
    "PolledName",
    "PolledNamer",
    "Port",
    "Positive",
    "Read",
    "Reason",
    "Resolver",
    "Seconds",
    "Side",
    "State",
    "TransformerConfig",
    "TransformerDeps",
    "Turn",
    "Union",
    "Var",
    "Weighted",
    "checked",
    "endpoint_of",
    "substituted",
    "variables_of",
]
