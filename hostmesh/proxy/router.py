"""One router: identify, bind, dispatch. Built once from its configuration; names become stacks on first use."""

from __future__ import annotations

from binascii import b2a_base64, hexlify
from collections.abc import Callable, Hashable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.naming.addr import Endpoint
from hostmesh.naming.bound import BoundName
from hostmesh.naming.dtab import Dtab
from hostmesh.naming.interpreter import Interpreter
from hostmesh.naming.path import Path
from hostmesh.naming.trust import refusal
from hostmesh.protocol.context import L5dPropagator, Propagator, root_trace
from hostmesh.protocol.limits import Limits
from hostmesh.proxy.branch import Branch
from hostmesh.proxy.cache import StackCache
from hostmesh.proxy.client_stack import ClientStack
from hostmesh.proxy.context import Context, read_context
from hostmesh.proxy.exchange import Exchange
from hostmesh.proxy.path_stack import PathStack
from hostmesh.proxy.service_names import ServiceNames
from hostmesh.proxy.settings import ClientSettings, ServiceSettings
from hostmesh.proxy.stats import ScopeStats
from hostmesh.routing.identifiers import Identifier, NotIdentified

if TYPE_CHECKING:
    from random import Random

    from hostmesh.base.env import Env
    from hostmesh.proxy.tcp_router import TcpRouter
    from hostmesh.pump.loop import AnyLoop, TimerHandle
    from hostmesh.telemetry.metrics import Scope

MAX_KEYS = 4096
"""Identifier keys remembered per router; several may lead to one path. Forgotten all at once when full: rebuilding
is a dict look-up per name."""

SWEEP = 10.0
"""Seconds between sweeps of the binding caches."""

VIA = b"Via: 1.1 hostmesh\r\n"

ROOT_FLAGS = bytes(8)


class Recorder(Protocol):
    """Who wants to hear of finished exchanges."""

    def exchange_done(self, ex: Exchange, micros: int, ok: bool, now: float) -> None: ...

    def refused(self, server: Any, session: Any, error: MeshError, now: float) -> None: ...


class Router:
    """The stacks of one router. ``client_settings`` and ``service_settings`` resolve the configuration of a name."""

    recorder: Recorder | None = None
    protocol = "http"
    """What the configuration calls it; requests of either version are routed alike."""
    connect: TcpRouter | None = None
    """Who routes the connections that are asked for with CONNECT."""

    def __init__(
        self,
        *,
        label: str,
        env: Env,
        loop: AnyLoop,
        scope: Scope,
        identifiers: list[Identifier],
        interpreter: Interpreter,
        service_settings: Callable[[Path], ServiceSettings],
        client_settings: Callable[[Path], ClientSettings],
        make_client: Callable[[Router, BoundName, Scope], ClientStack],
        base_dtab: Dtab,
        limits: Limits,
        report: Callable[[BaseException], None],
        propagator: Propagator | None = None,
        binding_timeout: float = 10.0,
        cache_sizes: Mapping[str, int] | None = None,
        idle_ttl: float = 600.0,
    ) -> None:
        self.label = label
        self.env = env
        self.loop = loop
        self.report = report
        self.interpreter = interpreter
        self.base_dtab = base_dtab
        self.limits = limits
        self.binding_timeout = binding_timeout
        self.identifiers = identifiers
        self.service_settings = service_settings
        self.client_settings = client_settings
        self._make_client = make_client
        self._scope = scope
        self.services = ServiceNames(scope.scope("service"), self._strangers_pending)
        self._clients = scope.scope("client")
        self._key = identifiers[0].key if len(identifiers) == 1 else self._keys
        self._routes: dict[Hashable, tuple[PathStack, bytes | None]] = {}
        self._consumes = any(getattr(identifier, "consumes", False) for identifier in identifiers)
        sizes = cache_sizes or {}
        caches = scope.scope("bindcache")
        self.paths: StackCache[tuple[Path, Dtab], PathStack] = StackCache(
            sizes.get("paths", 1000), idle_ttl, caches.scope("path"), self._path_dropped
        )
        self.clients: StackCache[Path, ClientStack] = StackCache(
            sizes.get("clients", 1000), idle_ttl, caches.scope("client"), self._client_dropped
        )
        self._rng: Random = env.rng(f"router/{label}")
        self._bits = env.rng(f"trace/{label}").getrandbits
        self.propagator = propagator or L5dPropagator()
        self.always_context = propagator is not None
        self.owned_fields: frozenset[bytes] = frozenset() if propagator is None else propagator.names
        self.trace_rng = env.rng(f"spans/{label}")
        self.salt = 0
        self._sweeper: TimerHandle | None = None
        self.forbidden: frozenset[tuple[str, int]] = frozenset()
        """Addresses that a request's own dtab may never name: the admin server's."""
        self.closed = False
        self.moved = False
        """Another router has taken over this one's names and metrics."""
        self._schedule_sweep()

    def _schedule_sweep(self) -> None:
        self._sweeper = self.loop.call_at(self.loop.now() + SWEEP, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.now()
        self.paths.sweep(now)
        self.clients.sweep(now)
        if not self.closed:
            self._schedule_sweep()

    # -- a request ------------------------------------------------------------------------------------------------

    def route(self, ex: Exchange, now: float) -> None:
        """Identify and dispatch; whatever goes wrong becomes the answer of ``ex``."""
        head = ex.head
        server = ex.server
        maximum = server.max_concurrent
        if maximum is not None and server.stats.pending > maximum:
            self._nack(ex, maximum)
            return
        try:
            if len(head.special) > 1 or not head.plain or not server.plain_lines or self.always_context:
                read_context(ex, now)
            if ex.local is None:
                key = self._key(head)
                route = self._routes.get(key) if key is not None else None
                if route is not None and not route[0].closed:
                    path = route[0]
                    ex.target = route[1]
                else:
                    path = self._resolve(ex, key)
            else:
                path = self._resolve(ex, None)
        except MeshError as error:
            ex.fail(error)
            return
        path.last_used = now
        path.dispatch(ex, now)

    def _keys(self, head: Any) -> Hashable:
        keys = tuple([identifier.key(head) for identifier in self.identifiers])
        # One identifier whose answer may not be remembered is enough.
        return None if None in keys else keys

    def identify(self, head: Any) -> tuple[Path, bytes | None]:
        """The dst path of a request, and its new target when an identifier consumed a part of it.

        Raises MeshError (400) naming every identifier and why it declined.
        """
        declined: list[str] = []
        for identifier in self.identifiers:
            found = identifier.identify(head)
            if isinstance(found, NotIdentified):
                declined.append(f"{identifier.kind}: {found.reason}")
                continue
            consume = getattr(identifier, "consume", None)
            return found, consume(head) if consume is not None else None
        request = f"{head.method.decode('latin-1')} {head.target.decode('latin-1')}"
        raise MeshError(
            Reason.NO_IDENTIFIER,
            f"Unknown destination: {request[:200]} / " + "; ".join(declined),
            status=400,
            side=Side.CALLER,
        )

    def _resolve(self, ex: Exchange, key: Hashable) -> PathStack:
        path, target = self.identify(ex.head)
        ex.target = target
        stack = self.path_stack(path, ex.local or Dtab.EMPTY)
        if key is not None and target is None and ex.local is None:
            if len(self._routes) >= MAX_KEYS:
                for known, _target in self._routes.values():
                    known.keys.clear()
                self._routes.clear()
            self._routes[key] = (stack, None)
            stack.keys.append(key)
        return stack

    def path_stack(self, path: Path, local: Dtab) -> PathStack:
        """The stack of a dst path under a local dtab, made on first use."""
        key = (path, local)
        stack = self.paths.get(key)
        if stack is None:
            stack = PathStack(
                router=self,
                path=path,
                local=local,
                binding=self.interpreter.bind(local, path),
                settings=self.service_settings(path),
                scope=self.services.scope_of(path),
                rng=self.env.rng(f"path/{self.label}{path.show()}"),
                make_branch=self._branch,
                drop_branch=self._drop_branch,
            )
            self.paths.add(key, stack)
            if not stack.is_known:
                # The request that asks for it may have to wait, and is seen while it does.
                self.services.show_strangers()
        return stack

    def _strangers_pending(self) -> int:
        return sum(path.stats.pending for path in self.paths.entries.values() if not path.is_known)

    def take_over(self, old: Router) -> None:
        """Move the path stacks of the router that this one replaces, with what they have learned."""
        self.services.take_over(old.services)
        for key, stack in list(old.paths.entries.items()):
            del old.paths.entries[key]
            path, local = key
            self.paths.entries[key] = stack
            stack.move(
                self,
                self.interpreter.bind(local, path),
                self.service_settings(path),
                self._branch,
                self._drop_branch,
            )
        old.moved = True

    def _path_dropped(self, key: tuple[Path, Dtab], stack: PathStack) -> None:
        path = key[0]
        # Remembered keys would keep what the cache has let go of.
        for known in stack.keys:
            self._routes.pop(known, None)
        stack.keys.clear()
        if not any(
            other.path == path for k, other in self.paths.entries.items() if k != key and k[0] == path
        ):
            self.services.forget(path)

    # -- names become clients -------------------------------------------------------------------------------------

    def _branch(self, path: PathStack, name: BoundName) -> Branch:
        client: ClientStack | None = None
        scope = self._clients.scope(name.id.show()[1:])
        if name.status_code is None:
            client = self.clients.get(name.id)
            if client is None:
                client = self._make_client(self, name, scope)
                self.clients.add(name.id, client)
            client.users += 1
        lines = b"l5d-dst-service: %b\r\nl5d-dst-client: %b\r\n" % (
            path.text.encode("ascii", "backslashreplace"),
            name.id.show().encode("ascii", "backslashreplace"),
        )
        if len(name.residual):
            lines += b"l5d-dst-residual: %b\r\n" % name.residual.show().encode("ascii", "backslashreplace")
        stats = ScopeStats(scope.scope("service").scope(path.text[1:]), statuses=False)
        return Branch(name, client, lines, stats)

    def _drop_branch(self, branch: Branch) -> None:
        if branch.client is not None:
            branch.client.users -= 1
            branch.client.last_used = self.loop.now()

    def _client_dropped(self, id: Path, stack: ClientStack) -> None:
        if not self.moved:
            self._clients.prune(id.show()[1:])

    # -- context --------------------------------------------------------------------------------------------------

    def write_context(self, ex: Exchange, now: float) -> None:
        """The lines that every forwarded request gets: trace context, request id, Via, and the deadline if any."""
        if ex.context is None and ex.deadline is None and ex.client.attempt_timeout_ms is None:  # type: ignore[union-attr]  # set before
            # A new trace: the root is the server's span, the client's is its child (reference 8.3).
            raw = self._bits(128).to_bytes(16, "big")
            root = raw[8:]
            ex.reqid = reqid = hexlify(root)
            ex.trace = b"l5d-reqid: %b\r\nl5d-ctx-trace: %b\r\nVia: 1.1 hostmesh\r\n" % (
                reqid,
                b2a_base64(raw + root + ROOT_FLAGS, newline=False),
            )
        else:
            if ex.context is None:
                # The caller sent none, and a timeout of ours is a deadline for the next hop.
                ex.context = Context()
                ex.context.trace = root_trace(self.trace_rng)
            if ex.client.http2:  # type: ignore[union-attr]  # as above
                ex.trace = b""
                ex.trace_pairs = ex.context.pairs(ex, self, now)
            else:
                ex.trace_pairs = None
                ex.trace = ex.context.lines(ex, self, now)

    def refused_by_policy(self, ex: Exchange, endpoint: Endpoint) -> str | None:
        """Why a request with its own dtab may not go to ``endpoint`` (hardening T2), or None.

        Addresses from a registry are the operator's word, so loopback is refused only for built-in names (``/$/inet``
        and its kin); link-local and admin addresses are refused whatever they came from.
        """
        branch = ex.branch
        assert branch is not None
        trusted = "$" not in branch.name.id or ip_address(ex.caller.peer[0]).is_loopback
        return refusal((endpoint,), trusted, self.forbidden)

    # -- answers made here ----------------------------------------------------------------------------------------

    def _nack(self, ex: Exchange, maximum: int) -> None:
        ex.server.nacks.value += 1
        ex.fail(
            MeshError(
                Reason.OVERLOADED,
                "Request was not processed by the server due to an error and is safe to retry: "
                f"{maximum} requests are in progress (maxConcurrentRequests)",
                status=503,
            )
        )

    def answer(self, ex: Exchange, status: int) -> None:
        """``/$/io.buoyant.http.status/<code>``: an answer of that status, from nobody."""
        if status < 200:
            # An interim response answers nothing: the caller would wait for ever, or take 101 at its word.
            ex.fail(MeshError(Reason.NAME_NEGATIVE, f"{status} is no status of an answer", status=502))
            return
        ex.committed = True
        ex.status = status
        ex.caller.send_answer(ex, status, b"")
        ex.finish(status, ok=status < 500)

    def guard(self, fn: Callable[..., object], *args: Any) -> None:
        """Call on behalf of an exchange among the arguments; an exception of ours ends that exchange only."""
        try:
            fn(*args)
        except Exception as error:
            for arg in args:
                if isinstance(arg, Exchange):
                    arg.bug(error)
                    return
            raise

    def base_dtab_lines(self) -> list[str]:
        """The configured dtab, a dentry a line, for people."""
        return [f"{dentry.show()};" for dentry in self.base_dtab.dentries]

    # -- life -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of every name; exchanges in flight end by themselves."""
        if not self.closed:
            self.closed = True
            if self._sweeper is not None:
                self._sweeper.cancel()
            self.paths.close()
            self.clients.close()

    def client_state(self) -> dict[str, object]:
        return {id.show(): client.state() for id, client in self.clients.entries.items()}
