"""From bytes to documents: what is refused, where, and in what time."""

# ruff: noqa: E501 - rows of tables stay on one line

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyd.sources.yaml_documents import MOST_BYTES, Parsed, parse
from policyd.sources.yaml_values import MOST_ALIASED, MOST_DEPTH

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MAPPING_BOMB = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 30)
)

REFUSED = [
    pytest.param(b"a: 1\n\tb: 2\n", 2, 1, "a tab where YAML wants spaces", id="tab"),
    pytest.param(b"a:\n  b:\n\t  c: 2\n", 3, 1, "a tab where YAML wants spaces", id="tab-before-blanks"),
    pytest.param(b"a: \xff\n", 1, 4, "byte 0xff is no UTF-8", id="invalid-UTF-8"),
    pytest.param("a: é\nb: ".encode() + b"\xc3(", 2, 4, "no UTF-8", id="invalid-UTF-8-later"),
    pytest.param("a: b".encode("utf-16"), 1, 1, "no UTF-8", id="UTF-16"),
    pytest.param(b"a: b\x00c\n", 1, 5, "NUL", id="NUL"),
    pytest.param(b"a: b\nc: \x01\n", 2, 4, "U+0001", id="control-character"),
    pytest.param(b"a: 1\nb: 2\na: 3\n", 3, 1, "key 'a' a second time: first in line 1", id="duplicate-key"),
    pytest.param(b"a: {b: 1, b: 1}\n", 1, 11, "key 'b' a second time", id="duplicate-key-in-flow"),
    pytest.param(b"'a': 1\na: 2\n", 2, 1, "key 'a' a second time", id="duplicate-key-quoted"),
    pytest.param(BOMB.encode(), 4, None, f"aliases stand for more than {MOST_ALIASED}", id="alias-bomb"),
    pytest.param(
        MAPPING_BOMB.encode(), None, None, "aliases stand for more than", id="alias-bomb-of-mappings"
    ),
    pytest.param(b"a: &a [*a]\n", 1, 8, "not complete", id="alias-of-itself"),
    pytest.param(b"a: *b\n", 1, 4, "not there", id="alias-of-nothing"),
    pytest.param(b"a: &x 1\n---\nb: *x\n", 3, 4, "not there", id="alias-of-another-document"),
    pytest.param(b"[" * 100_000, 1, MOST_DEPTH + 1, "nested more than", id="deep-flow"),
    pytest.param(b"- " * 100_000, 1, None, "nested more than", id="deep-block"),
    pytest.param(b'{"a":' * 100_000, 1, None, "nested more than", id="deep-json"),
    pytest.param(b"a: !!python/object/apply:os.system [ls]\n", 1, 4, "tag", id="python-tag"),
    pytest.param(b"a: !!binary aGk=\n", 1, 4, "tag", id="binary"),
    pytest.param(b"a: !mine b\n", 1, 4, "tag", id="own-tag"),
    pytest.param(b"a: !!int x\n", 1, 4, "tag", id="tag-that-is-not-so"),
    pytest.param(b"? [a]\n: b\n", 1, 3, "as a key", id="list-as-key"),
    pytest.param(b"a: &x b\n*x : c\n", 2, 1, "as a key", id="alias-as-key"),
    pytest.param(b"a: 'b\n", 2, 1, "not YAML", id="open-quote"),
    pytest.param(b"a: b: c\n", 1, 5, "not YAML", id="two-colons"),
    pytest.param(b"a: @b\n", 1, 4, "not YAML", id="reserved-character"),
    pytest.param(b"a: {{ .Values.x }}\n", None, None, "", id="a-template"),
    pytest.param(b"a: 1\n<<: 3\n", 2, 1, "no mapping", id="merge-of-a-number"),
]


@pytest.mark.parametrize(("content", "line", "column", "message"), REFUSED)
def test_refused(content: bytes, line: int | None, column: int | None, message: str) -> None:
    before = time.monotonic()
    parsed = parse(content, "a/b.yaml")
    assert time.monotonic() - before < 5
    assert parsed.documents == ()
    problem = parsed.problems[0]
    assert message in problem.message
    assert "\n" not in problem.text
    assert problem.origin.file == "a/b.yaml"
    assert line is None or problem.origin.line == line
    assert column is None or problem.origin.column == column


def test_50_mib() -> None:
    parsed = parse(b"a: b\n" * (10 * 1024 * 1024), "big.yaml")
    assert [problem.text for problem in parsed.problems] == [
        "big.yaml: error[invalid-yaml] 50.0 MiB: expected at most 10 MiB; split the file"
    ]


def test_a_file_just_small_enough() -> None:
    line = b"# comment\n"
    assert not parse(line * (MOST_BYTES // len(line)), "a.yaml").problems


def test_several_problems_at_once() -> None:
    parsed = parse(b"a: 1\na: 2\nb: !x 1\nc: {d: 1, d: 2}\n", "a.yaml")
    assert [problem.origin.line for problem in parsed.problems] == [2, 3, 4]


def test_problems_are_not_endless() -> None:
    assert len(parse(b"a: 1\n" * 10_000, "a.yaml").problems) == 20


def values(text: str) -> dict[str, object]:
    (document,) = manifests(text).documents
    found = document.content["spec"]
    assert isinstance(found, dict)
    return found


def manifests(spec: str) -> Parsed:
    indented = "\n".join("  " + line for line in spec.splitlines())
    return parse(f"apiVersion: v1\nkind: X\nspec:\n{indented}\n".encode(), "a.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b11", 3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("No", False),
        ("on", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("'~'", "~"),
        ("!!str 1", "1"),
        ("!!int 1", 1),
        ("!!float 1", 1.0),
        ("! 1", "1"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("99999999999999999999999", 1e23),
        ("y", "y"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("a\U0001f600", "a\U0001f600"),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    found = values(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_text_as_written() -> None:
    assert list(values("1: a\non: b\n~: c\n''  : d")) == ["1", "on", "~", ""]


def test_merge_keys() -> None:
    found = values(
        "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\na: {<<: *b, x: 9}\nc: {<<: [*m, *b]}\nd: {x: 8, <<: *b}"
    )
    assert found["a"] == {"x": 9, "y": 2}
    assert found["c"] == {"x": 1, "y": 3, "z": 4}
    assert found["d"] == {"x": 8, "y": 2}


def test_positions() -> None:
    text = "apiVersion: v1\nkind: X\nspec:\n  list:\n  - name: a\n    b: c\n  - {name: x, deep: [1, {k: v}]}\n  anchor: &z\n    q: 1\n  alias: *z\n"
    (document,) = parse(text.encode(), "a.yaml").documents
    places = {
        "spec": (3, 1),
        "spec.list": (4, 3),
        "spec.list[0]": (5, 5),
        "spec.list[0].b": (6, 5),
        "spec.list[1]": (7, 5),
        "spec.list[1].deep": (7, 15),
        "spec.list[1].deep[1].k": (7, 26),
        "spec.alias": (10, 3),
        "spec.alias.q": (9, 5),
        "spec.nothing.at.all": (3, 1),
        "spec.list[7]": (4, 3),
    }
    assert {path: document.positions.find(path) for path in places} == places


def test_documents_and_lists() -> None:
    text = """# nothing
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: A}
- apiVersion: v1
  kind: B
---
---
apiVersion: apps/v1
kind: DeploymentList
items:
- metadata: {name: c}
---
{"apiVersion": "v1", "kind": "D"}
"""
    parsed = parse(text.encode(), "a.yaml")
    assert [document.content["kind"] for document in parsed.documents] == ["A", "B", "Deployment", "D"]
    assert [document.origin().line for document in parsed.documents] == [6, 7, 14, 16]
    assert parsed.documents[1].origin("kind").text == "a.yaml:8:3"


def test_json_with_tabs() -> None:
    parsed = parse(b'{\n\t"apiVersion": "v1",\n\t"kind": "A",\n\t"u": "\\u00e9"\n}', "a.json")
    assert [document.content["u"] for document in parsed.documents] == ["é"]


def test_what_is_no_manifest_is_told_and_hides_nothing() -> None:
    parsed = parse(b"- a\n---\na: b\n---\ntext\n---\napiVersion: v1\nkind: A\n", "a.yaml")
    assert [(finding.code, finding.origin.line) for finding in parsed.findings] == [
        ("not-a-manifest", 1),
        ("not-a-manifest", 3),
        ("not-a-manifest", 5),
    ]
    assert len(parsed.documents) == 1


def test_a_byte_order_mark_and_crlf() -> None:
    parsed = parse(b"\xef\xbb\xbfapiVersion: v1\r\nkind: A\r\n", "a.yaml")
    assert parsed.documents[0].content == {"apiVersion": "v1", "kind": "A"}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text("a:-[]{}&*!|>'\"%@`#,? \n\t~<0", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    parsed = parse(content, "a.yaml")
    assert not (parsed.documents and parsed.problems)
    for problem in parsed.problems:
        assert "\n" not in problem.text
