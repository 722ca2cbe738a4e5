"""A folder of ``cert.pem``, ``key.pem``, ``ca.pem`` and ``crl.pem``, and the ways in which tools replace files."""

from __future__ import annotations

import os
from pathlib import Path

NAMES = ("cert", "key", "ca", "crl")


class PemFolder:
    """The files of the host, and the ways of replacing them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir()
        self._versions = 0

    def _write(self, path: Path, data: bytes) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)

    def rename(self, **files: bytes) -> None:
        """Each beside, then over the old one."""
        for name, data in files.items():
            fresh = self.path / f".{name}.new"
            self._write(fresh, data)
            fresh.replace(self.path / f"{name}.pem")

    def in_place(self, **files: bytes) -> None:
        """Each truncated and written again, in two pieces."""
        for name, data in files.items():
            path = self.path / f"{name}.pem"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                file.write(data[len(data) // 2 :])

    def swap(self, **files: bytes) -> None:
        """All at once, as Kubernetes does it: the files are links into ``..data``, which is a link to a folder."""
        self._versions += 1
        folder = self.path / f"..{self._versions}"
        folder.mkdir()
        for name in NAMES:
            present = self.path / f"{name}.pem"
            self._write(folder / f"{name}.pem", files.get(name) or present.read_bytes())
        data = self.path / "..data"
        first = not data.is_symlink()
        self._link(data, folder.name)
        for name in NAMES:
            path = self.path / f"{name}.pem"
            if first or not path.is_symlink():
                self._link(path, f"..data/{name}.pem")

    def _link(self, path: Path, target: str) -> None:
        fresh = path.with_name(f".{path.name}.link")
        fresh.symlink_to(target)
        fresh.replace(path)
