"""From finished exchanges to records, built only when somebody wants one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from hostmesh.base.reasons import TLS_REASONS
from hostmesh.proxy.grpc_methods import code_of
from hostmesh.telemetry.record import Record, RecordSink

if TYPE_CHECKING:
    from hostmesh.base.env import Env
    from hostmesh.base.errors import MeshError
    from hostmesh.proxy.exchange import Exchange


class Counterpart(Protocol):
    """A caller's connection, as far as records tell of it."""

    version: int
    """Of HTTP: 11 or 20."""

    @property
    def peer(self) -> tuple[str, int]: ...


class NoHead:
    """Stands for a request head that could not be read."""

    def get(self, name: bytes) -> bytes | None:
        return None


NO_HEAD = NoHead()


class Recorder:
    """Hands the records of one router to its sinks: access log, canonical lines, recent requests."""

    def __init__(self, label: str, env: Env, sinks: list[RecordSink]) -> None:
        self._label = label
        self._env = env
        self._sinks = sinks
        self._wants = [sink.wants for sink in sinks]

    def exchange_done(self, ex: Exchange, micros: int, ok: bool, now: float) -> None:
        """Ask every sink; build one record for those that say yes."""
        failed = not ok
        record: Record | None = None
        for index, wants in enumerate(self._wants):
            if wants(failed):
                if record is None:
                    record = self._record(ex, micros, failed)
                self._sinks[index].on_exchange(record)

    def _record(self, ex: Exchange, micros: int, failed: bool) -> Record:
        head = ex.head
        branch = ex.branch
        response = ex.response
        peer = ex.caller.peer
        identity = ex.caller.identity
        endpoint = ex.last_endpoint
        error = ex.error
        total = micros / 1e6
        return Record(
            router=self._label,
            server=ex.server.settings.name,
            caller=f"{peer[0]}:{peer[1]}",
            method=head.method,
            target=head.target,
            host=head.host,
            head_bytes=head.end,
            version=head.version,
            head=head,
            dst_path="" if ex.path is None else ex.path.text,
            bound_id="" if branch is None else branch.name.id.show(),
            residual="" if branch is None or not len(branch.name.residual) else branch.name.residual.show(),
            endpoint="" if endpoint is None else endpoint.text,
            status=ex.status,
            reason="" if error is None else error.reason.value,
            failed=failed,
            from_endpoint=ex.committed and response is not None,
            attempts=ex.retries + 1,
            requeues=ex.requeues,
            request_bytes=ex.request_bytes,
            response_bytes=ex.response_bytes,
            content_length=response.content_length
            if response is not None and response.content_length >= 0
            else -1,
            start=self._env.wall() - total,
            total=total,
            endpoint_time=ex.ttfb or 0.0,
            trace_id=ex.reqid.decode("ascii"),
            grpc_status=int(code_of(ex)) if ex.is_grpc else None,
            identity="" if identity is None else identity.name,
            detail=_detail(error),
        )

    def refused(self, server: Any, session: Counterpart, error: MeshError, now: float) -> None:
        """A request whose head or framing was refused, or a connection; ``server`` is http's, h2's or tcp's."""
        record: Record | None = None
        for index, wants in enumerate(self._wants):
            if wants(True):
                if record is None:
                    record = self._refusal(server, session, error)
                self._sinks[index].on_exchange(record)

    def _refusal(self, server: Any, session: Counterpart, error: MeshError) -> Record:
        peer = session.peer
        return Record(
            router=self._label,
            server=server.settings.name,
            caller=f"{peer[0]}:{peer[1]}",
            method=b"-",
            target=b"-",
            host=b"",
            head_bytes=0,
            version=session.version,
            head=NO_HEAD,
            dst_path="",
            bound_id="",
            residual="",
            endpoint="",
            status=error.status,
            reason=error.reason.value,
            failed=True,
            from_endpoint=False,
            attempts=0,
            requeues=0,
            request_bytes=0,
            response_bytes=0,
            content_length=-1,
            start=self._env.wall(),
            total=0.0,
            endpoint_time=0.0,
            trace_id="",
            detail=_detail(error),
        )


def _detail(error: MeshError | None) -> str:
    """What a handshake has failed with: the peer gets an alert at most, so the log is where it is said."""
    return error.message if error is not None and error.reason in TLS_REASONS else ""
