"""Rows T1-T6, T8, T10 and P2-P4, P6 of the threat model, by the bytes the endpoint received."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.harness import EndpointServer, Hostmesh
from tests.wire.lab import CONFIG, Lab, lab


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("trust")) as built:
        yield built


def get(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: web", *lines, b"", b""))


SPOOFED = (
    b"l5d-dtab: /svc=>/$/inet/169.254.169.254/80",
    b"L5D-Ctx-Dtab: /svc=>/$/inet/169.254.169.254/80",
    b"l5d-ctx-deadline: 1 2",
    b"l5d-ctx-trace: AAAAAAAAAAEAAAAAAAAAAQAAAAAAAAABAAAAAAAAAAA=",
    b"l5d-sample: 1.0",
    b"l5d-reqid: 1111111111111111",
    b"l5d-dst-service: /svc/spoofed",
    b"l5d-dst-client: /#/spoofed",
    b"l5d-dst-residual: /spoofed",
    b"l5d-err: spoofed",
    b"l5d-retryable: true",
    b"l5d_dtab: /svc=>/$/inet/169.254.169.254/80",
    b"dtab-local: /svc=>/$/inet/169.254.169.254/80",
)


def test_t1_context_from_outside_does_nothing(hostile: Lab) -> None:
    """T1: on an untrusted listener every l5d-* and dtab-local is gone before the request is identified."""
    outcome = hostile.send(get(*SPOOFED), port="edge", answers=1)

    assert outcome.statuses == [200]
    head = outcome.requests[0].head
    for trace in (
        b"169.254",
        b"spoofed",
        b"1111111111111111",
        b"deadline",
        b"l5d-sample",
        b"retryable",
        b"dtab",
    ):
        assert trace not in head.lower()
    assert re.findall(rb"(?im)^l5d[-_][^:]*", head) == [
        b"l5d-dst-service",
        b"l5d-dst-client",
        b"l5d-ctx-trace",
        b"l5d-reqid",
    ]
    assert outcome.requests[0].get("l5d-dst-service") == "/svc/web"


def test_t1_trusted_listener_says_so(hostile: Lab) -> None:
    """T1: the same dtab on a trusted listener is obeyed: it is what clearContext is for."""
    outcome = hostile.send(get(b"l5d-dtab: /svc/web=>/$/io.buoyant.http.status/418"), answers=1)

    assert outcome.statuses == [418]


def test_t1_warning_for_a_trusting_listener_on_every_address(tmp_path: Path) -> None:
    """T1: a plaintext listener beyond loopback without clearContext gets one warning at start."""
    config = CONFIG.replace("  - port: @port@\n    ip: 127.0.0.1", "  - port: @port@\n    ip: 0.0.0.0")
    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, config, web=[web]) as mesh:
        assert mesh.log().count("set clearContext: true") == 1


@pytest.mark.parametrize("address", ["169.254.169.254/80", "fe80::1/80", "::ffff:169.254.169.254/80"])
def test_t2_request_dtab_may_not_name_link_local(hostile: Lab, address: str) -> None:
    """T2: link-local addresses in a request's own dtab are refused even from a trusted caller."""
    outcome = hostile.send(get(f"l5d-dtab: /svc/web=>/$/inet/{address}".encode()), answers=1)

    assert (outcome.statuses, outcome.reason) == ([403], "policy-dtab")
    assert outcome.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "0.0.0.0", "localhost", "::1", "::ffff:127.0.0.1"])
def test_t2_request_dtab_may_not_name_the_admin_port(hostile: Lab, host: str) -> None:
    """T2, X6: no spelling of the admin address can be reached by a request's own dtab."""
    admin = hostile.mesh.ports["admin"]

    outcome = hostile.send(get(f"l5d-dtab: /svc/web=>/$/inet/{host}/{admin}".encode()), answers=1)

    assert outcome.answers[0].status in (400, 403, 502)
    assert outcome.answers[0].get("l5d-err") is not None
    assert outcome.requests == []


def test_t3_client_certificate_header_is_cut(hostile: Lab) -> None:
    """T3: x-forwarded-client-cert of a caller reaches nobody, in any spelling."""
    lines = (b"X-Forwarded-Client-Cert: By=evil", b"x_forwarded_client_cert: By=evil")

    for port in ("port", "edge"):
        outcome = hostile.send(get(*lines), port=port, answers=1)
        assert b"evil" not in outcome.requests[0].head


FORWARDED = CONFIG.replace(
    "    ip: 127.0.0.1\n", "    ip: 127.0.0.1\n    addForwardedHeader: {for: {kind: ip}}\n"
)


def test_t4_forged_forwarded_is_replaced_at_the_edge(tmp_path: Path) -> None:
    """T4: Forwarded of an untrusted caller gives way to ours; a trusted one's stays in front of ours."""
    forged = b"Forwarded: for=6.6.6.6;proto=https"
    with lab(tmp_path, FORWARDED) as built:
        edge = built.send(get(forged), port="edge", answers=1).requests[0]
        inside = built.send(get(forged), answers=1).requests[0]

    assert [value.split(";")[1] for value in edge.get_all("forwarded")] == ["for=127.0.0.1"]
    assert inside.get_all("forwarded")[0] == "for=6.6.6.6;proto=https"
    assert "for=127.0.0.1" in inside.get_all("forwarded")[1]


@pytest.mark.parametrize(
    "nominated",
    [
        b"l5d-ctx-trace",
        b"L5D-Dst-Service",
        b"Host",
        b"X-Forwarded-For",
        b"Authorization",
        b"Content-Length",
        b"Via",
    ],
)
def test_t5_fields_of_the_proxy_cannot_be_nominated(hostile: Lab, nominated: bytes) -> None:
    """T5: Connection cannot take away routing, credentials, framing, or what the proxy itself adds."""
    lines = (
        b"Connection: close, " + nominated,
        b"X-Forwarded-For: 1.2.3.4",
        b"Authorization: a",
        b"Content-Length: 0",
    )

    outcome = hostile.send(get(*lines), answers=1)

    request = outcome.requests[0]
    for name in ("host", "x-forwarded-for", "authorization", "via", "l5d-ctx-trace", "l5d-dst-service"):
        assert request.get(name) is not None, name
    assert request.get("connection") is None


def test_t5_other_nominated_fields_are_cut(hostile: Lab) -> None:
    """T5: what Connection names is removed, in any case and from several Connection lines."""
    lines = (
        b"Connection: X-One",
        b"X-one: 1",
        b"connection: x-TWO , keep-alive",
        b"X-Two: 2",
        b"Keep-Alive: 5",
        b"X-Three: 3",
    )

    outcome = hostile.send(get(*lines), answers=1)

    request = outcome.requests[0]
    assert [request.get(n) for n in ("x-one", "x-two", "keep-alive", "x-three")] == [None, None, None, "3"]


def test_t5_nominated_fields_of_a_response_are_cut(hostile: Lab) -> None:
    """T5: the same towards the caller."""
    hostile.answer(
        b"HTTP/1.1 200 OK\r\nConnection: X-One\r\nX-One: 1\r\nX-Two: 2\r\nContent-Length: 0\r\n\r\n"
    )

    answer = hostile.send(get(), answers=1).answers[0]

    assert [answer.get(n) for n in ("connection", "x-one", "x-two", "via")] == [
        None,
        None,
        "2",
        "1.1 hostmesh",
    ]


def test_t6_underscore_names_are_dropped_at_the_edge(hostile: Lab) -> None:
    """T6: names with an underscore do not pass an untrusted listener; a trusted one lets ordinary ones through."""
    lines = (b"X_Forwarded_For: 1.2.3.4", b"A_b: c", b"_: d", b"A-b: e")

    edge = hostile.send(get(*lines), port="edge", answers=1).requests[0]
    inside = hostile.send(get(*lines), answers=1).requests[0]

    assert [edge.get(n) for n in ("x_forwarded_for", "a_b", "_", "a-b")] == [None, None, None, "e"]
    assert inside.get("a_b") == "c"


def test_t6_framing_twins_never_reach_an_endpoint(hostile: Lab) -> None:
    """T6: to a CGI endpoint ``Content_Length`` is the length itself, so not even a trusted caller may send it."""
    outcome = hostile.send(get(b"Content_Length: 5", b"Transfer_Encoding: chunked"), answers=1)

    assert b"_" not in outcome.requests[0].head.partition(b"l5d-dst")[0]


def test_t8_answers_at_the_edge_tell_nothing(hostile: Lab) -> None:
    """T8: no l5d-* of ours or of the endpoint, no Via of hops behind us, and no details in the body."""
    hostile.answer(
        b"HTTP/1.1 200 OK\r\nl5d-err: x\r\nl5d-dst-client: /#/y\r\nVia: 1.1 secret-host\r\nContent-Length: 0\r\n\r\n"
    )
    served = hostile.send(get(), port="edge", answers=1).answers[0]
    unknown = hostile.send(b"GET / HTTP/1.1\r\nHost: no-such\r\n\r\n", port="edge", answers=1).answers[0]
    refused = hostile.send(get(b"A : b"), port="edge").answers[0]

    for answer in (served, unknown, refused):
        assert b"l5d-" not in answer.head.lower()
        assert b"secret-host" not in answer.head
    assert (unknown.status, refused.status) == (502, 400)
    assert b"no-such" not in unknown.body
    assert b"/svc" not in unknown.body
    assert b"request failed" in refused.body


def test_t10_error_text_is_no_header(hostile: Lab) -> None:
    """T10: what the caller sent comes back in l5d-err as percent-encoded ASCII of at most 1 KiB."""
    name = b"a" * 200 + b"%0d%0aX-Evil:1" + b"b" * 700
    outcome = hostile.send(b"GET / HTTP/1.1\r\nHost: " + name + b"\r\n\r\n", answers=1)
    dtab = hostile.send(get(b"l5d-dtab: /a => " + b"\xff\xfe\xe9" * 500), answers=1)

    for answer in (outcome.answers[0], dtab.answers[0]):
        error = answer.get("l5d-err") or ""
        assert 0 < len(error) <= 1024
        assert re.fullmatch(r"[A-Za-z0-9%+._*~\-]+", error)
        assert answer.get("x-evil") is None


@pytest.mark.parametrize("target", [b"/a#b", b"/#", b"http://web/a#b", b"#"])
def test_p2_fragments_are_refused(hostile: Lab, target: bytes) -> None:
    """P2: ``#`` in the request target is 400."""
    outcome = hostile.send(get(line=b"GET " + target + b" HTTP/1.1"))

    assert (outcome.statuses, outcome.requests) == ([400], [])


@pytest.mark.parametrize(
    "host",
    [
        b"user@web",
        b"",
        b"we b",
        b"web:80:80",
        b"web:x",
        b"web/..",
        b"web,other",
        b"web\x80",
        b"[::1",
        b"web:999999",
        b"<web>",
    ],
)
def test_p3_hosts_that_are_no_authority_are_refused(hostile: Lab, host: bytes) -> None:
    """P3: user info, empty, spaces and other bytes in Host are 400, in an absolute-form target as well."""
    plain = hostile.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    absolute = plain
    if host and b"/" not in host:
        absolute = hostile.send(b"GET http://" + host + b"/ HTTP/1.1\r\nHost: web\r\n\r\n")

    assert (plain.statuses, absolute.statuses) == ([400], [400])
    assert plain.requests == []


@pytest.mark.parametrize(
    "host", [b"$", b"#", b"..", b".", b"%2f", b"$inet", b"[::1]:80", b"%24"], ids=lambda host: host.decode()
)
def test_p4_hosts_select_no_other_name(hostile: Lab, host: bytes) -> None:
    """P4: a Host is one segment below /svc, whatever it is: refused as a name, or bound to nothing."""
    outcome = hostile.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", answers=1)

    assert outcome.answers[0].status in (400, 502)
    assert outcome.requests == []


PATHS = CONFIG.replace(
    "  label: out\n", "  label: out\n  dstPrefix: /\n  identifier:\n    kind: io.l5d.path\n    segments: 3\n"
).replace("/svc => /#/io.l5d.fs;", "/svc => /#/io.l5d.fs; /marker-1 => /#/io.l5d.fs/web;")


@pytest.mark.parametrize(
    "target",
    [b"/$/inet/127.1", b"/#/io.l5d.fs/web", b"/%/a/b", b"/$/io.buoyant.http.status/200", b"/../$/inet"],
)
def test_p4_empty_prefix_does_not_open_the_built_in_names(tmp_path: Path, target: bytes) -> None:
    """P4: with dstPrefix / the path of a request still cannot begin with /$, /# or /%."""
    with EndpointServer("web-1") as web, Hostmesh.routing(tmp_path, PATHS, web=[web]) as mesh:
        with mesh.client() as client:
            client.send(b"GET " + target + b" HTTP/1.1\r\nHost: web\r\n\r\n")
            response = client.response()

        assert response.status == 400
        assert web.requests == []


def test_p4_names_beyond_the_limits_are_refused(hostile: Lab) -> None:
    """P4: a name longer than 1 KiB is 400."""
    outcome = hostile.send(b"GET / HTTP/1.1\r\nHost: " + b"a" * 1100 + b"\r\n\r\n", answers=1)

    assert (outcome.statuses, outcome.reason) == ([400], "bad-name")


def test_p6_made_up_hosts_leave_nothing(tmp_path: Path) -> None:
    """P6: twenty thousand distinct hosts: memory and metrics stay flat, and the real name is still served. All of them
    share one name in the metrics."""
    with lab(tmp_path) as built:
        mesh = built.mesh

        def flood(start: int, count: int) -> None:
            with mesh.client() as client:
                for begin in range(start, start + count, 100):
                    hosts = range(begin, begin + 100)
                    client.send(b"".join(b"GET / HTTP/1.1\r\nHost: made-up-%d\r\n\r\n" % n for n in hosts))
                    assert {client.response().status for _ in hosts} == {502}

        flood(0, 5_000)
        resident, names = mesh.resident_bytes(), len(mesh.metrics())
        flood(5_000, 15_000)

        assert mesh.resident_bytes() - resident < 64_000_000
        metrics = mesh.metrics()
        assert len(metrics) <= names + 50
        assert not [name for name in metrics if name.startswith("rt/") and "made-up" in name]
        assert [metrics[name] for name in metrics if name.endswith("/service/unknown/failures")] == [20_000]
        assert mesh.get("/").status == 200
