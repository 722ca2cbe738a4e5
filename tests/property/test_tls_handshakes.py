"""TLS between two codecs stays what it is, whatever happens to the bytes on the way."""

from __future__ import annotations

import pytest

from tests.fuzz.tls_handshakes import Fuzz
from tests.tls_files import TlsFiles


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("seed", range(4))
def test_damaged_connections_fail_or_are_what_they_were(tls_files: TlsFiles, seed: int) -> None:
    """Seeded, as ``python -m tests.fuzz.tls_handshakes`` does by the thousand; both good and bad ends are met."""
    fuzz = Fuzz(tls_files)

    ends = {fuzz.run(seed * 1000 + number) for number in range(150)}

    assert {"connected", "tls-handshake", "tls-rejected"} <= ends
