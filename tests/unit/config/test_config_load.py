"""A whole file: model, policies, JSON form, the way in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path as FilePath

import pytest

from hostmesh.base.backoff import ConstantBackoffConfig
from hostmesh.base.errors import ConfigError
from hostmesh.config.load import load, load_file, read_file
from hostmesh.config.model import LinkerConfig, unavailable
from hostmesh.config.policies import BudgetConfig, ClientSession, HostConnectionPool
from hostmesh.config.registry import Registry
from hostmesh.config.routers import H2RouterConfig, HttpRouterConfig
from hostmesh.config.servers import H2ServerConfig
from hostmesh.config.source import MAX_BYTES
from hostmesh.config.to_json import to_json
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.path import Path
from hostmesh.routing.accrual import ConsecutiveFailuresConfig
from hostmesh.routing.balancers import EwmaConfig, P2cConfig
from hostmesh.routing.classifiers import NonRetryable5XXConfig

REGISTRY = Registry.installed()


def fine(text: str) -> LinkerConfig:
    config, report = load(text, "f", REGISTRY)
    assert report.mistake_lines() == []
    assert config is not None
    return config


def http(text: str) -> HttpRouterConfig:
    (router,) = fine(text).routers
    assert isinstance(router, HttpRouterConfig)
    return router


MINIMAL = "routers:\n- protocol: http\n  servers:\n  - {}\n"


def test_smallest_file_has_every_default() -> None:
    """A router with one empty server is Linkerd's default router."""
    config = fine(MINIMAL)
    router = http(MINIMAL)
    (server,) = router.servers

    assert (config.admin.ip, config.admin.port, config.admin.shutdown_grace_ms) == ("127.0.0.1", 9990, 10_000)
    assert (config.namers, config.telemetry, config.usage, config.seed) == ((), (), None, None)
    assert config.access_log.sample == 0.01
    assert (router.protocol, router.name, router.dtab) == ("http", "http", Dtab.EMPTY)
    assert router.dst_prefix == Path.of("svc")
    assert router.interpreter is not None
    assert router.interpreter.kind == "default"
    assert [identifier.kind for identifier in router.identifier] == ["io.l5d.header.token"]
    assert router.binding_timeout_ms == 10_000
    assert (router.binding_cache.paths, router.binding_cache.idle_ttl_secs) == (1000, 600)
    assert (router.max_headers_kb, router.max_initial_line_kb, router.max_err_response_kb) == (8, 4, 5120)
    assert (router.stream_after_content_length_kb, router.streaming_enabled) == (5, True)
    assert (router.compression_level, router.trace_propagator) == (-1, "io.l5d.default")
    assert (server.ip, server.port, server.max_call_depth) == ("127.0.0.1", 4140, 1000)
    assert (server.clear_context, server.max_concurrent_requests) == (False, None)
    assert server.server_session.idle_time_ms == 600_000
    assert server.socket_options.no_delay is True
    assert server.add_forwarded_header is None


def test_policies_have_every_default() -> None:
    """A name that no entry mentions gets Linkerd's policy."""
    router = http(MINIMAL)

    client, service = router.client.effective([]), router.service.effective([])

    assert client.load_balancer == P2cConfig(kind="p2c")
    assert client.failure_accrual == ConsecutiveFailuresConfig(kind="io.l5d.consecutiveFailures", failures=5)
    assert client.requeue_budget == BudgetConfig(min_retries_per_sec=10, percent_can_retry=0.2, ttl_secs=10)
    assert client.client_session == ClientSession(idle_time_ms=30_000, life_time_ms=None)
    assert client.host_connection_pool == HostConnectionPool()
    assert (client.fail_fast, client.forward_client_cert, client.tls) == (False, False, None)
    assert client.request_attempt_timeout_ms is None
    assert service.total_timeout_ms is None
    assert service.response_classifier == NonRetryable5XXConfig(kind="io.l5d.http.nonRetryable5XX")
    assert service.retries is not None
    assert (service.retries.budget, service.retries.backoff) == (
        BudgetConfig(),
        ConstantBackoffConfig(kind="constant", ms=0),
    )


def test_later_entries_override_parameter_by_parameter() -> None:
    """Each matching entry overrides what it sets, as a whole, and leaves the rest."""
    router = http(
        MINIMAL
        + """
  client:
    kind: io.l5d.static
    configs:
    - prefix: /
      requestAttemptTimeoutMs: 100
      loadBalancer: {kind: ewma, maxEffort: 9}
      clientSession: {lifeTimeMs: 5000, idleTimeMs: 1}
    - prefix: /#/io.l5d.fs/cat
      loadBalancer: {kind: ewma}
      clientSession: {lifeTimeMs: 6000}
      failFast: true
"""
    )
    both = [entry.params for entry in router.client.configs]

    assert [entry.prefix for entry in router.client.configs] == ["/", "/#/io.l5d.fs/cat"]
    effective = router.client.effective(both)
    assert (effective.request_attempt_timeout_ms, effective.fail_fast) == (100, True)
    assert effective.load_balancer == EwmaConfig(kind="ewma")
    assert effective.client_session == ClientSession(life_time_ms=6000)
    assert router.client.effective(both[:1]).fail_fast is False


def test_global_parameters_apply_to_all_names() -> None:
    """A block without a kind is one entry for the prefix of all."""
    router = http(MINIMAL + "  service: {totalTimeoutMs: 7}\n  client: {kind: global, failFast: true}\n")

    assert [(entry.prefix, entry.params.total_timeout_ms) for entry in router.service.configs] == [("/", 7)]
    assert [(entry.prefix, entry.params.fail_fast) for entry in router.client.configs] == [("/", True)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{kind: io.l5d.path}", ["io.l5d.path"]),
        ("[{kind: path, segments: 2}, {kind: io.l5d.header}]", ["io.l5d.path", "io.l5d.header"]),
    ],
)
def test_identifier_is_one_or_a_list(given: str, expected: list[str]) -> None:
    """One identifier needs no list."""
    router = http(MINIMAL + f"  identifier: {given}\n")

    assert expected == [identifier.kind for identifier in router.identifier]


@pytest.mark.parametrize("given", ["io.l5d.zipkin", "zipkin", "{kind: io.l5d.zipkin}", "{kind: zipkin}"])
def test_trace_propagator_is_a_kind_or_an_object(given: str) -> None:
    """Both spellings of the propagator mean the same."""
    assert http(MINIMAL + f"  tracePropagator: {given}\n").trace_propagator == "io.l5d.zipkin"


def test_forwarded_header_has_default_labelers() -> None:
    """An empty addForwardedHeader labels both ends at random."""
    (server,) = http(
        "routers:\n- protocol: http\n  servers:\n  - addForwardedHeader: {for: {kind: ip}}\n"
    ).servers

    assert server.add_forwarded_header is not None
    by, for_ = server.add_forwarded_header.by, server.add_forwarded_header.for_
    assert (by.kind, for_.kind) == ("requestRandom", "ip")


@pytest.mark.parametrize(("ip", "expected"), [("localhost", "127.0.0.1"), ("0:0::1", "::1"), ("[::]", "::")])
def test_ip_has_one_spelling(ip: str, expected: str) -> None:
    """Addresses are kept in canonical form, so that conflicts are seen."""
    assert fine(f'{MINIMAL}admin: {{ip: "{ip}"}}\n').admin.ip == expected


def test_a_router_for_h2_has_its_own_defaults() -> None:
    """An h2 router listens on 4142."""
    config = fine("routers:\n- protocol: h2\n  servers: [{}]\n")
    (router,) = config.routers

    assert isinstance(router, H2RouterConfig)
    assert [type(server) for server in router.servers] == [H2ServerConfig]
    assert (router.servers[0].port, router.servers[0].max_concurrent_streams_per_connection) == (4142, 100)
    assert router.service.effective([]).classification_timeout_ms == 100
    assert unavailable(config) == []


def test_usage_is_accepted() -> None:
    """Old files may configure the phone home that hostmesh does not have."""
    assert fine(MINIMAL + "usage: {orgId: me, enabled: false}\n").usage is not None


def test_same_text_gives_an_equal_config() -> None:
    """Configs compare by value, wherever they were read: a reload keeps what is equal."""
    assert load(MINIMAL, "one", REGISTRY)[0] == load(MINIMAL, "two", REGISTRY)[0]


FULL = """
admin: {port: 9991, security: {uiEnabled: false, pathWhitelist: [/admin/.*]}}
namers:
- kind: io.l5d.consul
  prefix: /c
  token: sesame
  weights: [{tag: a, weight: 2}]
  transformers: [{kind: io.l5d.port, port: 4141}]
routers:
- protocol: http
  label: out
  dtab: |
    /svc => 0.9 * /a & 0.1 * /b | ! ;
  identifier: {kind: io.l5d.path, segments: 2, consume: true}
  maxHeadersKB: 16
  servers:
  - port: 4140
    ip: 0.0.0.0
    addForwardedHeader: {by: {kind: "ip:port"}, for: {kind: static, label: x}}
  service:
    kind: io.l5d.static
    configs:
    - prefix: /svc/a
      totalTimeoutMs: 500
      retries: {backoff: {kind: jittered, minMs: 1, maxMs: 2}}
  client:
    loadBalancer: {kind: aperture}
    tls: {commonName: a, clientAuth: {certPath: /c, keyPath: /k}}
telemetry:
- kind: io.l5d.tracelog
accessLog: {sample: 1}
seed: 7
"""


@pytest.mark.parametrize("text", [MINIMAL, FULL], ids=["minimal", "full"])
def test_json_form_is_read_back_equal(text: str) -> None:
    """What /config.json shows is a configuration that means the same, but for secrets."""
    config = fine(text.replace("  token: sesame\n", ""))

    again = fine(json.dumps(to_json(config)))

    assert config == again


def test_json_form_has_the_keys_of_the_file_and_no_secrets() -> None:
    """X7: keys are those of the file, and a token never leaves."""
    shown = to_json(fine(FULL))

    assert shown["namers"][0]["token"] == "<redacted>"
    assert "sesame" not in json.dumps(shown)
    assert (shown["routers"][0]["protocol"], shown["routers"][0]["maxHeadersKB"]) == ("http", 16)
    assert "kind" not in shown["routers"][0]
    assert shown["routers"][0]["service"]["configs"][0]["prefix"] == "/svc/a"
    assert shown["routers"][0]["servers"][0]["addForwardedHeader"]["for"] == {"kind": "static", "label": "x"}
    assert shown["accessLog"] == {"sample": 1.0}


def test_load_file_raises_the_whole_report(tmp_path: FilePath) -> None:
    """A bad file is one error with a line per mistake."""
    file = tmp_path / "bad.yaml"
    file.write_text("routers: []\nzzz: 1\n")

    with pytest.raises(ConfigError) as caught:
        load_file(str(file), REGISTRY)

    assert [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()] == [
        "1: routers: found no routers, expected at least one (NoRoutersSpecified)",
        "2: zzz: found the unknown key 'zzz', expected one of: "
        "accessLog, admin, namers, plugins, registryGuard, routers, seed, telemetry, usage, warmStart",
    ]


def test_load_file_gives_config_and_report(tmp_path: FilePath) -> None:
    """A good file is a config that knows where it came from."""
    file = tmp_path / "good.yaml"
    file.write_text(MINIMAL)

    config, report = load_file(str(file))

    assert (config.file, report.ok) == (str(file), True)


def test_missing_file_is_one_line(tmp_path: FilePath) -> None:
    """A file that cannot be read is named, with the reason."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        read_file(str(tmp_path / "nowhere.yaml"))


def test_endless_file_is_cut() -> None:
    """X12: a device given as a file is read no further than the limit."""
    assert len(read_file("/dev/zero")) == MAX_BYTES + 1


def loaded_by(program: str, *names: str) -> list[str]:
    """Which of the modules a fresh interpreter has loaded after ``program``."""
    code = f"{program}; import sys; print(*[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


HEAVY = (
    "kazoo",
    "consul",
    "starlette",
    "httpx",
    "OpenSSL",
    "hypercorn",
    "statsd",
    "prometheus_client",
    "h2",
    "h11",
)


def test_config_package_loads_no_network_library() -> None:
    """Importing the configuration starts nothing heavy, not even trio."""
    modules = "import hostmesh.config.load, hostmesh.config.later, hostmesh.config.to_json"

    assert loaded_by(modules, "trio", *HEAVY) == []


def test_checking_a_file_loads_only_what_it_names() -> None:
    """The kinds of an ordinary file load none of the libraries that it does not need."""
    text = "namers: [{kind: io.l5d.consul}]\nrouters: [{protocol: http, servers: [{}]}]"

    assert loaded_by(f"from hostmesh.config.load import load; load({text!r}, 'f')", *HEAVY) == []
