"""A hostmesh whose admin port speaks TLS, for tests."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from tests.wire.client import Response
from tests.wire.harness import Hostmesh
from tests.wire.tls_peers import TlsClient


class TlsAdminMesh(Hostmesh):
    """As :class:`Hostmesh`; the admin is asked with ``context``, and must be ``name``."""

    def __init__(
        self, folder: Path, config: str, context: ssl.SSLContext, name: str = "localhost", **options: Any
    ) -> None:
        self.context = context
        self.name = name
        super().__init__(folder, config, **options)

    def admin(
        self, target: str, method: str = "GET", *, body: bytes | None = None, timeout: float = 10.0
    ) -> Response:
        with TlsClient(self.ports["admin"], self.context, self.name, timeout=timeout) as client:
            fields = (("Connection", "close"),)
            return client.request(method, target, host="localhost", fields=fields, body=body)

    def serial(self) -> int:
        """Of the certificate that a new connection is shown."""
        with TlsClient(self.ports["admin"], self.context, self.name) as client:
            found: Any = client.tls.getpeercert()
            return int(found["serialNumber"], 16)
