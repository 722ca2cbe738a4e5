"""The command line: ``hostmesh run | check | delegate | names | certs | demo``.

Each command imports what it needs when it runs, so that ``check`` starts no network library.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hostmesh import __version__, core
from hostmesh.base.errors import ConfigError
from hostmesh.certs.grammar import add_certs

if TYPE_CHECKING:
    from hostmesh.config.model import LinkerConfig

OK: Final = 0
MISTAKES: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

EXIT_CODES: Final = """\
exit codes:
  0  all went well
  1  the configuration has mistakes, or the command failed; why is on standard error
  2  the command line is wrong, or the file cannot be read
"""


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="hostmesh",
        description="One proxy per host for all service-to-service traffic.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--version",
        action="version",
        version=f"hostmesh {__version__}, {core.kind()} core, Python {platform.python_version()}",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary[:1].upper() + summary[1:] + ".",
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = add("run", "run the daemon with a configuration file")
    run.add_argument("file", metavar="FILE", help="YAML or JSON; - is standard input")
    check = add("check", "report every mistake of a configuration file (also: hostmesh -validate FILE)")
    check.add_argument("file", metavar="FILE", help="YAML or JSON; - is standard input")
    delegate = add("delegate", "show, step by step, what a path means")
    delegate.add_argument("file", metavar="FILE", help="YAML or JSON; - is standard input")
    delegate.add_argument("path", metavar="PATH", help="a dst path such as /svc/web")
    delegate.add_argument("--router", metavar="LABEL", help="whose dtab to use (default: the first router's)")
    delegate.add_argument("--dtab", metavar="DTAB", default="", help="dentries to add, as in l5d-dtab")
    names = add("names", "what a running hostmesh has seen of names")
    log = names.add_subparsers(dest="names_command", required=True, metavar="log").add_parser(
        "log",
        help="adds and removes of a name's endpoints",
        description="Adds and removes of a name's endpoints.",
    )
    log.add_argument(
        "name", metavar="NAME", help="a bound id such as /#/io.l5d.fs/web, or its last segments: web"
    )
    log.add_argument(
        "--admin",
        metavar="HOST:PORT",
        default="127.0.0.1:9990",
        help="where admin listens (127.0.0.1:9990); https://HOST:PORT if it has tls",
    )
    log.add_argument("--admin-ca", metavar="FILE", help="PEM of the CA of admin's certificate (the system's)")
    log.add_argument("--admin-name", metavar="NAME", help="the name that the certificate must have (HOST)")
    log.add_argument("--admin-cert", metavar="FILE", help="our certificate, for requireClientAuth")
    log.add_argument("--admin-key", metavar="FILE", help="its key, if it is in another file")
    add_certs(commands, epilog=EXIT_CODES)
    demo = add("demo", "run a router with two small services to play with")
    what = demo.add_mutually_exclusive_group()
    what.add_argument(
        "--fault", action="store_true", help="make one replica slow, and watch it being avoided"
    )
    what.add_argument(
        "--mtls", action="store_true", help="two hosts instead of one, and mutual TLS between them"
    )
    demo.add_argument("--port", type=int, default=4140, help="where the router listens (4140)")
    demo.add_argument("--admin-port", type=int, default=9990, help="where admin listens (9990)")
    demo.add_argument("--incoming-port", type=int, default=4141, help="where host B of --mtls listens (4141)")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. argparse exits with 2 by itself for a wrong command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ("-validate", "--validate", "-validate=true"):
        arguments[0] = "check"  # how Linkerd 1 spelt it
    args = parser().parse_args(arguments)
    from hostmesh.config.load import UnreadableError

    try:
        return _dispatch(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE if isinstance(error, UnreadableError) else MISTAKES
    except KeyboardInterrupt:
        return INTERRUPTED


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "check":
        return check(args.file)
    if args.command == "run":
        from hostmesh.daemon.run import main_run

        return main_run(args.file)
    if args.command == "delegate":
        from hostmesh.daemon.delegate import main_delegate

        return main_delegate(args)
    if args.command == "names":
        from hostmesh.daemon.names import main_names

        return main_names(args)
    if args.command == "certs":
        from hostmesh.certs.command import main_certs

        return main_certs(args)
    from hostmesh.daemon.demo import main_demo

    return main_demo(args)


def check(file: str) -> int:
    """Report on a configuration file: mistakes and warnings on standard error, the verdict on standard output."""
    from hostmesh.config.load import STDIN, load, read_file

    config, report = load(read_file(file), "stdin" if file == STDIN else file, advice=True)
    for line in (*report.warning_lines(), *report.advice_lines()):
        print(f"{line} (warning)", file=sys.stderr)
    if config is None:
        for line in report.mistake_lines():
            print(line, file=sys.stderr)
        count = len(report.mistake_lines())
        print(f"{report.file}: {count} mistake{'s' if count != 1 else ''}", file=sys.stderr)
        return MISTAKES
    for line in report.unavailable_lines():
        print(f"{line} (checked; `hostmesh run` refuses it)", file=sys.stderr)
    print(f"{report.file}: fine: {summary(config)}")
    return OK


def summary(config: LinkerConfig) -> str:
    """What a configuration contains, in one line."""
    routers = ", ".join(
        f"{router.name} ({router.protocol} on {', '.join(f'{server.ip}:{server.port}' for server in router.servers)})"
        for router in config.routers
    )
    namers = ", ".join(f"/#{namer.prefix_in_force.show()}" for namer in config.namers) or "none"
    return f"routers {routers}; namers {namers}"
