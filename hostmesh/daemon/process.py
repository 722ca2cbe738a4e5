"""What the system is told and asked for: limits of this process, and its state for systemd."""

from __future__ import annotations

import os
import resource
import socket


def raise_descriptor_limit() -> None:
    """Allow ourselves as many open files as we may have: a connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify(state: bytes) -> None:
    """Tell systemd (sd_notify(3)); nothing happens outside a unit of Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        if address[0] == "@":
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state, address)
