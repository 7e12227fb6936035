"""YAML text to plain data: what scalars mean, where things stand, what is refused, how much is taken in."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from smm import _yaml
from smm._keys import dotted, undotted
from smm.errors import SmmWarning
from tests import yaml_text


def data(text: str | bytes) -> Any:
    document = _yaml.read(text, "m.yaml")
    assert document.problems == []
    assert document.whole
    return document.data


def problems(text: str | bytes) -> list[str]:
    return [str(problem) for problem in _yaml.read(text, "m.yaml").problems]


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both of PyYAML's parsers; the one in Python serves where libyaml is missing."""
    if request.param == "libyaml" and not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    monkeypatch.setattr(yaml, "__with_libyaml__", request.param == "libyaml")
    return str(request.param)


@pytest.fixture(autouse=True, scope="module")
def _told() -> Iterator[None]:
    """That libyaml is missing was said before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_yaml, "_told", True)
        yield


def test_that_libyaml_is_missing_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_yaml, "_told", False)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    with pytest.warns(SmmWarning, match="built without libyaml") as said:
        assert [data("[1]"), data("[2]")] == [[1], [2]]
    assert len(said) == 1


# --- scalars ---------------------------------------------------------------------------------------------

SCALARS: list[tuple[str, Any]] = [
    ("", None), ("~", None), ("null", None), ("NULL", None), ("nuLL", "nuLL"),
    ("true", True), ("False", False), ("TRUE", True), ("yes", "yes"), ("no", "no"), ("on", "on"), ("y", "y"),
    ("0", 0), ("010", 10), ("-7", -7), ("+7", 7), ("0x1F", 31), ("0o17", 15),
    ("-0x1", "-0x1"), ("0b1", "0b1"), ("1_000", "1_000"), ("12:30", "12:30"), ("1,5", "1,5"),
    ("1.5", 1.5), ("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-1.e2", -100.0), ("1e", "1e"),
    (".", "."), ("..", ".."), ("+", "+"), ("-.", "-."), ("e3", "e3"), ("1e400x", "1e400x"),
    (".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf), ("inf", "inf"), ("nan", "nan"),
    ("2024-01-31", "2024-01-31"), ("=", "="), ("<<", "<<"), ("'1'", "1"), ('"true"', "true"),
    ('"\\x41"', "A"), ("1٣", "1٣"), ("a b", "a b"), ("|\n  x\n  y\n", "x\ny\n"), (">\n  x\n  y\n", "x y\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars(parser: str, text: str, value: Any) -> None:
    (read,) = data(f"- {text}")
    assert (type(read), read) == (type(value), value)


def test_nan() -> None:
    assert math.isnan(data(".nan"))
    assert math.copysign(1, data("-0.0")) == -1


def test_the_longest_integer() -> None:
    assert data("9" * 4300) == 10**4300 - 1
    assert problems("9" * 4301) == [
        "m.yaml:1:1: found an integer of 4,301 digits, wanted at most 4,300; quote it as text"
    ]
    assert problems("0x" + "f" * 4000)[0].startswith("m.yaml:1:1: found an integer of 4,002 digits")


# --- round trips and places ------------------------------------------------------------------------------


def same(left: Any, right: Any) -> bool:
    return repr(left) == repr(right)  # tells 1 from 1.0 and True, 0.0 from -0.0, and the order of keys


@given(yaml_text.plain)
def test_what_is_written_is_read(value: Any) -> None:
    assert same(data(yaml_text.flow(value)), value)
    assert same(data(yaml_text.block(value)), value)


@given(value=yaml_text.plain)
def test_both_parsers_read_the_same(value: Any) -> None:
    text = yaml_text.block(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "__with_libyaml__", False)
        in_python = _yaml.read(text, "m.yaml")
    assert same(in_python.data, value)
    assert all(
        _yaml.find(in_python.place, keys) == _yaml.find(_yaml.read(text, "m.yaml").place, keys)
        for keys, _ in leaves(value)
    )


def leaves(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if items is None:
        yield keys, value
    else:
        for key, item in items:
            yield from leaves(item, (*keys, key))


@given(value=yaml_text.plain, style=st.sampled_from([yaml_text.flow, yaml_text.block]))
def test_every_place_is_where_its_text_begins(value: Any, style: Any) -> None:
    text = style(value)
    lines = text.split("\n")
    place = _yaml.read(text, "m.yaml").place
    for keys, leaf in leaves(value):
        line, column = _yaml.line_and_column(_yaml.find(place, keys))
        assert lines[line - 1][column - 1 :].startswith(yaml_text.scalar(leaf))
        if keys and isinstance(keys[-1], str):
            line, column = _yaml.line_and_column(_yaml.find(place, keys, at_key=True))
            assert lines[line - 1][column - 1 :].startswith(yaml_text.quoted(keys[-1]))


def test_columns_count_characters(parser: str) -> None:
    document = _yaml.read("{ключ: 1, 😀: x}".encode(), "m.yaml")
    assert _yaml.line_and_column(_yaml.find(document.place, ("😀",))) == (1, 14)
    assert _yaml.line_and_column(_yaml.find(document.place, ("😀", "nothing", 3))) == (1, 14)


def test_places_of_what_is_not_there_are_those_above() -> None:
    place = _yaml.read("a:\n  - [1]\n", "m.yaml").place
    for keys in [("a", 0, 7), ("a", 0, "x"), ("a", 0, 0, 0)]:
        assert _yaml.line_and_column(_yaml.find(place, keys))[0] == 2
    assert _yaml.line_and_column(_yaml.NO_MARK) == (0, 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    assert data("é: 😀".encode(encoding)) == {"é": "😀"}


def test_aliases_share_and_place_at_what_they_mean() -> None:
    document = _yaml.read("a: &x [1]\nb: *x\nc: {d: *x}", "m.yaml")
    assert document.data == {"a": [1], "b": [1], "c": {"d": [1]}}
    assert _yaml.line_and_column(_yaml.find(document.place, ("c", "d", 0))) == (1, 8)
    assert data("{a: &x k, *x : 2}") == {"a": "k", "k": 2}
    assert data("[&x 1, *x, &x 2, *x]") == [1, 1, 2, 2]


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "wanted"), yaml_text.table("bad_yaml.txt"))
def test_refusals(text: str, wanted: list[str]) -> None:
    assert problems(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), yaml_text.table("bad_yaml.txt"))
def test_refusals_without_libyaml(text: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    # Of a bad escape the parser in Python points at the letter, libyaml at the backslash.
    without_columns = [re.sub(r"^(\S+?):\d+: ", r"\1: ", problem) for problem in (*problems(text), *wanted)]
    assert without_columns[: len(wanted)] == without_columns[len(wanted) :]


def test_tabs_and_control_characters(parser: str) -> None:
    assert problems("a:\n\tb: 1") == [
        "m.yaml:2:1: a: found a tab, with which no value begins; YAML is indented with spaces"
    ]
    (problem,) = problems("a: \x01")
    assert problem.endswith(": found the control character U+0001; in double quotes write it as an escape")


def test_bytes_that_are_no_text() -> None:
    wanted = "wanted text in UTF-8; save the file in that encoding"
    assert problems(b"a: 1\nb: \xff\n") == [f"m.yaml:2:4: found the byte 0xff, {wanted}"]
    assert problems(b"\xef\xbb\xbfb: \xff") == [f"m.yaml:1:4: found the byte 0xff, {wanted}"]
    assert problems("a\nb".encode("utf-16")[:-1]) == [f"m.yaml:2:1: found the byte 0x62, {wanted}"]
    assert problems("a: \udcff") == [f"m.yaml:1:4: found the byte 0xed, {wanted}"]


def test_what_no_sentence_of_ours_fits_is_said_in_the_parsers_words() -> None:
    assert problems("%YAML 3.0\n--- 1") == ["m.yaml:1:1: this is no YAML: found incompatible YAML document"]


def test_after_a_refusal_the_rest_is_read() -> None:
    document = _yaml.read("a: !t 1\nb: {c: 1, c: 2, d: 3}\ne: *f", "m.yaml")
    assert document.whole
    assert document.data == {"a": "1", "b": {"c": 1, "d": 3}}


# --- limits ----------------------------------------------------------------------------------------------

DEEP = ["[", "{a: ", "- ", "? ", "[{a: ", "[[[[{? "]


@pytest.mark.parametrize("opening", DEEP)
def test_deep_nesting(parser: str, opening: str) -> None:
    (problem,) = _yaml.read(opening * 300_000, "m.yaml").problems
    assert problem.message == "nested more than 1,000 levels deep; write it flatter"


def test_the_deepest_nesting() -> None:
    assert data("[" * 1000 + "]" * 1000)
    assert "1,000 levels" in problems("[" * 1001 + "]" * 1001)[0]


def test_nesting_through_aliases() -> None:
    half = "[" * 500 + "1" + "]" * 500
    assert data(f"[&a {half}, {'[' * 499}*a{']' * 499}]")
    assert "1,000 levels" in problems(f"[&a {half}, {'[' * 500}*a{']' * 500}]")[0]
    towers = "\n".join(f"- &a{i} [*a{i - 1}]" for i in range(1, 1100))
    assert "1,000 levels" in problems(f"- &a0 1\n{towers}")[0]


def test_billion_laughs() -> None:
    laughs = "- &a0 [ha, ha]\n" + "\n".join(
        f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 40)
    )
    (problem,) = problems(laughs)
    assert problem.endswith("more than 10,000,000 values, aliases counted; make long params lists in code")


def test_too_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_yaml, "MAX_VALUES", 10)
    assert data("[1, 2, 3, 4, 5, 6, 7, 8, 9]")
    assert "more than 10 values" in problems("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]")[0]


def test_too_large() -> None:
    assert problems(b" " * (64 * 2**20 + 1)) == [
        "m.yaml:1:1: larger than 64 MiB; make long params lists in code, with rows_from"
    ]


def test_too_many_problems() -> None:
    found = problems("- *x\n" * 5_000)
    assert len(found) == 1_001
    assert found[-1] == "m.yaml:1000:3: [999]: 1,000 problems up to here; the rest was not read"


@pytest.mark.parametrize(
    "text",
    [
        "%TAG !a! b\n" * 200_000,
        "&a [" + "*a " * 200_000,
        "[" + "1, " * 100_000,
        "a: " * 300_000,
        "'" * 1_000_000,
        "!" * 300_000,
        "- *" + "a" * 300_000,
        "9" * 1_000_000,
        "." * 1_000_000,
        "1" + "." * 1_000_000,
        "{" + ", ".join(f"k{i % 7}" for i in range(50_000)) + "}",
        "\n" * 1_000_000 + "\t@",
        "? " + "- " * 900 + "a: [",
    ],
    ids=lambda text: text[:8].strip(),
)
def test_time_grows_with_the_text(text: str) -> None:
    started = time.process_time()
    _yaml.read(text, "m.yaml")
    assert time.process_time() - started < 5  # linear is a tenth of this; what is quadratic takes minutes


# --- whatever bytes --------------------------------------------------------------------------------------

fragments = st.lists(
    st.sampled_from([*"[]{}:,-?&*!|>'\"%@`#~ \n\t\\a1.", ": ", "- ", "---\n", "...\n", "<<: ", "&a ", "*a "]),
    max_size=30,
).map("".join)


@given(raw=st.binary() | st.text().map(str.encode) | fragments.map(str.encode), libyaml=st.booleans())
def test_any_bytes_are_data_or_problems(raw: bytes, libyaml: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml, "__with_libyaml__", libyaml and yaml.__with_libyaml__)
        document = _yaml.read(raw, "m.yaml")
    assert document.whole or document.problems
    for problem in document.problems:
        assert problem.line >= 1
        assert problem.column >= 1


# Any text but lone surrogates, which a command line makes of undecodable bytes.
@given(st.text())
def test_any_text(text: str) -> None:
    document = _yaml.read(text, "m.yaml")
    assert document.whole or document.problems


# --- keys as text ----------------------------------------------------------------------------------------


def test_dotted() -> None:
    assert dotted(("metrics", "poly_Y", "params_list", 1)) == "metrics.poly_Y.params_list[1]"
    assert dotted(("metrics", "a.b", "é", "c d", "")) == "metrics.'a.b'.é.'c d'.''"
    assert dotted((None, True, 1.5, 0)) == "[null][true][1.5][0]"
    assert len(dotted(("x" * 1_000_000,))) < 100


keys = st.lists(yaml_text.words | st.text(st.sampled_from("ab. -é"), min_size=1), min_size=1, max_size=5)


@given(keys)
def test_undotted_inverts_dotted(keys: list[str]) -> None:
    assert undotted(dotted(tuple(keys))) == tuple(keys)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a[0]", "a.'b", "'a'b", "a b", "a.''"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="wanted names joined by dots"):
        undotted(text)
