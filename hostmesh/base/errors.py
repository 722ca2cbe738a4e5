"""One root for everything that can go wrong with a request, carrying the four facts that code branches on."""

from __future__ import annotations

from enum import Enum

from hostmesh.base.reasons import Reason


class Side(Enum):
    """Whose fault it was."""

    CALLER = "caller"
    SELF = "self"
    CALLEE = "callee"


class Sent(Enum):
    """How much of the request had left for the endpoint. NOTHING means that repeating it is always safe."""

    NOTHING = "nothing"
    SOME = "some"
    ALL = "all"


class MeshError(Exception):
    """A request that failed for a known reason.

    ``status`` is the HTTP status to answer with if the response head has not reached the caller. The message is
    for people: it names the place, what was found and what to do; its text is not a contract, ``reason`` is.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        status: int,
        side: Side = Side.SELF,
        sent: Sent = Sent.NOTHING,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.status = status
        self.side = side
        self.sent = sent

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason.value}, {self.message!r}, status={self.status})"


class ConfigError(Exception):
    """A configuration that cannot be used; the message names file, line, key, what was found and expected."""
