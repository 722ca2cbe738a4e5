"""Reading YAML and JSON into a tree with lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.config.report import Report
from hostmesh.config.source import MAX_BYTES, MAX_DEPTH, plain_value, read_source
from hostmesh.config.tree import Items, Node, Scalar, Table, line_at, plain


def read(text: str | bytes) -> tuple[Node | None, list[str]]:
    report = Report("f")
    node = read_source(text.encode() if isinstance(text, str) else text, report)
    return node, report.mistake_lines()


def scalar(text: str) -> object:
    node, mistakes = read(f"key: {text}\n")
    assert mistakes == []
    assert isinstance(node, Table)
    return plain(node)["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
        ("0o17", 15),
        ("0x1f", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("0.02", 0.02),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0777", "0777"),
        ("007.5", "007.5"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1:30:00", "1:30:00"),
        ("on", "on"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("n", "n"),
        ("2001-01-01", "2001-01-01"),
        ("0b11", "0b11"),
        ("127.0.0.1", "127.0.0.1"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("<<", "<<"),
        ("9" * 30, "9" * 30),
        ("1e999", "1e999"),
        ('"5"', "5"),
        ("'true'", "true"),
        ("!!str 5", "5"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    """Plain scalars mean what YAML 1.2 says, and ambiguous numbers stay text."""
    actual = scalar(text)

    assert (expected, type(expected)) == (actual, type(actual))


def test_every_value_knows_its_line() -> None:
    """Keys, values and items of lists carry the line they stand on."""
    node, _mistakes = read("# a comment\na:\n  b: 1\n  c:\n  - x\n\n  - y: z\n")

    assert [
        line_at(node, path)
        for path in [("a",), ("a", "b"), ("a", "c"), ("a", "c", 0), ("a", "c", 1), ("a", "c", 1, "y")]
    ] == [2, 3, 4, 5, 7, 7]


def test_line_of_something_absent_is_that_of_what_surrounds_it() -> None:
    """A path that ends in nothing gets the line of its last existing part."""
    node, _mistakes = read("a:\n  b: 1\n")

    assert (line_at(node, ("a", "b", "c")), line_at(node, ("a", "x"))) == (2, 1)


def test_block_scalar_starts_below_its_indicator() -> None:
    """The text of a literal block begins one line after the key."""
    node, _mistakes = read("a: 1\ndtab: |\n  /x => /y ;\n")

    assert isinstance(node, Table)
    dtab = node.get("dtab")
    assert isinstance(dtab, Scalar)
    assert (dtab.line, dtab.text_line, dtab.text) == (2, 3, "/x => /y ;\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", ["f:2: not YAML: did not find expected node content (while parsing a flow node)"]),
        ("a: 1\n---\nb: 2\n", ["f:2: found a second document, expected one"]),
        ("a: *x\n", ["f:1: a: found the alias *x, expected an anchor finished before it"]),
        ("a: &x [*x]\n", ["f:1: a[0]: found the alias *x, expected an anchor finished before it"]),
        ("[a]: 1\n", ["f:1: found a list or mapping as a key, expected a name"]),
        ("a: !!python/x y\n", ["f:1: a: found the tag 'tag:yaml.org,2002:python/x', expected a plain value"]),
        ("a: !env X\n", ["f:1: a: found the tag '!env', expected a plain value"]),
        (b"a: 1\nb: \xff\n", ["f:2: found byte 0xff, expected UTF-8"]),
        ("a: 1\na: 2\n", ["f:2: a: found the key 'a' a second time (first on line 1), expected it once"]),
        (b"x" * (MAX_BYTES + 1), [f"f: found {MAX_BYTES + 1} bytes, expected at most {MAX_BYTES}"]),
        ("a: \x01\n", ["f:1: not YAML: control characters are not allowed"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_its_line(text: str | bytes, expected: list[str]) -> None:
    """Broken documents, loops, tags and duplicates are mistakes with a line."""
    _node, actual = read(text)

    assert expected == actual


def test_first_of_two_duplicates_is_kept() -> None:
    """Reading goes on after a duplicate, with the first value."""
    node, mistakes = read("a: 1\na: 2\nb: 3\nb: 4\n")

    assert node is not None
    assert (plain(node), len(mistakes)) == ({"a": 1, "b": 3}, 2)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000], ids=["lists", "maps", "blocks"]
)
def test_deep_nesting_is_refused(text: str) -> None:
    """X12: a hundred thousand brackets are one mistake, not a crash of the process."""
    node, mistakes = read(text)

    assert (node, len(mistakes)) == (None, 1)


def test_depth_limit_allows_what_it_says() -> None:
    """Exactly MAX_DEPTH levels are read, one more is not."""
    fine, no_mistakes = read("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    refused, mistakes = read("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))

    assert (isinstance(fine, Items), no_mistakes, refused) == (True, [], None)
    assert [
        f"f:1: {'[0]' * MAX_DEPTH}: found more than {MAX_DEPTH} levels of nesting, expected fewer"
    ] == mistakes


def test_alias_bomb_is_refused() -> None:
    """X12: aliases that expand to ten to the ninth values are counted, not expanded."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )

    node, mistakes = read(bomb)

    assert node is None
    assert mistakes == ["f:4: a4[9]: found more than 100000 values (aliases expanded), expected fewer"]


def test_aliases_are_values() -> None:
    """A modest anchor and its aliases are read as if written out."""
    node, mistakes = read("a: &x {p: 1}\nb: *x\n")

    assert node is not None
    assert (plain(node), mistakes) == ({"a": {"p": 1}, "b": {"p": 1}}, [])


def test_document_that_starts_with_a_brace_is_json() -> None:
    """JSON is chosen by the first non-blank character, as Linkerd does; tabs and all escapes are fine."""
    node, mistakes = read('\n\t{"a":\t[1, -2.5, true, null, "\\u00e9\\n"],\n\t"b": {}}\n')

    assert node is not None
    assert (plain(node), mistakes) == ({"a": [1, -2.5, True, None, "é\n"], "b": {}}, [])
    assert (line_at(node, ("a",)), line_at(node, ("b",))) == (2, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a: 1}", "f:1: not JSON: found 'a: 1}', expected a string"),
        ('{"a": 1,}', "f:1: not JSON: found '}', expected a string"),
        ('{"a"\n 1}', "f:2: not JSON: found '1}', expected ':'"),
        ('{"a": 01}', "f:1: not JSON: found '01}', expected a value"),
        ('{"a": [1 2]}', "f:1: not JSON: found '2]}', expected ',' or ']'"),
        ('{"a": 1', "f:1: not JSON: found the end, expected ',' or '}'"),
        ('{"a": nul}', "f:1: not JSON: found 'nul}', expected a value"),
        ('{"a": "\\x"}', "f:1: not JSON: found '\"\\\\x\"}', expected a string with valid escapes"),
        ("{} {}", "f:1: not JSON: found '{}', expected the end of the document"),
        ('{"a": 1,\n"a": 2}', "f:2: a: found the key 'a' a second time (first on line 1), expected it once"),
        ('{"a": ' * 100_000, "f:1: found more than 64 levels or 100000 values"),
    ],
)
def test_broken_json_is_said_with_its_line(text: str, expected: str) -> None:
    """JSON is read strictly, with the line of the first thing wrong."""
    _node, actual = read(text)

    assert [expected] == actual


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_json_object_is_read_as_json_reads_it(value: dict[str, object]) -> None:
    """What json.dumps writes is read back equal, indented or not."""
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        node, mistakes = read(text.encode("utf-8", "surrogatepass"))
        if node is None:
            # Lone surrogates have no UTF-8: refused before parsing.
            assert "expected UTF-8" in mistakes[0]
        else:
            assert (value, []) == (plain(node), mistakes)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever the bytes are, there is a tree or a mistake and never an exception."""
    node, mistakes = read(data)

    assert node is not None or mistakes


@given(st.text(alphabet="0123456789.eE+-_:xob", min_size=1, max_size=8))
def test_plain_numbers_mean_what_python_means(text: str) -> None:
    """Whatever is taken for a decimal number is the number that Python reads."""
    value = plain_value(text)

    if isinstance(value, float):
        assert float(text) == value
    elif isinstance(value, int):
        assert int(text, 0) == value
