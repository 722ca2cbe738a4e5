"""Whatever a file says, reading it ends with a config or a report."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.base.plugin import SLOTS
from hostmesh.config.load import load
from hostmesh.config.model import LinkerConfig
from hostmesh.config.policies import H2ClientParams, HttpClientParams, ServiceParams
from hostmesh.config.registry import Registry
from hostmesh.config.routers import HttpRouterConfig
from hostmesh.config.servers import HttpServerConfig
from hostmesh.config.shape import fields_of
from hostmesh.config.to_json import to_json

REGISTRY = Registry.installed()
KEYS = sorted(
    {"kind", "protocol", "configs", "prefix", "by", "for", "baseDtab"}
    | {
        field.key
        for cls in (
            LinkerConfig,
            HttpRouterConfig,
            HttpServerConfig,
            HttpClientParams,
            H2ClientParams,
            ServiceParams,
        )
        for field in fields_of(cls)
    }
)
KINDS = sorted(
    {kind for slot in SLOTS for kind in REGISTRY.kinds(slot)} | {"io.l5d.static", "io.l5d.global", "fs"}
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-10, 70_000)
    | st.floats(-2, 2)
    | st.sampled_from(KINDS)
    | st.sampled_from(["/svc", "/", "/svc => /#/fs ;", "/a = /b", "127.0.0.1", "", "5", "daily"])
    | st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=6), st.lists(values, min_size=1, max_size=3))
def test_no_document_raises(top: dict[str, object], routers: list[object]) -> None:
    """Any tree of known keys, kinds and odd values is a config or has mistakes."""
    config, report = load(json.dumps({**top, "routers": routers}), "f", REGISTRY)

    assert (config is None) == bool(report.mistakes)


router = st.fixed_dictionaries(
    {"protocol": st.just("http"), "servers": st.just([{"port": 0}])},
    optional={
        "dstPrefix": st.sampled_from(["/", "/http", "/a/b"]),
        "dtab": st.sampled_from(["", "/svc => /#/io.l5d.fs", "/a => 0.1 * /b & /c | ~ ; /x/* => !"]),
        "compressionLevel": st.integers(-1, 9),
        "maxHeadersKB": st.integers(1, 64),
        "originator": st.booleans(),
        "bindingCache": st.fixed_dictionaries({}, optional={"paths": st.integers(1, 10)}),
        "identifier": st.sampled_from(
            [{"kind": "path"}, [{"kind": "header"}, {"kind": "static", "path": "/a"}]]
        ),
        "service": st.fixed_dictionaries(
            {},
            optional={
                "totalTimeoutMs": st.integers(1, 10**9),
                "retries": st.fixed_dictionaries(
                    {}, optional={"backoff": st.just({"kind": "constant", "ms": 3})}
                ),
            },
        ),
        "client": st.fixed_dictionaries(
            {},
            optional={
                "loadBalancer": st.sampled_from(
                    [{"kind": kind} for kind in ("p2c", "ewma", "aperture", "heap", "roundRobin")]
                ),
                "failFast": st.booleans(),
                "hostConnectionPool": st.fixed_dictionaries({}, optional={"maxSize": st.integers(1, 100)}),
            },
        ),
    },
)


@settings(max_examples=100, deadline=None)
@given(router)
def test_json_form_is_read_back_equal(given_router: dict[str, object]) -> None:
    """to_json and load are inverse for any good router."""
    config, report = load(json.dumps({"routers": [given_router]}), "f", REGISTRY)
    assert report.mistake_lines() == []

    again, _report = load(json.dumps(to_json(config)), "f", REGISTRY)

    assert config == again
