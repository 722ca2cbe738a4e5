from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_prometheus import render


def parsed(text: str) -> dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]]:
    """Samples by name as prometheus_client reads them: the family's type, and values by labels."""
    found: dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser adds OpenMetrics' suffix to counters that have none.
            name = sample.name.removesuffix("_total") if family.type == "counter" else sample.name
            values = found.setdefault(name, (family.type, {}))[1]
            labels = tuple(sample.labels.items())
            assert labels not in values, f"{name}{labels} twice"
            values[labels] = sample.value
    return found


def test_the_names_are_those_of_linkerd() -> None:
    """Router, server, service and client become labels; the form of the lines is Linkerd's."""
    tree = MetricsTree()
    router = tree.scope("rt", "http")
    router.counter("server", "127.0.0.1/4140", "requests").value = 12
    router.counter("service", "svc/web", "success").value = 11
    router.counter("client", "#/io.l5d.fs/web", "service", "svc/web", "requests").value = 10
    router.gauge("originator", lambda: 1)
    tree.counter("namer", "#/io.l5d.fs", "adds").value = 3

    assert "".join(render(tree)) == (
        "# TYPE namer:__io_l5d_fs:adds counter\n"
        "namer:__io_l5d_fs:adds 3\n"
        "# TYPE rt:client:service:requests counter\n"
        'rt:client:service:requests{rt="http", client="#/io.l5d.fs/web", service="svc/web"} 10\n'
        "# TYPE rt:originator gauge\n"
        'rt:originator{rt="http"} 1\n'
        "# TYPE rt:server:requests counter\n"
        'rt:server:requests{rt="http", server="127.0.0.1/4140"} 12\n'
        "# TYPE rt:service:success counter\n"
        'rt:service:success{rt="http", service="svc/web"} 11\n'
    )


def test_names_of_a_namer_are_labels() -> None:
    """What a namer says of each name is one metric with the name as label, and not a metric per name."""
    tree = MetricsTree()
    for name in ("/#/io.l5d.fs/a-b", "/#/io.l5d.fs/a_b"):
        tree.scope("namer", "#/io.l5d.fs", "age_ms").gauge(name, lambda: 5)

    assert parsed("".join(render(tree)))["namer:__io_l5d_fs:age_ms"] == (
        "gauge",
        {(("name", "/#/io.l5d.fs/a-b"),): 5.0, (("name", "/#/io.l5d.fs/a_b"),): 5.0},
    )


def test_callers_are_labels() -> None:
    """Names that callers have proved to be theirs are told apart, and are not metrics of their own."""
    tree = MetricsTree()
    scope = tree.scope("rt", "http", "server", "127.0.0.1/4140", "tls")
    scope.counter("handshakes").value = 2
    for name in ("spiffe://mesh/a-b", "spiffe://mesh/a/b"):
        scope.scope("callers").counter(name).value = 1

    found = parsed("".join(render(tree)))
    server = ("rt", "http"), ("server", "127.0.0.1/4140")
    assert found["rt:server:tls:handshakes"] == ("counter", {server: 2.0})
    assert found["rt:server:tls:callers"] == (
        "counter",
        {
            (*server, ("caller", "spiffe://mesh/a-b")): 1.0,
            (*server, ("caller", "spiffe://mesh/a/b")): 1.0,
        },
    )


def test_grpc_methods_are_labels() -> None:
    """A method is a label of one metric for all methods."""
    tree = MetricsTree()
    for method in ("a.B/C", "a.B/D"):
        tree.scope("rt", "out", "service", "svc/web", "grpc", method).counter("requests").value = 2

    assert parsed("".join(render(tree)))["rt:service:grpc:requests"] == (
        "counter",
        {
            (("rt", "out"), ("service", "svc/web"), ("method", "a.B/C")): 2.0,
            (("rt", "out"), ("service", "svc/web"), ("method", "a.B/D")): 2.0,
        },
    )


def test_reasons_of_failures_are_labels() -> None:
    """Below a scope failures/a/b is failures with exception="a:b"; elsewhere it stays a name."""
    tree = MetricsTree()
    service = tree.scope("rt", "http", "service", "svc/web")
    service.counter("failures").value = 5
    service.counter("failures", "connect-refused", "x").value = 4
    service.counter("exn", "no-endpoints").value = 1
    tree.counter("rt", "http", "failures", "deep").value = 2

    scope = (("rt", "http"), ("service", "svc/web"))
    assert parsed("".join(render(tree))) == {
        "rt:service:failures": ("counter", {scope: 5.0, (*scope, ("exception", "connect-refused:x")): 4.0}),
        "rt:service:exceptions": ("counter", {(*scope, ("exception", "no-endpoints")): 1.0}),
        "rt:failures:deep": ("counter", {(("rt", "http"),): 2.0}),
    }


@pytest.mark.parametrize("label", ['a"b', "a\\b", "a\nb", 'C:\\"\n\\\\n', "ü, {x=1}", ""])
def test_label_values_survive_whatever_they_hold(label: str) -> None:
    """A label value is read back as it was: quotes, backslashes and line breaks are escaped, not lost."""
    tree = MetricsTree()
    tree.counter("rt", label, "x").value = 1

    assert parsed("".join(render(tree))) == {"rt:x": ("counter", {(("rt", label),): 1.0})}


def test_counts_and_sums_grow_while_quantiles_are_of_the_last_minute() -> None:
    """A stat is a summary with cumulative count and sum, in the unit of its name."""
    tree = MetricsTree()
    stat = tree.stat("rt", "http", "service", "svc/web", "request_latency_ms", scale=1000)
    assert "".join(render(tree)) == ""

    stat.add(1_500)
    stat.add(2_500)
    scope = (("rt", "http"), ("service", "svc/web"))
    name = "rt:service:request_latency_ms"
    assert parsed("".join(render(tree))) == {
        f"{name}_sum": ("summary", {scope: 4.0}),
        f"{name}_count": ("summary", {scope: 2.0}),
    }

    tree.tick_minute()
    stat.add(6_000)
    shown = parsed("".join(render(tree)))
    assert (shown[f"{name}_sum"][1], shown[f"{name}_count"][1]) == ({scope: 10.0}, {scope: 3.0})
    assert shown[f"{name}_avg"] == ("gauge", {scope: 2.0})
    assert shown[name] == (
        "summary",
        {
            (*scope, ("quantile", point)): value
            for point, value in {
                "0": 1.5,
                "0.5": 1.5,
                "0.9": 2.5,
                "0.95": 2.5,
                "0.99": 2.5,
                "0.999": 2.5,
                "0.9999": 2.5,
                "1": 2.5,
            }.items()
        },
    )


def test_buckets_are_cumulative_and_the_same_everywhere() -> None:
    """With buckets a stat is a histogram whose limits do not depend on its samples."""
    tree = MetricsTree()
    stat = tree.stat("a_ms", scale=1000)
    for value in (10, 63, 64, 1_000_000, 4_000_000_000):
        stat.add(value)
    tree.stat("b_ms", scale=1000).add(1)

    shown = parsed("".join(render(tree, buckets=True)))
    kind, buckets = shown["a_ms_bucket"]
    values = [value for _labels, value in sorted((float(k[0][1]), v) for k, v in buckets.items())]
    assert kind == "histogram"
    assert buckets[(("le", "0.063"),)] == 2
    assert buckets[(("le", "1048.575"),)] == 4
    assert buckets[(("le", "+Inf"),)] == 5 == shown["a_ms_count"][1][()]
    assert values == sorted(values)
    assert list(shown["b_ms_bucket"][1]) == list(buckets)


def test_names_that_collide_share_a_series() -> None:
    """Two counters that a name cannot tell apart are added; the format allows each series once."""
    tree = MetricsTree()
    tree.counter("a-b").value = 1
    tree.counter("a_b").value = 2
    tree.gauge("c-d", lambda: 1)
    tree.counter("c_d").value = 5

    assert parsed("".join(render(tree))) == {"a_b": ("counter", {(): 3.0}), "c_d": ("unknown", {(): 6.0})}


def test_names_are_always_legal() -> None:
    """A name never begins with a digit, and the prefix is cleaned like the rest."""
    tree = MetricsTree()
    tree.counter("4xx").value = 1

    assert "".join(render(tree)) == "# TYPE _4xx counter\n_4xx 1\n"
    assert "".join(render(tree, prefix="my-mesh:")) == "# TYPE my_mesh:4xx counter\nmy_mesh:4xx 1\n"


@pytest.mark.parametrize(
    ("value", "shown"), [(float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (0.5, "0.5")]
)
def test_gauges_may_be_any_number(value: float, shown: str) -> None:
    """The format has words for what is no finite number."""
    tree = MetricsTree()
    tree.gauge("g", lambda: value)

    assert "".join(render(tree)) == f"# TYPE g gauge\ng {shown}\n"


def test_a_broken_gauge_is_left_out() -> None:
    """A gauge that cannot be read costs only itself."""
    tree = MetricsTree()
    tree.gauge("g", lambda: 1 / 0)
    tree.counter("c").value = 1

    assert "".join(render(tree)) == "# TYPE c counter\nc 1\n"


def test_a_big_tree_comes_in_many_parts() -> None:
    """Rendering yields while it collects and while it writes."""
    tree = MetricsTree()
    for number in range(1000):
        tree.counter(f"many{number}")

    assert len(list(render(tree))) > 25
