"""What a TLS client asks a server to be."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

MAX_HOST_NAME: Final = 253
"""Characters of a host name (RFC 1123 section 2.1). OpenSSL takes 255, and more would leave an error behind."""

_is_host_name = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*").fullmatch


def server_name_of(name: str | None) -> str | None:
    """The host name to ask for (RFC 6066 section 3) where ``name`` is wanted, if that is one.

    An address or a SPIFFE id is none, and there is no final dot. What a prefix has captured may be no host name at
    all; then no certificate is for it, which is found out when one is shown.
    """
    name = (name or "").removesuffix(".")
    return name if len(name) <= MAX_HOST_NAME and _is_host_name(name) and not _is_address(name) else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
