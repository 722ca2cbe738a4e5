"""What a plugin is.

1. *Parsed*: the config file names a ``kind``; the registry loads the class behind that entry point and the
   converter fills its fields. No code of the plugin runs but its validators.
2. *Checked*: ``check(self) -> list[str]`` may report what the types cannot say.
3. *Made*: ``mk(...)`` builds the runtime object. No I/O, no task, no socket: ``hostmesh check`` calls it too.
4. *Run*: an object with ``async def run(self)`` gets a trio task for as long as the daemon uses it.
5. *Cancelled* at drain or when a reload no longer needs it. It closes what it opened.

The slots, and with them the entry point groups ``hostmesh.<slot>``, are in :data:`SLOTS`. The entry point's name is
the kind; a kind that starts with ``io.l5d.`` may be written without that prefix.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

SLOTS = (
    "namer",
    "identifier",
    "classifier",
    "balancer",
    "accrual",
    "backoff",
    "interpreter",
    "transformer",
    "telemeter",
    "announcer",
    "labeler",
    "protocol",
)


@frozen(kw_only=True)
class PluginConfig:
    """The base of every config class chosen by ``kind``.

    Field names are snake_case here and camelCase in the file; a field whose key does not follow from that rule says
    so in its metadata: ``field(metadata={"key": "maxHeadersKB"})``.
    """

    needs_experimental: ClassVar[bool] = False
    """True makes ``experimental: true`` mandatory, as Linkerd 1.7 does for this kind."""

    unavailable: ClassVar[str | None] = None
    """For kinds that parse and cannot run yet: what to say when somebody runs one."""

    kind: str = field(default="", metadata={"key": "kind"})
    """The kind as the registry knows it, filled in by the converter."""

    experimental: bool = False
    """Accepted everywhere, needed where ``needs_experimental`` says so."""

    def check(self) -> list[str]:
        """Mistakes that the types cannot express, each one sentence that starts with the YAML key."""
        return []
