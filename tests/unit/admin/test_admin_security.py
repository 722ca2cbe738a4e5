"""Who may ask the admin port for what."""

from __future__ import annotations

import pytest

from hostmesh.admin.security import PathGate, bare_host, host_refusal, is_loopback_ip, origin_refusal
from hostmesh.config.model import SecurityConfig


@pytest.mark.parametrize(
    "host",
    [
        None,
        "localhost",
        "localhost:9990",
        "localhost:4140",
        "LOCALHOST.:9990",
        "admin.localhost",
        "127.0.0.1",
        "127.0.0.1:4140",
        "127.9.9.9",
        "127.1:9990",
        "[::1]:9990",
        "[::1]",
        "10.1.2.3:9990",
        "[fe80::1]:9990",
        "",
    ],
)
def test_x6_loopback_names_and_addresses_pass_the_host_check(host: str | None) -> None:
    """A name that nobody else can own, or no name at all, is no rebinding; the port plays no role."""
    assert host_refusal(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9990",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "web",
        "127.1.evil:80",
    ],
)
def test_x6_other_names_are_refused_with_the_way_out(host: str) -> None:
    """A rebound page carries its own name in Host; the refusal says what was found and what to use."""
    why = host_refusal(host)

    assert why is not None
    assert repr(host) in why
    assert "localhost" in why


@pytest.mark.parametrize(
    ("value", "bare"),
    [
        ("Web:80", "web"),
        ("[::1]:9990", "::1"),
        ("::1", "::1"),
        ("web.", "web"),
        (" web ", "web"),
        ("[::1", "::1"),
    ],
)
def test_bare_host(value: str, bare: str) -> None:
    """Port, brackets, case and the root dot go."""
    assert bare == bare_host(value)


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("web", False),
    ],
)
def test_loopback_addresses(ip: str, expected: bool) -> None:
    """The wildcard address is not loopback, a mapped loopback address is."""
    assert expected == is_loopback_ip(ip)


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("localhost:9990", None, None),
        ("localhost:9990", "http://localhost:9990", "same-origin"),
        ("localhost:9990", None, "none"),
        ("LOCALHOST:9990", "http://localhost:9990", None),
    ],
)
def test_requests_of_tools_and_of_our_own_pages_may_change_things(
    host: str, origin: str | None, site: str | None
) -> None:
    """curl sends no Origin, our own page sends ours."""
    assert origin_refusal(host, origin, site) is None


@pytest.mark.parametrize(
    ("host", "origin", "site"),
    [
        ("localhost:9990", "http://evil.example", None),
        ("localhost:9990", "null", None),
        ("localhost:9990", "http://localhost:3000", None),
        ("localhost:9990", None, "cross-site"),
        ("localhost:9990", None, "same-site"),
        (None, "http://localhost:9990", None),
    ],
)
def test_x6_requests_of_foreign_pages_may_not_change_things(
    host: str | None, origin: str | None, site: str | None
) -> None:
    """A page elsewhere, another port included, can make a browser POST here; the browser says so."""
    assert origin_refusal(host, origin, site) is not None


def test_without_security_everything_is_served() -> None:
    """Linkerd's default."""
    gate = PathGate(SecurityConfig())

    assert all(gate.admits(path) for path in ("/", "/admin/shutdown", "/admin/ping", "/anything"))


@pytest.mark.parametrize(
    ("path", "category"),
    [
        ("/", "ui"),
        ("/config.json", "ui"),
        ("/metrics.json", "ui"),
        ("/admin/metrics.json", "ui"),
        ("/delegator.json", "ui"),
        ("/files/js/x.js", "ui"),
        ("/admin/shutdown", "control"),
        ("/logging.json", "control"),
        ("/admin/ping", "diagnostics"),
        ("/admin/metrics/prometheus", "diagnostics"),
        ("/admin/shutdown/x", "diagnostics"),
        ("/requests", "diagnostics"),
    ],
)
def test_each_path_has_one_category(path: str, category: str) -> None:
    """Switching the path's category off refuses it, switching the others off does not."""
    only = {f"{name}_enabled": name == category for name in ("ui", "control", "diagnostics")}
    without = {f"{name}_enabled": name != category for name in ("ui", "control", "diagnostics")}

    assert PathGate(SecurityConfig(**only)).admits(path)
    assert not PathGate(SecurityConfig(**without)).admits(path)


def test_the_whitelist_opens_paths_of_a_closed_category() -> None:
    """Linkerd's admin.yaml: diagnostics off, threads allowed, help refused."""
    gate = PathGate(
        SecurityConfig(
            control_enabled=False,
            diagnostics_enabled=False,
            path_whitelist=("/admin/threads",),
            path_blacklist=("/help",),
        )
    )

    assert gate.admits("/admin/threads")
    assert not gate.admits("/admin/threads.json")
    assert not gate.admits("/admin/ping")
    assert not gate.admits("/help")
    assert gate.admits("/")


def test_the_blacklist_wins() -> None:
    """A path on both lists is refused."""
    gate = PathGate(SecurityConfig(path_whitelist=("/admin/.*",), path_blacklist=("/admin/p.*",)))

    assert not gate.admits("/admin/ping")
    assert gate.admits("/admin/threads")


def test_patterns_match_the_whole_path() -> None:
    """A pattern that matches a part, or a line of a path with a newline in it, matches nothing."""
    gate = PathGate(SecurityConfig(path_blacklist=("/admin",)))

    assert gate.admits("/admin/ping")
    assert gate.admits("/admin\n")
    assert not gate.admits("/admin")
