"""PEM files as they are now, whoever reads them: listeners, clients, registries and ``hostmesh check``."""

from __future__ import annotations

from os.path import abspath
from typing import TYPE_CHECKING, Final

from hostmesh.protocol.tls.credentials import CredentialError, Pem
from hostmesh.registry.walk import File, Missing, Unreadable, look

if TYPE_CHECKING:
    from hostmesh.registry.watched import FileState

MAX_PEM_BYTES: Final = 4 * 1024 * 1024
"""Of one file. A system's bundle of CAs has a quarter of a MiB, a revocation list 40 bytes for each certificate."""


def read_pem(path: str) -> Pem:
    """A file as it is now. Blocks; CredentialError, whose text begins with the path, if it cannot be read."""
    return pem_of(path, look(abspath(path), MAX_PEM_BYTES).found)


def pem_of(path: str, state: FileState) -> Pem:
    """What a watched file says. CredentialError if there is none."""
    if isinstance(state, File):
        return Pem(path, state.text.encode())
    if isinstance(state, Missing):
        raise CredentialError(f"{path}: expected a file, found nothing at {state.where}")
    if isinstance(state, Unreadable):
        raise CredentialError(state.cause)
    raise CredentialError(f"{path}: expected a file, found a directory")
