"""``hostmesh certs``: arguments in, lines out. Nothing of a key is ever printed."""

from __future__ import annotations

import argparse
import json
import pwd
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from hostmesh.base.errors import ConfigError
from hostmesh.certs.issuing import DEFAULT_LIFE
from hostmesh.certs.names import read_holder, read_trust_domain
from hostmesh.certs.show import folder_problem, left, rows, table
from hostmesh.certs.store import BUNDLE, Store
from hostmesh.certs.work import OVERLAP, Outcome, Work

OK: Final = 0
FAILED: Final = 1

WATCH_S: Final = 300.0
"""Between two looks of ``--watch``: several before the end of the shortest life, of which 20 minutes are left then."""

ENDS: Final = frozenset({signal.SIGTERM, signal.SIGINT})

MAX_CA_NAME: Final = 40
"""Characters of ``--name``; a CN has 64, and the date is in it too."""


def main_certs(args: argparse.Namespace) -> int:
    """Run one of the commands; returns the exit code. ConfigError says what is wrong, naming the file."""
    work = Work(Store(Path(args.dir).resolve()))
    try:
        if args.certs_command == "init":
            return _init(work, args)
        if args.certs_command == "issue":
            return _issue(work, args)
        if args.certs_command == "rotate":
            return _rotate(work, args)
        if args.certs_command == "revoke":
            return _tell(work.revoke(args.names))
        return _show(work, args)
    except OSError as error:
        raise ConfigError(f"{error.filename or args.dir}: {error.strerror or error}") from error


def _init(work: Work, args: argparse.Namespace) -> int:
    name = args.name
    if not 0 < len(name) <= MAX_CA_NAME or not name.isprintable():
        raise ConfigError(f"--name: found {name!r}, expected 1 to {MAX_CA_NAME} printable characters")
    certificate = work.init(
        trust_domain=read_trust_domain(args.trust_domain), name=name, life=timedelta(days=args.days)
    )
    root = work.store.root
    _say(f"{root}: CA of {args.trust_domain}, until {certificate.not_valid_after_utc:%Y-%m-%d}")
    _say(f"  trusted by {root / BUNDLE}; its key is below {root}, which is worth a backup and a lock")
    return OK


def _issue(work: Work, args: argparse.Namespace) -> int:
    if len(args.names) > 1 and (args.dns or args.spiffe or args.ip or args.out):
        raise ConfigError("--dns, --spiffe, --ip and --out: found several NAMEs, expected one with them")
    for name in args.names:
        read_holder(name)  # all of them before the first is issued
    _warn_of(work.store.root)
    life = DEFAULT_LIFE
    if args.days is not None:
        life = timedelta(days=args.days)
    if args.hours is not None:
        life = timedelta(hours=args.hours)
    for name in args.names:
        names, folder = work.issue(
            name,
            dns=tuple(args.dns),
            spiffe=args.spiffe,
            ips=tuple(args.ip),
            life=life,
            folder=str(Path(args.out).resolve()) if args.out else None,
            owner=_account(args.owner) if args.owner else None,
            replace=args.replace,
        )
        _say(f"{folder}: {', '.join((*names.dns, names.spiffe, *names.ips))}; valid for {left(life)}")
    return OK


def _rotate(work: Work, args: argparse.Namespace) -> int:
    if (args.now or args.overlap_hours is not None) and not args.ca:
        raise ConfigError("--now and --overlap-hours: found no --ca, expected it with them")
    if args.now and args.overlap_hours is not None:
        raise ConfigError("--overlap-hours: found with --now, expected only one of them")
    _warn_of(work.store.root)
    if args.watch:
        if args.ca or args.all:
            raise ConfigError("--watch: found with --ca or --all, expected it alone")
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # files are written to the end; the wait takes them
        return watch(work.rotate, wait_for_end, warn=_warn, say=_say)
    if args.ca:
        overlap = OVERLAP if args.overlap_hours is None else timedelta(hours=args.overlap_hours)
        began = _tell(work.replace_ca() if args.now else work.rotate_ca(overlap=overlap))
        if began != OK or not args.all:
            return began
    outcome = work.rotate(everything=args.all)
    if not outcome.done and not outcome.failed:
        _say("nothing is due")
    return _tell(outcome)


def watch(
    rotate: Callable[[], Outcome],
    wait: Callable[[float], bool],
    *,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> int:
    """Rotate again and again. ``wait(seconds)`` returns whether to go on; what fails is tried at the next look."""
    while True:
        try:
            outcome = rotate()
        except (ConfigError, OSError) as error:
            warn(str(error))
        else:
            for line in outcome.done:
                say(line)
            for line in outcome.failed:
                warn(line)
        if not wait(WATCH_S):
            return OK


def wait_for_end(seconds: float) -> bool:
    """Wait for one of the blocked signals; False when it came, also before."""
    return signal.sigtimedwait(ENDS, seconds) is None


def _show(work: Work, args: argparse.Namespace) -> int:
    now = datetime.now(UTC)
    found = rows(work.store, work.store.load(), now)
    if args.json:
        _say(json.dumps([row.as_json() for row in found], indent=2))
    else:
        _say(table(found, now).rstrip("\n"))
    return FAILED if any(row.problems for row in found) else OK


def _tell(outcome: Outcome) -> int:
    for line in outcome.done:
        _say(line)
    for line in outcome.failed:
        _warn(line)
    return FAILED if outcome.failed else OK


def _warn_of(root: Path) -> None:
    problem = folder_problem(root)
    if problem is not None:
        _warn(f"{problem} (warning)")


def _account(user: str) -> tuple[int, int]:
    try:
        found = pwd.getpwnam(user)
    except KeyError as error:
        raise ConfigError(f"--owner: found {user!r}, expected a user of this machine") from error
    return found.pw_uid, found.pw_gid


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _warn(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
