"""What the ZooKeeper namers decide without a server."""

from __future__ import annotations

import json

import pytest

from hostmesh.config.to_json import to_json
from hostmesh.naming.path import Path
from hostmesh.registry.hostnames import Named
from hostmesh.registry.zk_place import Listing, Place
from namer.serversets import ServersetsConfig, ServersetsFormat
from namer.serversets_announcer import ServersetsAnnouncerConfig
from namer.serversets_format import Member, Selector
from namer.zk import MAX_DEPTH, MAX_SEGMENT, is_node
from namer.zk_config import ZkAddr, ZkAuth
from namer.zk_leader import LeaderFormat
from namer.zk_name import Name

ADDRS = (ZkAddr(host="zk-1"), ZkAddr(host="::1", port=2182))


@pytest.mark.parametrize(
    "segment", ["web", "web-1.example.com", "größe", "a b", "1", "...", "x" * MAX_SEGMENT], ids=repr
)
def test_a_segment_may_be_a_node(segment: str) -> None:
    """Names of hosts and services are looked up."""
    assert is_node(segment)


@pytest.mark.parametrize(
    "segment",
    ["", ".", "..", "zookeeper", "a/b", "a\0b", "a\nb", "\x7f", "\ud800", "\uf8ff", "x" * (MAX_SEGMENT + 1)],
    ids=repr,
)
def test_a_segment_that_is_no_node_is_never_asked_for(segment: str) -> None:
    """ZooKeeper's forbidden names, its own quota tree, and what is too long."""
    assert not is_node(segment)


def test_the_depth_is_bounded() -> None:
    """Sixteen watches per unknown path, not as many as it has segments."""
    assert MAX_DEPTH == 16


def test_an_ensemble_is_a_value() -> None:
    """Two configurations that say the same share a session; another credential is another session."""
    first = ServersetsConfig(kind="serversets", zk_addrs=ADDRS)
    second = ServersetsConfig(kind="serversets", zk_addrs=ADDRS, hold_ms=0)
    other = ServersetsConfig(kind="serversets", zk_addrs=ADDRS, auth_info=ZkAuth(auth="me:secret"))

    assert first.place == second.place == Place((("zk-1", 2181), ("::1", 2182)))
    assert first.place.show() == "zk-1:2181,[::1]:2182"
    assert other.place != first.place


def test_credentials_are_not_shown() -> None:
    """Neither the ensemble nor the admin page's configuration has them; a reload sees that they changed."""
    config = ServersetsConfig(kind="serversets", zk_addrs=ADDRS, auth_info=ZkAuth(auth="me:secret"))
    other = ServersetsConfig(kind="serversets", zk_addrs=ADDRS, auth_info=ZkAuth(auth="me:other"))

    assert "secret" not in repr(config.place) + config.place.show()
    assert "me:secret" not in json.dumps(to_json(config))
    assert repr(config) != repr(other)


@pytest.mark.parametrize(
    ("addrs", "timeout", "problem"),
    [
        ((), 10_000, "zkAddrs: found an empty list"),
        ((ZkAddr(host=""),), 10_000, "zkAddrs[0].host: expected a host name"),
        ((ZkAddr(host="a"), ZkAddr(host="b,c")), 10_000, "zkAddrs[1].host: expected a host name"),
        ((ZkAddr(host="a/chroot"),), 10_000, "zkAddrs[0].host: expected a host name"),
        (ADDRS, 10, "sessionTimeoutMs: expected at least 1000"),
    ],
)
def test_mistakes_are_found_before_running(addrs: tuple[ZkAddr, ...], timeout: int, problem: str) -> None:
    """Namers and announcers say the same of the same mistake."""
    for cls in (ServersetsConfig, ServersetsAnnouncerConfig):
        problems = cls(kind="serversets", zk_addrs=addrs, session_timeout_ms=timeout).check()

        assert len(problems) == 1
        assert problems[0].startswith(problem)


def test_an_announcer_needs_a_possible_path() -> None:
    """``pathPrefix`` must be one that ZooKeeper can have."""
    config = ServersetsAnnouncerConfig(kind="serversets", zk_addrs=ADDRS, path_prefix=Path.of("zookeeper"))

    assert config.check() == ["pathPrefix: found /zookeeper, which cannot be a ZooKeeper path"]


def test_the_lowest_number_leads() -> None:
    """Numbers are compared as numbers, names without one are no candidates."""
    form = LeaderFormat()

    assert form.wanted(["b_0000000010", "a_0000000009", "lock", "c_0000000011"]) == ["a_0000000009"]
    assert form.wanted(["lock"]) == []
    assert form.combine({"a_0": [Named("10.0.0.1", 1)]}) == [Named("10.0.0.1", 1)]


def test_only_members_and_vectors_are_read() -> None:
    """A folder's other children cost nothing."""
    form = ServersetsFormat()
    children = ["member_1", "vector_2", "web", "memb", "Member_3"]

    assert form.wanted(children) == ["member_1", "vector_2"]
    assert form.combine(
        {"member_1": Member("10.0.0.1", 1, 2), "vector_2": (Selector("shard", "2", 3.0),)}
    ) == [Named("10.0.0.1", 1, 3.0)]


@pytest.mark.parametrize(
    ("after", "continuous"),
    [
        (Listing(["a", "b"], "4", (1, 9), 3), True),
        (Listing(["b", "c"], "5", (1, 9), 5), True),
        (Listing(["a", "b"], "5", (1, 9), 5), False),
        (Listing(["a", "b"], "5", (1, 9), 3), False),
        (Listing(["a"], "3", (1, 9), 2), False),
        (Listing(["a", "b"], "4", (2, 9), 3), False),
        (Listing(["a", "b"], "4", (1, 8), 3), False),
    ],
    ids=[
        "unchanged",
        "one for another",
        "made again",
        "restored",
        "an older copy",
        "another node",
        "lost data",
    ],
)
def test_children_made_again_are_read_again(after: Listing, continuous: bool) -> None:
    """Known children are not read again, unless the count of changes says that there was more than the lists show."""
    name = Name.__new__(Name)
    name._listing = Listing(["a", "b"], "4", (1, 9), 3)

    assert name._is_continuous(after) is continuous
