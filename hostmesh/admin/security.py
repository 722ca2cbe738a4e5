"""Who may ask the admin port for what. Pure: every function takes strings and returns an answer or a refusal.

Three checks, in this order, before any page is looked up:

1. *Host*: an admin that listens on loopback only trusts "whoever can connect". A web page in a browser on the same
   machine can connect, too, once its own name resolves to 127.0.0.1 (DNS rebinding). Such a request still carries
   the page's name in Host, so a name that is not a loopback name is refused. Address literals are let through:
   rebinding needs a name, and port forwards into a container legitimately arrive with one.
2. *Origin*: a browser lets any page send a simple POST anywhere. It says so in ``Origin`` or ``Sec-Fetch-Site``; a
   request that may change something must not come from a foreign page. curl and deployment tools send neither.
3. *Categories*: Linkerd 1's ``admin.security``. What is refused there looks exactly like a page that does not exist.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostmesh.config.model import SecurityConfig

_UI = (
    r"/|/files/.*|/admin/files/.*|/config\.json|/metrics\.json|/admin/metrics\.json|/admin/metrics|/delegator"
    r"|/delegator\.json|/logging|/help"
)
_CONTROL = r"/admin/shutdown|/logging\.json"

# 127.1 and friends: what inet_aton takes for an address. No resolver is asked for a name whose last label is a
# number, so such a Host cannot have been rebound.
_SHORT_LOOPBACK = re.compile(r"127(\.\d{1,8}){1,3}")


class PathGate:
    """Decides by path. Blacklisted: no. Else: category on, or whitelisted.

    The path is the percent-decoded one that pages are looked up by, so there is no second spelling to slip through.
    """

    def __init__(self, options: SecurityConfig) -> None:
        self._ui = options.ui_enabled
        self._control = options.control_enabled
        self._diagnostics = options.diagnostics_enabled
        self._allowed = [re.compile(pattern) for pattern in options.path_whitelist]
        self._refused = [re.compile(pattern) for pattern in options.path_blacklist]

    def admits(self, path: str) -> bool:
        if any(pattern.fullmatch(path) for pattern in self._refused):
            return False
        if re.fullmatch(_UI, path):
            enabled = self._ui
        elif re.fullmatch(_CONTROL, path):
            enabled = self._control
        else:
            enabled = self._diagnostics
        return enabled or any(pattern.fullmatch(path) for pattern in self._allowed)


def bare_host(value: str) -> str:
    """``Host`` without port and brackets, in lower case: ``[::1]:9990`` is ``::1``, ``Web:80`` is ``web``."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    if value.count(":") == 1:
        value = value.partition(":")[0]
    return value.removesuffix(".")


def is_loopback_ip(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104 written as addresses."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_refusal(host: str | None) -> str | None:
    """Why a request with this ``Host`` may not use a loopback admin; None if it may.

    Without Host (HTTP/1.0) the caller is no browser, and only a browser can be tricked by a name.
    """
    if host is None:
        return None
    name = bare_host(host)
    if (
        name in ("localhost", "ip6-localhost", "")
        or name.endswith(".localhost")
        or _SHORT_LOOPBACK.fullmatch(name)
    ):
        return None
    try:
        ip_address(name)
    except ValueError:
        return (
            f"Host is {host!r}. This admin listens on loopback and answers only to localhost or an IP address, so that "
            "a web page whose name was rebound to 127.0.0.1 cannot use it. Use localhost:<port>, or set "
            "admin.ip to an address of this host."
        )
    return None


def origin_refusal(host: str | None, origin: str | None, fetch_site: str | None) -> str | None:
    """Why a request that may change something is refused for where it comes from; None if it is not."""
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        return f"a browser sent this from another site (Sec-Fetch-Site: {fetch_site})"
    if origin is None:
        return None
    _scheme, separator, authority = origin.partition("://")
    if separator and host is not None and authority.lower() == host.strip().lower():
        return None
    return f"a browser sent this from {origin}, which is not this admin"
