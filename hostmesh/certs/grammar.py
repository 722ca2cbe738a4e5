"""The grammar of ``hostmesh certs``: imported to build any command line, so it imports nothing heavy itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

LONG_HELP = """\
A certificate authority in a directory, without a server (docs/tls.md):

  hostmesh certs init  /var/lib/hostmesh-ca --trust-domain mesh
  hostmesh certs issue /var/lib/hostmesh-ca web users
  hostmesh certs issue /var/lib/hostmesh-ca host-b --dns web.mesh --dns users.mesh --out /etc/hostmesh/tls
  hostmesh certs rotate /var/lib/hostmesh-ca          (from a timer, every hour)
  hostmesh certs show  /var/lib/hostmesh-ca
"""


def add_certs(commands: _SubParsersAction[argparse.ArgumentParser], *, epilog: str) -> None:
    """Add ``certs`` and its commands."""
    certs = commands.add_parser(
        "certs",
        help="a small certificate authority for the mesh",
        description=LONG_HELP,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = certs.add_subparsers(dest="certs_command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        parser = kinds.add_parser(
            name,
            help=summary,
            description=f"{summary[:1].upper()}{summary[1:]}.{more}",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("dir", metavar="DIR", help="the directory of the CA")
        return parser

    init = add("init", "make a CA in a new directory")
    init.add_argument(
        "--trust-domain",
        default="mesh",
        metavar="DOMAIN",
        help="what names end in and SPIFFE IDs begin with (mesh)",
    )
    init.add_argument("--name", default="hostmesh", help="what the CA calls itself (hostmesh)")
    init.add_argument("--days", type=whole(1, 7300), default=3650, help="its life (3650)")

    issue = add(
        "issue",
        "issue a certificate to each NAME",
        "\n\nThe certificate is for NAME.DOMAIN and spiffe://DOMAIN/NAME; cert.pem, key.pem, ca.pem and crl.pem\n"
        "are written to issued/NAME below DIR.",
    )
    issue.add_argument("names", metavar="NAME", nargs="+", help="a service or a host, such as web")
    issue.add_argument("--dns", action="append", default=[], help="one more DNS name (may be repeated)")
    issue.add_argument(
        "--spiffe",
        "--uri",
        metavar="ID",
        help="another SPIFFE ID, whole or only its path; there is always one",
    )
    issue.add_argument("--ip", action="append", default=[], help="an IP address (may be repeated)")
    life = issue.add_mutually_exclusive_group()
    life.add_argument("--days", type=whole(1, 90), help="how long it is valid (7)")
    life.add_argument("--hours", type=whole(1, 24 * 90), help="the same in hours")
    issue.add_argument("--out", metavar="FOLDER", help="where its files go instead")
    issue.add_argument("--owner", metavar="USER", help="who gets the files; needs root")
    issue.add_argument(
        "--replace", action="store_true", help="replace the names of a NAME that has a certificate already"
    )

    rotate = add(
        "rotate",
        "renew what has less than a third of its life left",
        "\n\nAlso renews revocation lists, brings CAs and lists to every holder, and finishes what was interrupted.",
    )
    rotate.add_argument("--all", action="store_true", help="renew every certificate now")
    rotate.add_argument("--watch", action="store_true", help="go on doing it until SIGTERM")
    rotate.add_argument(
        "--ca", action="store_true", help="exchange the CA: the new one is trusted first, used later"
    )
    rotate.add_argument(
        "--overlap-hours",
        type=whole(0, 24 * 90),
        metavar="HOURS",
        help="until the new CA signs: every host must have its ca.pem by then (24)",
    )
    rotate.add_argument(
        "--now", action="store_true", help="the old CA counts no more at once: after a theft of its key"
    )

    revoke = add("revoke", "revoke the certificates of each NAME and issue no more")
    revoke.add_argument("names", metavar="NAME", nargs="+", help="as it was issued")

    show = add("show", "show the certificates and what is wrong with them (then the exit code is 1)")
    show.add_argument("--json", action="store_true", help="for programs")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number in these bounds."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from {low} to {high}")
        return int(text)

    return read
