"""The file namer follows what is done to real files."""

from __future__ import annotations

import os
from pathlib import Path as FilePath

import pytest

from hostmesh.base.var import Failed, Ok
from hostmesh.naming.addr import AddrFailed, Endpoint
from hostmesh.naming.path import Path
from hostmesh.registry.walk import File, Missing
from tests.fs_world import Followed, World, replace


@pytest.fixture
def root(tmp_path: FilePath) -> FilePath:
    folder = tmp_path / "disco"
    folder.mkdir()
    return folder


def test_a_name_is_there_before_anything_runs(root: FilePath) -> None:
    """Command line tools read names, long files included, without a task."""
    (root / "long").write_text("127.0.0.1 1\n" * 5_000)
    assert Followed(World(root), "/long").ports == [1]
    (root / "web").write_text("127.1 8080 * 2.5 # one\n\n# comment\n::1 8081\n")

    followed = Followed(World(root), "/web/rest/of/it")

    assert followed.tree == Ok(followed.tree.value)
    assert followed.tree.value.value.id.show() == "/#/io.l5d.fs/web"
    assert followed.tree.value.value.residual.show() == "/rest/of/it"
    assert (Endpoint("127.0.0.1", 8080, 2.5), Endpoint("::1", 8081)) == followed.addr.endpoints


@pytest.mark.parametrize("use_inotify", [True, False], ids=["inotify", "poll"])
def test_rename_over_adds_at_once_and_removes_after_the_hold(root: FilePath, use_inotify: bool) -> None:
    """A new endpoint is there at once, a removed one goes after holdMs."""
    (root / "web").write_text("127.0.0.1 1\n127.0.0.1 2\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1, 2])
        replace(root / "web", "127.0.0.1 2\n127.0.0.1 3\n")
        await world.until(lambda: web.ports == [1, 2, 3])
        await world.until(lambda: web.ports == [2, 3])
        assert not web.had_a_gap

    World(root, use_inotify=use_inotify).run(test)


def test_truncating_and_writing_in_pieces_is_one_change(root: FilePath) -> None:
    """What a writer has not closed is not believed."""
    (root / "web").write_text("127.0.0.1 8001\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [8001])
        with (root / "web").open("w") as file:
            file.flush()
            await world.quiet(0.15, lambda: web.ports == [8001])
            file.write("127.0.0.1 80")
            file.flush()
            await world.quiet(0.15, lambda: web.ports == [8001])
            file.write("02\n")
        await world.until(lambda: web.ports == [8002])
        assert [[e.port for e in addr.endpoints] for addr in web.addrs] == [[8001], [8001, 8002], [8002]]

    World(root, settle_s=30.0).run(test)


def test_a_writer_that_never_closes_is_believed_in_the_end(root: FilePath) -> None:
    """A file that has settled is read although it is still open."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        with (root / "web").open("w") as file:
            file.write("127.0.0.1 2\n")
            file.flush()
            await world.until(lambda: web.ports == [2])

    World(root, resync_s=0.1).run(test)


def test_deletion_and_restoration_within_the_hold_change_nothing(root: FilePath) -> None:
    """Neither the name nor its addresses move when the file comes back in time."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        (trees, addrs) = len(web.trees), len(web.addrs)
        seen = world.namer.service(Path.of("web")).watched.var
        for _ in range(3):
            (root / "web").unlink()
            await world.until(lambda: isinstance(seen.value, Missing))
            replace(root / "web", "127.0.0.1 1\n")
            await world.until(lambda: isinstance(seen.value, File))
        await world.quiet(0.3, lambda: web.ports == [1])
        assert (trees, addrs) == (len(web.trees), len(web.addrs))

    World(root, hold_ms=5000).run(test)


def test_a_file_that_stays_deleted_becomes_neg_and_may_come_back(root: FilePath) -> None:
    """After holdMs the name is Neg; a new file is a name again."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        (root / "web").unlink()
        await world.until(lambda: web.is_neg)
        (root / "web").write_text("127.0.0.1 2\n")
        await world.until(lambda: not web.is_neg and web.ports == [2])

    World(root).run(test)


def test_a_name_that_is_not_there_yet_appears(root: FilePath) -> None:
    """Unknown names are watched, in directories that do not exist yet, too."""

    async def test(world: World) -> None:
        deep = Followed(world, "/team/web/x")
        await world.until(lambda: deep.is_neg)
        (root / "team").mkdir()
        (root / "team" / "web").write_text("127.0.0.1 1\n")
        await world.until(lambda: deep.ports == [1])
        assert deep.tree.value.value.id.show() == "/#/io.l5d.fs/team/web"
        assert deep.tree.value.value.residual.show() == "/x"

    World(root).run(test)


def test_an_emptied_file_is_believed_after_the_hold(root: FilePath) -> None:
    """An empty file is a bound name without addresses, not Neg."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        (root / "web").write_text("")
        await world.until(lambda: web.ports == [])
        assert not web.is_neg

    World(root).run(test)


def test_a_malformed_file_keeps_the_last_good_set_and_is_reported(root: FilePath) -> None:
    """One bad line spoils the new content, not the old."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        replace(root / "web", "127.0.0.1 2\nnonsense\n")
        await world.until(lambda: "names.source_failed" in world.reported())
        assert web.ports == [1]
        assert world.metrics.counter("malformed").value == 1
        state = world.namer.state()["state"]["web"]
        assert (
            f"{root}/web: malformed address: line 2: expected 'host port' or 'host port * weight'"
            == (state["error"])
        )
        replace(root / "web", "127.0.0.1 2\n")
        await world.until(lambda: web.ports == [2])
        assert "names.source_recovered" in world.reported()

    World(root).run(test)


def test_a_file_malformed_from_the_start_is_failed_not_neg(root: FilePath) -> None:
    """Without a last good set the addresses are Failed, so nothing falls back."""
    (root / "web").write_text("127.0.0.1 0\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: isinstance(web.addr, AddrFailed))
        assert "expected a port between 1 and 65535, found '0'" in web.addr.cause

    World(root).run(test)


def test_a_file_over_the_limit_is_failed(root: FilePath) -> None:
    """500 KB is the limit of Linkerd."""
    (root / "web").write_text("#" * 500 * 1024 + "\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: isinstance(web.addr, AddrFailed))
        assert "expected at most 512000 bytes, found more" in web.addr.cause

    World(root).run(test)


def test_a_configmap_swap_is_followed(root: FilePath) -> None:
    """Replacing the directory behind ``..data`` changes the file, and no state between is seen."""

    def publish(version: str, text: str) -> None:
        (root / version).mkdir()
        (root / version / "web").write_text(text)
        (root / "..data_tmp").symlink_to(version)
        os.replace(root / "..data_tmp", root / "..data")

    publish("..2024_01", "127.0.0.1 1\n")
    (root / "web").symlink_to("..data/web")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        for port in range(2, 6):
            publish(f"..2024_0{port}", f"127.0.0.1 {port}\n")
            (root / f"..2024_0{port - 1}" / "web").unlink()
            (root / f"..2024_0{port - 1}").rmdir()
            await world.until(lambda port=port: web.ports == [port])
        assert not web.had_a_gap
        hidden = Followed(world, "/..data/web")
        assert hidden.is_neg

    World(root).run(test)


def test_a_replaced_directory_is_followed(root: FilePath, tmp_path: FilePath) -> None:
    """Moving the whole directory away and another one into its place causes no gap."""
    (root / "web").write_text("127.0.0.1 1\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "web").write_text("127.0.0.1 2\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        os.rename(root, tmp_path / "old")
        other.rename(root)
        await world.until(lambda: web.ports == [2])
        (root / "web").write_text("127.0.0.1 3\n")
        await world.until(lambda: web.ports == [3])
        assert not web.had_a_gap

    World(root).run(test)


def test_a_root_directory_behind_a_link_may_be_swapped(root: FilePath, tmp_path: FilePath) -> None:
    """Deployments that point ``current`` at the next release are followed."""
    (root / "web").write_text("127.0.0.1 1\n")
    release = tmp_path / "release-2"
    release.mkdir()
    (release / "web").write_text("127.0.0.1 2\n")
    current = tmp_path / "current"
    current.symlink_to(root)
    (tmp_path / "next").symlink_to(release)

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        os.replace(tmp_path / "next", current)
        await world.until(lambda: web.ports == [2])
        assert not web.had_a_gap

    World(current).run(test)


def test_a_root_directory_that_is_a_file_is_an_error(tmp_path: FilePath) -> None:
    """It is no registry without names; once it is a directory it is one."""
    path = tmp_path / "disco"
    path.write_text("")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        cause = f"rootDir {path}: expected a directory, found none at {path}"
        await world.until(lambda: web.tree == Failed(cause))
        path.unlink()
        path.mkdir()
        (path / "web").write_text("127.0.0.1 1\n")
        await world.until(lambda: web.ports == [1])

    World(path).run(test)


def test_a_missing_root_directory_is_an_error_and_not_emptiness(root: FilePath, tmp_path: FilePath) -> None:
    """While rootDir is away the last good set stays for as long as it takes; a first look-up is Failed."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        os.rename(root, tmp_path / "away")
        await world.until(lambda: "names.source_failed" in world.reported())
        other = Followed(world, "/other")
        await world.until(lambda: isinstance(other.tree, Failed))
        await world.quiet(0.3, lambda: web.ports == [1])
        (tmp_path / "away").rename(root)
        await world.until(lambda: other.is_neg and "names.source_recovered" in world.reported())
        assert web.ports == [1]

    World(root).run(test)


def test_lost_permission_keeps_the_last_good_set(tmp_path: FilePath) -> None:
    """Unreadable is an error with an age, not an empty file."""
    if os.getuid() != 0:
        pytest.skip("written for root, who must give up the right to read everything")
    root = FilePath("/tmp") / f"hostmesh-{os.getpid()}-permission"
    root.mkdir(mode=0o755)
    (root / "web").write_text("127.0.0.1 1\n")
    (root / "web").chmod(0o644)

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        os.seteuid(0)
        (root / "web").chmod(0o600)
        os.seteuid(65534)
        await world.until(lambda: "names.source_failed" in world.reported())
        assert web.ports == [1]
        assert "Permission denied" in world.namer.state()["state"]["web"]["error"]
        os.seteuid(0)
        (root / "web").chmod(0o644)
        os.seteuid(65534)
        await world.until(lambda: "names.source_recovered" in world.reported())

    try:
        os.seteuid(65534)
        World(root).run(test)
    finally:
        os.seteuid(0)
        (root / "web").unlink()
        root.rmdir()


def test_a_link_to_itself_is_an_error(root: FilePath) -> None:
    """A loop of symlinks keeps the last good set."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        (root / "loop").symlink_to("web")
        os.replace(root / "loop", root / "web")
        await world.until(lambda: "names.source_failed" in world.reported())
        assert web.ports == [1]

    World(root).run(test)


def test_watches_end_with_the_last_observer(root: FilePath) -> None:
    """Nothing is kept of names that are not in use."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web, again = Followed(world, "/web/a"), Followed(world, "/web/b")
        await world.until(lambda: web.ports == [1] and again.ports == [1])
        assert web.addr is again.addr
        assert web.lookup is world.namer.lookup(web.lookup._path)
        assert len(world.files) == 1
        assert world.files.watches > 0
        web.close()
        assert len(world.files) == 1
        again.close()
        await world.until(lambda: world.files.watches == 0)
        assert len(world.files) == 0
        assert world.namer.state()["state"] == {}

    World(root).run(test)


def test_the_journal_tells_what_came_and_went(root: FilePath) -> None:
    """Every add and remove is there with its source and the file's time of change."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        replace(root / "web", "::1 2\n")
        await world.until(lambda: web.ports == [2])
        entries = world.namer.journal.entries("/#/io.l5d.fs/web")
        assert [(entry.action, entry.what) for entry in entries] == [
            ("add", "127.0.0.1:1"),
            ("add", "[::1]:2"),
            ("remove", "127.0.0.1:1"),
        ]
        assert {str(root / "web")} == {entry.source for entry in entries}
        assert str((root / "web").stat().st_mtime_ns) == entries[-1].version

    World(root).run(test)
