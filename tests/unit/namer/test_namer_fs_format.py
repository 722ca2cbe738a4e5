"""The format of endpoint files."""

from __future__ import annotations

import pytest

from hostmesh.naming.addr import Endpoint
from namer.fs import is_name
from namer.fs_format import HostLine, Line, parse, parsing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("\n  \n# only comments\n", ()),
        ("127.0.0.1 80", (Endpoint("127.0.0.1", 80, 1.0),)),
        ("127.1 80\r\n", (Endpoint("127.0.0.1", 80, 1.0),)),
        ("\t::1   8080  # v6\n", (Endpoint("::1", 8080, 1.0),)),
        ("[2001:DB8::1] 1", (Endpoint("2001:db8::1", 1, 1.0),)),
        (
            "10.0.0.1 1 * 0.5\n10.0.0.2 2 * 3",
            (Endpoint("10.0.0.1", 1, 0.5), Endpoint("10.0.0.2", 2, 3.0)),
        ),
        ("10.0.0.1 1 * 0", (Endpoint("10.0.0.1", 1, 0.0),)),
        ("Web.Example.COM 65535#x", (HostLine("web.example.com", 65535, 1.0),)),
    ],
)
def test_lines_that_are_taken(text: str, expected: tuple[Line, ...]) -> None:
    """Addresses, short forms, names, weights and comments."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("127.0.0.1", "expected 'host port' or 'host port * weight'"),
        ("127.0.0.1:80", "expected 'host port' or 'host port * weight'"),
        ("127.0.0.1 80 2", "expected 'host port' or 'host port * weight'"),
        ("127.0.0.1 80 *2", "expected 'host port' or 'host port * weight'"),
        ("127.0.0.1 80 * 2 3", "expected 'host port' or 'host port * weight'"),
        ("127.0.0.1 0", "expected a port between 1 and 65535, found '0'"),
        ("127.0.0.1 65536", "expected a port between 1 and 65535, found '65536'"),
        (
            "127.0.0.1 99999999999999999999",
            "expected a port between 1 and 65535, found '99999999999999999999'",
        ),
        ("127.0.0.1 +80", "expected a port between 1 and 65535, found '+80'"),
        ("127.0.0.1 ٨٠", "expected a port between 1 and 65535, found '٨٠'"),
        ("127.0.0.1 http", "expected a port between 1 and 65535, found 'http'"),
        ("127.0.0.1 80 * nan", "expected a weight of at least 0, found 'nan'"),
        ("127.0.0.1 80 * inf", "expected a weight of at least 0, found 'inf'"),
        ("127.0.0.1 80 * -1", "expected a weight of at least 0, found '-1'"),
        ("127.0.0.1 80 * heavy", "expected a weight of at least 0, found 'heavy'"),
        ("http://web 80", "expected an address or a host name, found 'http://web'"),
        ("1::2::3 80", "expected an address or a host name, found '1::2::3'"),
    ],
)
def test_lines_that_are_malformed(line: str, message: str) -> None:
    """The message has the number of the line, what was found and what was expected."""
    with pytest.raises(ValueError, match="malformed address") as raised:
        parse(f"10.0.0.1 1\n{line}\n")

    assert f"malformed address: line 2: {message}" == str(raised.value)


def test_a_large_file_is_parsed_in_steps() -> None:
    """The pauses are where the data path gets its turn."""
    steps = parsing("127.0.0.1 1\n" * 25, step=10)

    assert sum(1 for _pause in steps) == 2


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("web", True),
        (".hidden", True),
        ("a..b", True),
        (".", False),
        ("..", False),
        ("..data", False),
        ("a/b", False),
        ("/etc", False),
        ("a\0b", False),
    ],
)
def test_segments_that_may_be_files(segment: str, expected: bool) -> None:
    """No name leads out of the directory or into the inside of a ConfigMap volume."""
    assert expected == is_name(segment)
