"""Flights that resume a session, told from those that do not."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from hostmesh.protocol.tls.server_hello import resumes
from tests import tls_pairs
from tests.tls_files import TlsFiles


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("callers", [False, True])
def test_a_resumed_handshake_is_known(tls_files: TlsFiles, version: str, callers: bool) -> None:
    """The first one is full, the second goes on with its session, one with another server's ticket is full again."""
    contexts = tls_pairs.server(tls_files, callers=callers, protocols=[version])
    context = tls_pairs.client(tls_files, tls_files.client)
    sessions: list[Any] = []
    found = []
    for server_contexts in (contexts, contexts, tls_pairs.server(tls_files, callers=callers)):
        server = server_contexts.connection()
        client = context.connection("web.mesh", session=sessions[-1] if sessions else None)
        client.on_session = sessions.append
        tls_pairs.shake(server, client)
        found.append(server.resumed)
        client.close()
        server.close()

    assert found == [False, True, False]


def test_what_is_no_flight_resumes_nothing() -> None:
    """Nothing, parts of a flight and noise are taken without an error."""
    rng = Random(5)
    assert not resumes(b"")
    assert not resumes(b"\x15\x03\x03\x00\x02\x02\x28")
    for _ in range(2000):
        noise = rng.randbytes(rng.randrange(80))
        resumes(noise)
        resumes(b"\x16\x03\x03\x00" + bytes((len(noise),)) + noise)
        resumes(
            b"\x16\x03\x03\x00" + bytes((len(noise) + 4,)) + b"\x02\x00\x00" + bytes((len(noise),)) + noise
        )
