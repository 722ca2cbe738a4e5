"""``registryGuard`` in a running daemon."""

from __future__ import annotations

from pathlib import Path

from tests.wire.harness import ROUTING, EndpointServer, Hostmesh

GUARD = "registryGuard: {denyEndpoints: [127.0.0.2/32, 'fd00::/8'], massRemovalMs: 600000}\n"


def test_x8_denied_endpoints_get_no_request(tmp_path: Path) -> None:
    """They are filtered out of the namer's answer, and counted."""
    with (
        EndpointServer("allowed") as allowed,
        EndpointServer("denied", host="127.0.0.2") as denied,
        Hostmesh.routing(tmp_path, GUARD + ROUTING, web=[allowed, denied], other=[denied]) as mesh,
    ):
        seen = {mesh.get().endpoint for _ in range(10)}
        refused = mesh.get(host="other")

        assert seen == {"allowed"}
        assert refused.status == 502
        assert mesh.metrics()["registry/guard/denied_endpoints"] == 2
        mesh.wait_log("names.endpoints_denied")


def test_x10_a_mass_removal_is_put_off(tmp_path: Path) -> None:
    """The file loses two of three endpoints, which go on being asked for as long as the guard says."""
    with (
        EndpointServer("one") as one,
        EndpointServer("two") as two,
        EndpointServer("three") as three,
        Hostmesh.routing(tmp_path, GUARD + ROUTING, web=[one, two, three]) as mesh,
    ):
        assert mesh.get().status == 200

        mesh.set_endpoints("web", [one])

        mesh.wait_metric("registry/guard/mass_removals", lambda count: count == 1)
        journal = mesh.admin("/namer_journal.json").text
        assert "2 of 3 endpoints are gone: believed in 600 s" in journal
        assert {mesh.get().endpoint for _ in range(50)} == {"one", "two", "three"}
