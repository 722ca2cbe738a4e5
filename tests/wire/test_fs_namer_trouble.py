"""The file namer and the file watch when the system does not do its part."""

from __future__ import annotations

import errno
import threading
from pathlib import Path as FilePath

import pytest
import trio

from hostmesh.base.var import Failed, Ok
from hostmesh.naming.addr import AddrFailed
from hostmesh.registry import files as files_module
from hostmesh.registry import inotify
from hostmesh.registry.resolver import Answer, Unknown, Unresolved
from hostmesh.registry.walk import Look, look
from tests.fs_world import Followed, World, replace


@pytest.fixture
def root(tmp_path: FilePath) -> FilePath:
    folder = tmp_path / "disco"
    folder.mkdir()
    return folder


def test_without_watches_a_path_is_polled_until_they_are_back(
    root: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running out of kernel watches costs a second of latency and a line in the log, no more."""
    (root / "web").write_text("127.0.0.1 1\n")
    add = inotify.Inotify.add
    out_of_watches = True

    def fail(self: inotify.Inotify, path: str, mask: int) -> int:
        if out_of_watches:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        return add(self, path, mask)

    monkeypatch.setattr(inotify.Inotify, "add", fail)

    async def test(world: World) -> None:
        nonlocal out_of_watches
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        assert "files.polling" in world.reported()
        assert world.namer.state()["state"]["web"]["watch"] == "poll"
        replace(root / "web", "127.0.0.1 2\n")
        await world.until(lambda: web.ports == [2])
        out_of_watches = False
        replace(root / "web", "127.0.0.1 3\n")
        await world.until(lambda: web.ports == [3])
        assert world.namer.state()["state"]["web"]["watch"] == "inotify"

    World(root).run(test)


def test_a_system_without_inotify_is_polled(root: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSYS and EMFILE are reported once, and names work."""
    (root / "web").write_text("127.0.0.1 1\n")

    def fail(_self: inotify.Inotify) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(inotify.Inotify, "__init__", fail)

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        replace(root / "web", "127.0.0.1 2\n")
        await world.until(lambda: web.ports == [2])
        assert "files.no_inotify" in world.reported()

    World(root).run(test)


def test_polling_by_option_uses_no_watches(root: FilePath) -> None:
    """For network file systems, whose other writers cause no events here."""
    (root / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        (root / "web").write_text("127.0.0.1 2\n")
        await world.until(lambda: web.ports == [2])
        (root / "web").unlink()
        await world.until(lambda: web.is_neg)
        assert world.files.watches == 0
        assert "files.polling" not in world.reported()

    World(root, poll=True).run(test)


def test_lost_events_are_made_good(root: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an overflow of the kernel's queue everything is read again."""
    (root / "web").write_text("127.0.0.1 1\n")
    read = inotify.Inotify.read

    def overflow(self: inotify.Inotify) -> list[inotify.Event]:
        return [inotify.Event(-1, inotify.Q_OVERFLOW, "")] if read(self) else []

    monkeypatch.setattr(inotify.Inotify, "read", overflow)

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        replace(root / "web", "127.0.0.1 2\n")
        await world.until(lambda: web.ports == [2])
        assert "files.overflow" in world.reported()

    World(root).run(test)


def test_changes_without_any_event_are_found_by_the_resync(
    root: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no watch sees is seen by looking, and looking renews the age."""
    (root / "web").write_text("127.0.0.1 1\n")
    monkeypatch.setattr(inotify.Inotify, "read", lambda _self: [])

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [1])
        replace(root / "web", "127.0.0.1 2\n")
        await world.until(lambda: web.ports == [2])

    World(root, resync_s=0.1).run(test)


def test_a_file_system_that_hangs_is_an_error_and_holds_up_nobody(
    root: FilePath, tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its names keep what they have, other directories are followed, and its answer is used when it comes."""
    (root / "web").write_text("127.0.0.1 1\n")
    (tmp_path / "dtab").write_text("/a => /b;")
    hangs = threading.Event()
    hangs.set()

    def hanging_look(path: str, max_bytes: int, kernel: inotify.Inotify | None = None) -> Look:
        if path.startswith(str(root)):
            hangs.wait(20)
        return look(path, max_bytes, kernel)

    monkeypatch.setattr(files_module, "look", hanging_look)

    async def test(world: World) -> None:
        world.files._overdue_s = 0.2
        web = Followed(world, "/web")
        dtab = world.files.text(str(tmp_path / "dtab"))
        dtab.observe(lambda _state: None)
        await world.until(lambda: web.ports == [1] and dtab.value == Ok("/a => /b;"))
        hangs.clear()
        replace(root / "web", "127.0.0.1 2\n")
        await world.until(lambda: "names.source_failed" in world.reported())
        assert web.ports == [1]
        assert "no answer from its file system" in world.namer.state()["state"]["web"]["error"]
        replace(tmp_path / "dtab", "/a => /c;")
        await world.until(lambda: dtab.value == Ok("/a => /c;"))
        hangs.set()
        await world.until(lambda: web.ports == [2])

    try:
        World(root).run(test)
    finally:
        hangs.set()


def test_a_text_file_keeps_its_last_good_text(tmp_path: FilePath) -> None:
    """A dtab file that is deleted or unreadable leaves the dtab in force."""
    path = tmp_path / "dtab"

    async def test(world: World) -> None:
        dtab = world.files.text(str(path))
        dtab.observe(lambda _state: None)
        await world.until(lambda: isinstance(dtab.value, Failed))
        assert f"{path}: expected a file, found nothing at {path}" == dtab.error
        assert dtab.age() is not None
        path.write_text("/a => /b;")
        await world.until(lambda: dtab.value == Ok("/a => /b;"))
        assert dtab.error is None
        path.unlink()
        await world.until(lambda: dtab.error is not None)
        path.mkdir()
        await world.until(lambda: dtab.error == f"{path}: expected a file, found a directory")
        assert Ok("/a => /b;") == dtab.value
        path.rmdir()
        path.write_text("")
        await world.until(lambda: dtab.value == Ok(""))
        assert {"files.unreadable", "files.readable"} == world.reported()

    World(tmp_path).run(test)


def test_host_names_are_resolved_and_followed(root: FilePath) -> None:
    """A file may name hosts; their addresses come and go with the resolver's answers."""
    (root / "web").write_text("a.example 80 * 2\n127.0.0.1 81\nb.example 82\n")
    answers: dict[str, Answer] = {
        "a.example": ("10.0.0.1", "10.0.0.2"),
        "b.example": Unresolved("b: SERVFAIL"),
    }

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports == [80, 80, 81])
        assert [endpoint.weight for endpoint in web.addr.endpoints] == [2.0, 2.0, 1.0]
        await world.until(
            lambda: world.namer.state()["state"]["web"]["unresolved"] == {"b.example": "b: SERVFAIL"}
        )
        answers["a.example"] = ("10.0.0.2",)
        answers["b.example"] = ("10.0.0.3",)
        await world.until(lambda: web.ports == [80, 81, 82])
        replace(root / "web", "127.0.0.1 81\n")
        await world.until(lambda: web.ports == [81])
        assert len(world.shared.resolver) == 0

    World(root, lookup=answers.__getitem__, ttl_s=0.03).run(test)


def test_a_file_of_names_that_cannot_be_resolved_is_failed_and_recovers(root: FilePath) -> None:
    """No address because of an error is not an empty set; no such host is."""
    (root / "web").write_text("a.example 80\n")
    answers: dict[str, Answer] = {"a.example": Unresolved("a: SERVFAIL")}

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.addr == AddrFailed("a: SERVFAIL"))
        answers["a.example"] = ("10.0.0.1",)
        await world.until(lambda: web.ports == [80])
        answers["a.example"] = Unresolved("a: SERVFAIL")
        failures = world.shared.resolver.failures
        while world.shared.resolver.failures == failures:
            await trio.lowlevel.checkpoint()
        assert web.ports == [80]
        answers["a.example"] = Unknown()
        await world.until(lambda: web.ports == [])

    World(root, lookup=answers.__getitem__, ttl_s=0.03).run(test)


def test_a_file_with_as_many_endpoints_as_it_may_have_is_taken(root: FilePath) -> None:
    """25,000 lines are parsed in steps and believed as one set."""
    lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255} 80" for n in range(25_000)]
    (root / "web").write_text("\n".join(lines))

    async def test(world: World) -> None:
        web = Followed(world, "/web")
        await world.until(lambda: web.ports is not None and len(web.ports) == 25_000)
        assert [len(addr.endpoints) for addr in web.addrs if hasattr(addr, "endpoints")] == [25_000]

    World(root).run(test)


def test_many_names_share_one_directory_watch(root: FilePath) -> None:
    """Watches are per directory, not per file, and each change reaches its own name only."""
    for number in range(200):
        (root / f"n{number}").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        names = [Followed(world, f"/n{number}") for number in range(200)]
        await world.until(lambda: all(name.ports == [1] for name in names))
        assert world.files.watches <= 2 + len(root.parts)
        looks = world.files.looks
        replace(root / "n7", "127.0.0.1 2\n")
        await world.until(lambda: names[7].ports == [2])
        assert world.files.looks - looks < 10
        for name in names:
            name.close()
        await world.until(lambda: world.files.watches == 0)

    World(root).run(test)


def test_bound_names_lists_the_top_level(root: FilePath, tmp_path: FilePath) -> None:
    """As Linkerd does, without the inside of a ConfigMap volume; a missing directory lists nothing."""
    (root / "web").write_text("")
    (root / "team").mkdir()
    (root / "..data").mkdir()

    world = World(root)

    assert [name.show() for name in world.namer.bound_names()] == ["/#/io.l5d.fs/team", "/#/io.l5d.fs/web"]
    missing = World(tmp_path / "missing")
    assert missing.namer.bound_names() == []
    assert {"names.not_listed"} == missing.reported()


def test_the_state_is_nested_as_directories_are(root: FilePath) -> None:
    """Each name in use shows what the admin API promises."""
    (root / "team").mkdir()
    (root / "team" / "web").write_text("127.0.0.1 1\n")

    async def test(world: World) -> None:
        web = Followed(world, "/team/web")
        await world.until(lambda: web.ports == [1])
        replace(root / "team" / "web", "127.0.0.1 1 * 2\n")
        await world.until(lambda: web.addr.endpoints[0].weight == 2.0)
        state = world.namer.state()
        assert (str(root), "/io.l5d.fs", {"team"}) == (state["rootDir"], state["prefix"], set(state["state"]))
        shown = state["state"]["team"]["children"]["web"]
        assert shown["value"] == {
            "type": "bound",
            "addresses": [{"ip": "127.0.0.1", "port": 1, "weight": 2.0}],
        }
        assert (shown["events"]["kind"], shown["events"]["name"]) == ("moved-to", "web")
        assert 0 <= shown["ageMs"] < 5000
        assert (shown["watch"], shown["error"], shown["running"]) == ("inotify", None, True)
        ages = world.metrics.scope("age_ms")
        assert {"/#/io.l5d.fs/team", "/#/io.l5d.fs/team/web"} == set(ages.children)
        web.close()
        assert ages.children == {}

    World(root).run(test)
