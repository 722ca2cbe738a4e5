"""What may stand in a certificate: names of holders, DNS names, SPIFFE IDs, IP addresses. Text only."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from attrs import frozen

from hostmesh.base.errors import ConfigError

LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
DNS: Final = re.compile(rf"{LABEL}(?:\.{LABEL})*")
WILDCARD: Final = re.compile(rf"\*\.{LABEL}(?:\.{LABEL})+")
"""Two labels at least behind the star: verifiers, ours among them, take ``*.mesh`` for too wide."""

HOLDER: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
"""Also the name of a directory and the CN, which has room for 64 characters (RFC 5280, upper bounds)."""

SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
"""A path segment of a SPIFFE ID, which also must not be ``.`` or ``..`` (SPIFFE-ID 2.2)."""

MAX_DNS: Final = 253
MAX_SPIFFE: Final = 2048
"""Bytes of a whole SPIFFE ID (SPIFFE-ID 2.3)."""

SCHEME: Final = "spiffe://"


@frozen(kw_only=True)
class Names:
    """What one holder is called. There is one URI: verifiers of SPIFFE refuse a certificate with two."""

    holder: str
    dns: tuple[str, ...]
    spiffe: str
    ips: tuple[str, ...] = ()


def names_of(
    holder: str,
    trust_domain: str,
    *,
    dns: tuple[str, ...] = (),
    spiffe: str | None = None,
    ips: tuple[str, ...] = (),
) -> Names:
    """The names of a holder: ``HOLDER.TRUST-DOMAIN`` and ``spiffe://TRUST-DOMAIN/HOLDER``, and what is added.

    ``dns`` and ``ips`` come on top; ``spiffe`` (a whole ID or a path) stands instead. ConfigError for what may not
    stand in a certificate of this trust domain.
    """
    holder = read_holder(holder)
    short = holder.removesuffix(f".{trust_domain}")
    own = read_dns(f"{short}.{trust_domain}")
    return Names(
        holder=holder,
        dns=tuple(dict.fromkeys((own, *map(read_dns, dns)))),
        spiffe=read_spiffe(spiffe if spiffe is not None else short, trust_domain),
        ips=tuple(dict.fromkeys(map(read_ip, ips))),
    )


def read_holder(text: str) -> str:
    """The name of a holder, which also names its directory. ConfigError if it may not be one."""
    if not HOLDER.fullmatch(text) or ".." in text:
        raise ConfigError(
            f"NAME: found {text!r}, expected at most 63 of a-z, 0-9, - and ., with a letter or digit at both ends"
        )
    return text


def read_trust_domain(text: str) -> str:
    """A trust domain that can also end DNS names. ConfigError if it cannot."""
    if not DNS.fullmatch(text) or len(text) > MAX_DNS // 2 or "_" in text:
        raise ConfigError(
            f"--trust-domain: found {text!r}, expected a DNS name in lower case, such as prod.mesh"
        )
    return text


def read_dns(text: str) -> str:
    """A DNS name or a wildcard of one, in lower case. ConfigError for anything else."""
    name = text.lower().removesuffix(".")
    if len(name) > MAX_DNS or not (DNS.fullmatch(name) or WILDCARD.fullmatch(name)):
        raise ConfigError(
            f"--dns: found {text!r}, expected a DNS name in ASCII, or one such as *.web.mesh "
            "(two labels at least behind the star)"
        )
    return name


def read_ip(text: str) -> str:
    """An IP address in its usual form. ConfigError for anything else."""
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise ConfigError(f"--ip: found {text!r}, expected an IPv4 or IPv6 address") from error


def read_spiffe(text: str, trust_domain: str) -> str:
    """A whole SPIFFE ID from one, or from its path. ConfigError for one of another trust domain."""
    start = f"{SCHEME}{trust_domain}/"
    whole = text if text.startswith(SCHEME) else start + text.removeprefix("/")
    segments = whole.removeprefix(start).split("/")
    is_fine = whole.startswith(start) and all(
        SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments
    )
    if not is_fine or len(whole) > MAX_SPIFFE:
        raise ConfigError(
            f"--spiffe: found {text!r}, expected {start} and a path of letters, digits, ., - and _, "
            "or such a path alone"
        )
    return whole
