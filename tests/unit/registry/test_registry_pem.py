"""PEM files as they are now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostmesh.protocol.tls.credentials import CredentialError
from hostmesh.registry.pem import MAX_PEM_BYTES, read_pem


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    """Up to the bound; relative paths are those of the working directory."""
    file = tmp_path / "ca.pem"
    file.write_bytes(b"a" * MAX_PEM_BYTES)

    found = read_pem(os.path.relpath(file))

    assert (found.path, len(found.data)) == (os.path.relpath(file), MAX_PEM_BYTES)


def too_large(file: Path) -> None:
    file.write_bytes(b"a" * (MAX_PEM_BYTES + 1))


def binary(file: Path) -> None:
    file.write_bytes(b"\x30\x82\xff")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (too_large, f"expected at most {MAX_PEM_BYTES} bytes, found more"),
        (binary, "byte 1 is not UTF-8"),
        (Path.mkdir, "expected a file, found a directory"),
        (os.mkfifo, "expected a regular file or a directory"),
        (lambda file: None, "expected a file, found nothing at @"),
        (lambda file: file.symlink_to(file), "Too many levels of symbolic links"),
    ],
    ids=["too-large", "binary", "directory", "pipe", "nothing", "loop"],
)
def test_what_is_no_pem_file_is_an_error_with_its_path(tmp_path: Path, make: object, said: str) -> None:
    """Nothing is cut off in silence, and nothing hangs."""
    file = tmp_path / "ca.pem"
    make(file)  # type: ignore[operator]

    with pytest.raises(CredentialError) as error:
        read_pem(str(file))

    assert str(error.value) == f"{file}: {said.replace('@', str(file))}"
