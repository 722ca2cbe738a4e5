"""What admin shows of TLS: the table of the overview, alarms on top, and the page for programs."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from hostmesh.admin.certificates import MAX_ROWS, certificates_table
from hostmesh.admin.view import CertificateView

FINE = CertificateView(
    kind="certificate",
    file="/tls/web.pem",
    name="web.mesh",
    serial="abc123",
    not_after=1_900_000_000.0,
    days=29.5,
    loaded=1_800_000_000.0,
    alarm=None,
    notes=(),
)
BROKEN = evolve(FINE, alarm="/tls/web.key: this is not the key of <the> certificate")


def test_x4_an_alarm_is_on_top_of_the_overview(daemon: Any, ask: Any) -> None:
    """Escaped, and in its row as well."""
    daemon.view.certificates = lambda: [BROKEN]
    daemon.view.alarms = lambda: [BROKEN.alarm]

    page = ask("GET", "/").text

    assert '<p class="bad">/tls/web.key: this is not the key of &lt;the&gt; certificate</p>' in page
    assert '<td class="bad">/tls/web.key: this is not the key of &lt;the&gt; certificate</td>' in page


def test_the_overview_names_each_certificate_and_its_days(daemon: Any, ask: Any) -> None:
    """With notes where nothing is wrong yet; the page of one router is about that router only."""
    daemon.view.certificates = lambda: [
        FINE,
        evolve(FINE, kind="ca", file="/tls/ca.pem", notes=("ends soon",)),
    ]

    page = ask("GET", "/").text

    assert "<td>web.mesh</td><td>abc123</td><td>29.5</td><td>ok</td>" in page
    assert "<td>ends soon</td>" in page
    assert "web.mesh" not in ask("GET", "/?router=http").text


def test_without_tls_nothing_is_shown(ask: Any) -> None:
    """No heading, no table."""
    assert "TLS" not in ask("GET", "/").text
    assert ask("GET", "/certificates.json").json == {"alarms": [], "certificates": []}


def test_a_bundle_of_cas_does_not_fill_the_page() -> None:
    """Our own certificates first, then what ends first."""
    cas = [evolve(FINE, kind="ca", file=f"/tls/{n}.pem", days=float(n)) for n in range(200)]

    table = certificates_table([*cas, FINE])

    assert table.count("<tr>") == 1 + MAX_ROWS
    assert table.index("/tls/web.pem") < table.index("/tls/0.pem")
    assert "and 171 more" in table


def test_programs_read_everything(daemon: Any, ask: Any) -> None:
    """Times in milliseconds, as on the other pages."""
    daemon.view.certificates = lambda: [BROKEN]
    daemon.view.alarms = lambda: [BROKEN.alarm]

    page = ask("GET", "/certificates.json").json

    assert page["alarms"] == [BROKEN.alarm]
    assert page["certificates"] == [
        {
            "kind": "certificate",
            "file": "/tls/web.pem",
            "name": "web.mesh",
            "serial": "abc123",
            "notAfter": 1_900_000_000_000,
            "days": 29.5,
            "loaded": 1_800_000_000_000,
            "alarm": BROKEN.alarm,
            "notes": [],
        }
    ]
