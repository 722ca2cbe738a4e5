"""Whatever is done to the files, the namer ends up at what is there."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path as FilePath

import pytest
import trio

from tests.fs_world import Followed, World, replace

NAMES = ("web", "api")


class Vandal:
    """Does one random thing after the other to a directory and what is around it."""

    def __init__(self, root: FilePath, seed: int) -> None:
        self.root = root
        self.rng = random.Random(seed)
        self.count = 0

    def act(self) -> None:
        """One thing; what is impossible just now is left."""
        self.count += 1
        action = self.rng.choice(
            (
                self.write,
                self.write,
                self.replace,
                self.replace,
                self.remove,
                self.link,
                self.publish,
                self.swap_root,
                self.nest,
            )
        )
        action(self.root / self.rng.choice(NAMES))

    def text(self) -> str:
        return f"127.0.0.1 {self.count}\n"

    def clear(self, path: FilePath) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)

    def write(self, path: FilePath) -> None:
        self.clear(path)
        if not path.is_symlink():
            path.write_text(self.text())

    def replace(self, path: FilePath) -> None:
        self.clear(path)
        replace(path, self.text())

    def remove(self, path: FilePath) -> None:
        self.clear(path)
        path.unlink(missing_ok=True)

    def link(self, path: FilePath) -> None:
        self.clear(path)
        path.unlink(missing_ok=True)
        target = self.root / f"real-{self.count}"
        target.write_text(self.text())
        path.symlink_to(target.name)

    def publish(self, path: FilePath) -> None:
        """As a kubelet does."""
        version = self.root / f"..v{self.count}"
        version.mkdir()
        (version / path.name).write_text(self.text())
        (self.root / "..tmp").symlink_to(version.name)
        os.replace(self.root / "..tmp", self.root / "..data")
        if not path.is_symlink():
            self.remove(path)
            path.symlink_to(f"..data/{path.name}")

    def swap_root(self, _path: FilePath) -> None:
        copy = self.root.with_name(f"copy-{self.count}")
        shutil.copytree(self.root, copy, symlinks=True)
        self.root.rename(self.root.with_name(f"old-{self.count}"))
        copy.rename(self.root)

    def nest(self, path: FilePath) -> None:
        self.remove(path)
        path.mkdir()
        (path / "deep").write_text(self.text())

    def truth(self, name: str) -> list[int] | str:
        """What a namer has to say of a name in the end: the first file on the way counts."""
        path = self.root
        for part in name.split("/"):
            path /= part
            if path.is_file():
                return [int(path.read_text().split()[1])]
        return "neg"


def said(followed: Followed) -> list[int] | str | None:
    return "neg" if followed.is_neg else followed.ports


@pytest.mark.parametrize("seed", range(6))
def test_after_any_sequence_of_changes_the_namer_has_what_is_there(tmp_path: FilePath, seed: int) -> None:
    """With holdMs 0; changes come alone and in bursts, and none is lost."""
    root = tmp_path / "disco"
    root.mkdir()
    vandal = Vandal(root, seed)

    async def test(world: World) -> None:
        names = {name: Followed(world, f"/{name}") for name in (*NAMES, "web/deep")}
        for _burst in range(40):
            for _ in range(vandal.rng.choice((1, 1, 2, 5))):
                vandal.act()
                if vandal.rng.random() < 0.5:
                    await trio.lowlevel.checkpoint()
            for name, followed in names.items():
                truth = vandal.truth(name)
                await world.until(lambda followed=followed, truth=truth: said(followed) == truth)

    World(root, hold_ms=0, resync_s=1000.0).run(test)
