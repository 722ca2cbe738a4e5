"""A registry behind a router that can stop forwarding: a blackhole made of real packets that vanish.

    with breakable() as link:                    # whatever this machine allows, see below
        registry = Server(folder, link=link)     # its processes run behind link.prefix and listen on link.listen
        link.attach(registry.port)               # hostmesh is configured with link.host and link.port
        link.stall()                             # packets vanish, both ways; connections stay
        link.restore()
        print(link.said())                       # how it was done, and how many packets were dropped

As root there are three networks: the test's own with hostmesh and endpoints, a router, and the registry's. A router
that may not forward drops packets without a word to anybody. The registry has a second address, on a cable of its own,
that only the test knows (``link.direct``), so that it can change what hostmesh cannot reach. Anybody but root gets
a relay that stops forwarding instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.servers.relay import DatagramRelay, Relay
from tests.wire.network import own_network

HOME_VIA, FAR_VIA = "10.77.1.1", "10.77.2.2"
"""Of hostmesh and of the registry, with the router between them."""

HOME_DIRECT, FAR_DIRECT = "10.77.3.1", "10.77.3.2"

FORWARDING = "/proc/sys/net/ipv4/ip_forward"


class Link:
    """What is between hostmesh and a registry."""

    host = direct = listen = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    """Comes before the registry's command."""
    port = 0

    def attach(self, port: int) -> None:
        """The registry listens on this port."""
        raise NotImplementedError

    def stall(self) -> None:
        """From now on nothing passes, in either direction, and nobody is told."""
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError

    def said(self) -> str:
        """How the link was broken, for people."""
        raise NotImplementedError


class RelayLink(Link):
    """A relay that stops forwarding; connections are taken all the same."""

    def __init__(self, stack: ExitStack, *, datagrams: bool) -> None:
        self._stack = stack
        self._datagrams = datagrams
        self._relay: Relay | DatagramRelay | None = None

    def attach(self, port: int) -> None:
        self._relay = relay = DatagramRelay(port) if self._datagrams else Relay(port)
        self._stack.enter_context(relay)
        self.port = relay.port

    def stall(self) -> None:
        assert self._relay is not None
        self._relay.stall()

    def restore(self) -> None:
        assert self._relay is not None
        self._relay.restore()

    def said(self) -> str:
        return "blackhole: a relay that stops forwarding (packets are dropped where there is root)"


class RouterLink(Link):
    """A router in a network namespace."""

    host, direct, listen = FAR_VIA, FAR_DIRECT, "0.0.0.0"

    def __init__(self, stack: ExitStack) -> None:
        self._router = stack.enter_context(_network())
        far = stack.enter_context(_network())
        self.prefix = ("nsenter", f"--net=/proc/{far}/ns/net", "--")
        self._inside = ("nsenter", f"--net=/proc/{self._router}/ns/net", "--")
        _ip(f"link add h0 type veth peer name r0 netns {self._router}")
        _ip(f"link add h1 type veth peer name f1 netns {far}")
        _ip(f"link add r1 type veth peer name f0 netns {far}", self._inside)
        sides: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
            ((), {"h0": HOME_VIA, "h1": HOME_DIRECT}),
            (self._inside, {"r0": "10.77.1.2", "r1": "10.77.2.1"}),
            (self.prefix, {"f0": FAR_VIA, "f1": FAR_DIRECT}),
        )
        for prefix, addresses in sides:
            _ip("link set lo up", prefix)
            for device, address in addresses.items():
                _ip(f"addr add {address}/24 dev {device}", prefix)
                _ip(f"link set {device} up", prefix)
        _ip("route add 10.77.2.0/24 via 10.77.1.2")
        _ip("route add 10.77.1.0/24 via 10.77.2.1", self.prefix)
        self.restore()

    def attach(self, port: int) -> None:
        self.port = port

    def stall(self) -> None:
        self._forward(0)

    def restore(self) -> None:
        self._forward(1)

    def _forward(self, value: int) -> None:
        _run([*self._inside, "sh", "-c", f"echo {value} >{FORWARDING}"])

    def dropped(self) -> int:
        """Packets that the router did not forward."""
        said = _run([*self._inside, "cat", "/proc/net/snmp"]).splitlines()
        names, values = (line.split()[1:] for line in said if line.startswith("Ip:"))
        return int(dict(zip(names, values, strict=True))["InAddrErrors"])

    def said(self) -> str:
        return f"blackhole: a router in a network namespace dropped {self.dropped()} packets"


@contextmanager
def breakable(*, datagrams: bool = False) -> Iterator[Link]:
    """The best link that can be had here. As root, what is made inside is in a network of the test's own, where
    nothing can be fetched. ``datagrams``: the registry speaks UDP, for the relay."""
    with ExitStack() as stack:
        if not _may_make_networks():
            yield RelayLink(stack, datagrams=datagrams)
            return
        stack.enter_context(own_network())
        yield RouterLink(stack)


def _may_make_networks() -> bool:
    """Whether all that it takes is there."""
    tools = all(map(shutil.which, ("ip", "nsenter", "unshare")))
    if os.geteuid() != 0 or not tools:
        return False
    # In a container root may not be allowed to.
    script = f"echo 1 >{FORWARDING} && ip link add a0 type veth peer name b0"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, check=False)
    return tried.returncode == 0


@contextmanager
def _network() -> Iterator[int]:
    """A network as the process id of one who is in it, and who goes when this process does."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdout.readline()  # it is inside
        yield holder.pid
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()


def _ip(words: str, prefix: tuple[str, ...] = ()) -> None:
    _run([*prefix, "ip", *words.split()])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
