"""The limited numbers and texts that config keys are made of."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Annotated, Final, TypeAlias

from hostmesh.config.shape import Bounds, Text
from hostmesh.naming.matcher import Matcher

MAX_MS: Final = 366 * 24 * 3600 * 1000
"""The longest time a key takes: a year. Longer is a slip of units, and far longer would overflow a timer."""

LOOPBACK: Final = "127.0.0.1"


def canonical_ip(text: str) -> str:
    """The one spelling of an address: ``localhost`` is 127.0.0.1, IPv6 is compressed and loses its brackets."""
    if text == "localhost":
        return LOOPBACK
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return text


def _ip_problem(text: str) -> str | None:
    try:
        address = ip_address(canonical_ip(text))
    except ValueError:
        return "an IP address such as 127.0.0.1 or ::1"
    return "an address without a zone" if isinstance(address, IPv6Address) and address.scope_id else None


def _network_problem(text: str) -> str | None:
    try:
        ip_network(text)
    except ValueError as error:
        return f"a network such as 10.0.0.0/8 or fd00::/8 ({error})"
    return None


def _regex_problem(text: str) -> str | None:
    try:
        re.compile(text)
    except re.error as error:
        return f"a regular expression ({error})"
    return None


_ROLL_POLICY = re.compile(
    r"never|hourly|daily|sighup|weekly\([1-7]\)|[0-9]+\.(?:byte|kilobyte|megabyte|gigabyte|terabyte)s?",
    re.IGNORECASE,
)


def _roll_policy_problem(text: str) -> str | None:
    if _ROLL_POLICY.fullmatch(text):
        return None
    return "never, hourly, daily, sighup, weekly(1) to weekly(7), or a size such as 3.megabytes"


_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _header_problem(text: str) -> str | None:
    return None if _TOKEN.fullmatch(text) else "the name of a header"


def _matcher_problem(text: str) -> str | None:
    expected = "a path prefix that starts with '/'"
    if not text.startswith("/"):
        return expected
    try:
        Matcher.read(text)
    except ValueError as error:
        return f"{expected}: {error}"
    return None


def _not_empty_problem(text: str) -> str | None:
    return None if text.strip() else "some text"


Ip: TypeAlias = Annotated[str, Text(_ip_problem)]
Network: TypeAlias = Annotated[str, Text(_network_problem)]
Port: TypeAlias = Annotated[int, Bounds(1, 65535)]
ListenPort: TypeAlias = Annotated[int, Bounds(0, 65535)]
"""0 lets the system choose."""
Millis: TypeAlias = Annotated[int, Bounds(0, MAX_MS, "of milliseconds")]
Timeout: TypeAlias = Annotated[int, Bounds(1, MAX_MS, "of milliseconds")]
"""A time limit; 0 would fail every request."""
Seconds: TypeAlias = Annotated[int, Bounds(1, MAX_MS // 1000, "of seconds")]
Count: TypeAlias = Annotated[int, Bounds(0, 2**31 - 1)]
Positive: TypeAlias = Annotated[int, Bounds(1, 2**31 - 1)]
Ratio: TypeAlias = Annotated[float, Bounds(0, 1)]
Regex: TypeAlias = Annotated[str, Text(_regex_problem)]
RollPolicy: TypeAlias = Annotated[str, Text(_roll_policy_problem)]
HeaderName: TypeAlias = Annotated[str, Text(_header_problem)]
PathMatcher: TypeAlias = Annotated[str, Text(_matcher_problem)]
Label: TypeAlias = Annotated[str, Text(_not_empty_problem)]
