"""Identifiers."""

from __future__ import annotations

import pytest

from hostmesh.base.errors import MeshError, Side
from hostmesh.base.reasons import Reason
from hostmesh.naming.path import Path
from hostmesh.routing.identifiers import (
    HeaderConfig,
    HeaderPathConfig,
    HeaderTokenConfig,
    IdentifierConfig,
    MethodAndHostConfig,
    NotIdentified,
    PathConfig,
    StaticConfig,
)
from hostmesh.routing.identify import MAX_NAME_BYTES, MAX_SEGMENTS

SVC = Path.read("/svc")


class Head:
    """A request head."""

    def __init__(
        self,
        target: bytes = b"/",
        host: bytes = b"web",
        method: bytes = b"GET",
        version: int = 11,
        **fields: bytes,
    ) -> None:
        self.target = target
        self.host = host
        self.method = method
        self.version = version
        self.fields = {name.replace("_", "-").encode(): value for name, value in fields.items()}

    def get(self, name: bytes) -> bytes | None:
        return self.fields.get(name)


def identified(config: IdentifierConfig, head: Head, prefix: Path = SVC) -> str:
    found = config.mk(prefix).identify(head)
    return found.show() if isinstance(found, Path) else found.reason


@pytest.mark.parametrize(
    ("config", "head", "expected"),
    [
        (HeaderTokenConfig(), Head(host=b"web"), "/svc/web"),
        (HeaderTokenConfig(), Head(host=b"Web.Example:8080"), "/svc/Web.Example:8080"),
        (HeaderTokenConfig(), Head(host=b""), "Host header is absent"),
        (HeaderTokenConfig(header=":authority"), Head(host=b"web"), "/svc/web"),
        (HeaderTokenConfig(header="X-Version"), Head(x_version=b"v2"), "/svc/v2"),
        (HeaderTokenConfig(header="X-Version"), Head(), "X-Version header is absent"),
        (HeaderTokenConfig(header="X-Version"), Head(x_version=b""), "X-Version header is absent"),
        (HeaderPathConfig(), Head(target=b"/a.Greeter/Hello?x=/y"), "/svc/a.Greeter/Hello"),
        (HeaderPathConfig(segments=1), Head(target=b"/a.Greeter/Hello"), "/svc/a.Greeter"),
        (HeaderPathConfig(segments=2), Head(target=b"/a.Greeter/Hello/"), "/svc/a.Greeter/Hello"),
        (HeaderPathConfig(segments=2), Head(target=b"/a.Greeter/"), "not enough segments in :path"),
        (HeaderPathConfig(), Head(target=b"/"), "not enough segments in :path"),
        (HeaderPathConfig(), Head(target=b"*"), ":path header is not a path"),
        (HeaderPathConfig(header="x-path"), Head(x_path=b"/a/b?c"), "/svc/a/b"),
        (HeaderPathConfig(header="x-path"), Head(), "x-path header is absent"),
        (HeaderConfig(), Head(l5d_name=b"/a/b"), "/svc/a/b"),
        (HeaderConfig(), Head(), "l5d-name header is absent"),
        (HeaderConfig(header="X-Name"), Head(x_name=b"/$/inet/127.0.0.1/80"), "/svc/$/inet/127.0.0.1/80"),
        (MethodAndHostConfig(), Head(host=b"Web:80", method=b"POST"), "/svc/1.1/POST/web:80"),
        (MethodAndHostConfig(), Head(b"/a/b?c=/d", host=b"web"), "/svc/1.1/GET/web"),
        (MethodAndHostConfig(), Head(version=10), "/svc/1.0/GET"),
        (MethodAndHostConfig(), Head(host=b""), "HTTP/1.1 request missing hostname"),
        (MethodAndHostConfig(http_uri_in_dst=True), Head(b"/a/b?c=/d"), "/svc/1.1/GET/web/a/b"),
        (MethodAndHostConfig(http_uri_in_dst=True), Head(b"/a/b/", version=10), "/svc/1.0/GET/a/b"),
        (MethodAndHostConfig(http_uri_in_dst=True), Head(b"/"), "/svc/1.1/GET/web"),
        (PathConfig(), Head(b"/users/7"), "/svc/users"),
        (PathConfig(), Head(b"/users?q=1"), "/svc/users"),
        (PathConfig(segments=2), Head(b"/a/b/c"), "/svc/a/b"),
        (PathConfig(segments=2), Head(b"/a/"), "not enough segments in path"),
        (PathConfig(segments=2), Head(b"/a?b/c"), "not enough segments in path"),
        (PathConfig(), Head(b"/"), "not enough segments in path"),
        (PathConfig(), Head(b"*"), "not enough segments in path"),
        (StaticConfig(path=Path.read("/a/b")), Head(), "/svc/a/b"),
    ],
)
def test_identifies(config: IdentifierConfig, head: Head, expected: str) -> None:
    """The dst path, or why there is none."""
    assert identified(config, head) == expected


def test_header_that_is_no_path_is_not_identified() -> None:
    """An unparsable path leaves the request to the next identifier, with the place of the mistake."""
    assert identified(HeaderConfig(), Head(l5d_name=b"a/b")).startswith(
        "l5d-name header is not a path: line 1, column 1"
    )


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (HeaderTokenConfig(), Head(host=b"a/b")),
        (HeaderTokenConfig(), Head(host=b"..")),
        (HeaderTokenConfig(), Head(host=b".")),
        (HeaderTokenConfig(), Head(host=b"a b")),
        (HeaderTokenConfig(), Head(host=b"a;/svc=>/$/inet/169.254.169.254/80")),
        (HeaderTokenConfig(), Head(host=b"caf\xc3\xa9")),
        (HeaderTokenConfig(), Head(host=b"a\x00")),
        (HeaderTokenConfig(), Head(host=b"user@web")),
        (HeaderTokenConfig(), Head(host=b"x" * (MAX_NAME_BYTES + 1))),
        (HeaderConfig(), Head(l5d_name=b"/a/../b")),
        (HeaderConfig(), Head(l5d_name=b"/a\\x2fb")),
        (HeaderConfig(), Head(l5d_name=b"/a" * (MAX_SEGMENTS + 1))),
        (HeaderConfig(), Head(l5d_name=b"/" + b"x" * 8000)),
        (MethodAndHostConfig(http_uri_in_dst=True), Head(b"/a//b")),
        (MethodAndHostConfig(http_uri_in_dst=True), Head(b"/a" * MAX_SEGMENTS)),
        (PathConfig(), Head(b"//admin")),
        (PathConfig(), Head(b"/../admin")),
        (PathConfig(segments=2), Head(b"/a/b~c")),
    ],
)
def test_p4_what_cannot_be_a_name_is_refused(config: IdentifierConfig, head: Head) -> None:
    """P4: segments outside Linkerd's characters, dots, empty ones, too many and too long ones are a 400."""
    with pytest.raises(MeshError) as raised:
        config.mk(SVC).identify(head)

    assert (raised.value.reason, raised.value.status, raised.value.side) == (
        Reason.BAD_NAME,
        400,
        Side.CALLER,
    )


@pytest.mark.parametrize("first", [b"$", b"#", b"%"])
def test_p4_reserved_names_are_out_of_reach(first: bytes) -> None:
    """P4: under a prefix $, # and % are ordinary segments, and without a prefix they are refused."""
    value = b"/" + first + b"/inet/127.0.0.1/9990"
    assert identified(HeaderConfig(), Head(l5d_name=value)) == "/svc" + value.decode()

    with pytest.raises(MeshError, match="dstPrefix is empty"):
        HeaderConfig().mk(Path.EMPTY).identify(Head(l5d_name=value))


def test_ipv6_host() -> None:
    """A Host with an IPv6 literal is a name; its brackets show as escapes."""
    found = HeaderTokenConfig().mk(SVC).identify(Head(host=b"[::1]:8080"))

    assert found == SVC + Path.of("[::1]:8080")


@pytest.mark.parametrize(
    ("segments", "target", "forwarded"),
    [
        (1, b"/a/b/c", b"/b/c"),
        (2, b"/a/b/c", b"/c"),
        (1, b"/a/b/", b"/b/"),
        (1, b"/a/", b"/"),
        (1, b"/a", b"/"),
        (1, b"/a?x=/1", b"/?x=/1"),
        (1, b"/a/b?x=1", b"/b?x=1"),
        (1, b"/a//b", b"//b"),
        (2, b"/a/b", b"/"),
        (1, b"/a?", b"/?"),
    ],
)
def test_consume(segments: int, target: bytes, forwarded: bytes) -> None:
    """Consumed segments are gone; the query and a slash at the end stay; nothing left is /."""
    identifier = PathConfig(segments=segments, consume=True).mk(SVC)

    assert identifier.consumes
    assert identifier.consume(Head(target)) == forwarded


@pytest.mark.parametrize(
    "config", [HeaderTokenConfig(), PathConfig(), StaticConfig(path=SVC), MethodAndHostConfig()]
)
def test_most_consume_nothing(config: IdentifierConfig) -> None:
    """Without ``consume`` the target is forwarded as it came."""
    identifier = config.mk(SVC)

    assert not identifier.consumes
    assert identifier.consume(Head(b"/a/b")) is None


@pytest.mark.parametrize(
    ("config", "head", "other"),
    [
        (HeaderTokenConfig(), Head(b"/a", host=b"web"), Head(b"/b", host=b"web", method=b"POST")),
        (HeaderPathConfig(segments=1), Head(b"/a/b"), Head(b"/a?c")),
        (HeaderPathConfig(), Head(b"/a/b"), Head(b"/a/b/?c")),
        (HeaderTokenConfig(header="X-V"), Head(b"/a", x_v=b"1"), Head(b"/b", x_v=b"1")),
        (HeaderConfig(), Head(b"/a", l5d_name=b"/x"), Head(b"/b", l5d_name=b"/x")),
        (MethodAndHostConfig(), Head(b"/a"), Head(b"/b?c")),
        (PathConfig(), Head(b"/a/b"), Head(b"/a?c", host=b"other")),
        (PathConfig(segments=2), Head(b"/a/b/c"), Head(b"/a/b")),
        (StaticConfig(path=SVC), Head(b"/a"), Head(b"/b", host=b"other")),
    ],
)
def test_same_key_same_path(config: IdentifierConfig, head: Head, other: Head) -> None:
    """Heads with one key have one dst path, so the router may remember it."""
    identifier = config.mk(SVC)

    assert identifier.key(head) is not None
    assert identifier.key(head) == identifier.key(other)
    assert identifier.identify(head) == identifier.identify(other)


@pytest.mark.parametrize(
    ("config", "head", "other"),
    [
        (HeaderTokenConfig(header="X-V"), Head(b"/a"), Head(b"/b", x_v=b"")),
        (HeaderConfig(), Head(b"/a"), Head(b"/b")),
        (PathConfig(segments=2), Head(b"/a"), Head(b"/b?c/d")),
    ],
)
def test_refusals_have_keys_too(config: IdentifierConfig, head: Head, other: Head) -> None:
    """What is not identified shares a key only with what is not identified for the same reason."""
    identifier = config.mk(SVC)

    assert identifier.key(head) == identifier.key(other)
    assert isinstance(identifier.identify(head), NotIdentified)
    assert identifier.identify(head) == identifier.identify(other)


def test_what_is_no_path_has_a_key_of_its_own() -> None:
    """A header without a slash in front is not remembered as the path that follows its first slash."""
    identifier = HeaderPathConfig(header="x-path", segments=1).mk(SVC)

    assert identifier.key(Head(x_path=b"a/b")) != identifier.key(Head(x_path=b"/b"))


def test_names_with_a_whole_target_are_not_remembered() -> None:
    """With the target's path in the name there is no key."""
    assert MethodAndHostConfig(http_uri_in_dst=True).mk(SVC).key(Head(b"/a")) is None


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (HeaderTokenConfig(header="a b"), ["header"]),
        (HeaderConfig(header=""), ["header"]),
        (HeaderTokenConfig(header=":authority"), []),
        (PathConfig(segments=0), ["segments"]),
        (PathConfig(segments=MAX_SEGMENTS + 1), ["segments"]),
        (PathConfig(), []),
        (MethodAndHostConfig(), []),
    ],
)
def test_config_ranges(config: IdentifierConfig, keys: list[str]) -> None:
    """Each value out of range is reported by its key."""
    assert [found.split(":")[0] for found in config.check()] == keys


def test_not_identified_is_a_value() -> None:
    """Two refusals for one reason are equal."""
    assert NotIdentified("x") == NotIdentified("x")
