from __future__ import annotations

from hostmesh.telemetry.metrics import MetricsTree
from hostmesh.telemetry.render_influx import render


def test_siblings_are_fields_of_one_measurement() -> None:
    """A node with metrics is one line: measurement, sorted tags with the host, sorted fields."""
    tree = MetricsTree()
    server = tree.scope("rt", "http", "server", "127.0.0.1/4140")
    server.counter("requests").value = 12
    server.counter("failures", "no-dentry").value = 2
    server.gauge("pending", lambda: 1)
    tree.counter("rt", "http", "client", "#/io.l5d.fs/web", "service", "svc/web", "requests").value = 3
    tree.counter("up").value = 1

    assert "".join(render(tree, host="h:9990")).splitlines() == [
        "root,host=h:9990 up=1",
        "rt:client:service,client=#/io.l5d.fs/web,host=h:9990,rt=http,service=svc/web requests=3",
        "rt:server,host=h:9990,rt=http,server=127.0.0.1/4140 pending=1.0,requests=12",
        "rt:server:failures,host=h:9990,rt=http,server=127.0.0.1/4140 no-dentry=2",
    ]


def test_a_stat_has_eleven_fields_once_a_minute_is_over() -> None:
    """A stat shows its last minute with Linkerd's suffixes, and nothing before."""
    tree = MetricsTree()
    tree.stat("s", scale=1000).add(1500)
    assert "".join(render(tree)) == ""

    tree.tick_minute()
    assert "".join(render(tree)) == (
        "root,host=none s_avg=1.5,s_count=1,s_max=1.5,s_min=1.5,"
        "s_p50=1.5,s_p90=1.5,s_p95=1.5,s_p99=1.5,s_p999=1.5,s_p9999=1.5,s_sum=1.5\n"
    )


def test_what_the_protocol_cannot_say_is_escaped_or_left_out() -> None:
    """Blanks, commas and equal signs are escaped, line breaks and backslashes replaced, odd numbers
    dropped."""
    tree = MetricsTree()
    router = tree.scope("rt", "a b,c=d\n\\")
    router.counter("x y,z=1").value = 1
    router.gauge("nan", lambda: float("nan"))
    router.gauge("broken", lambda: 1 / 0)
    tree.counter("rt", "", "x").value = 1

    assert "".join(render(tree, host="")).splitlines() == [
        "rt x=1",
        "rt,rt=a\\ b\\,c\\=d__ x\\ y\\,z\\=1=1",
    ]
