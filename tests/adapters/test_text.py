"""The decoders of text: what they read, and that nothing makes them fail otherwise than in words."""

from __future__ import annotations

import math
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import text
from adapters.frames.text import Decoder

DECODERS: dict[str, Decoder] = {
    "json": text.json_decoder(),
    "json in latin-1": text.json_decoder("latin-1"),
    "key-value": text.key_value_decoder(),
    "csv": text.csv_decoder(["a", "-", "b"]),
    "csv by space": text.csv_decoder(["a", "-", "b"], " "),
    "value": text.value_decoder(),
    "regex": text.regex_decoder(r"^(?P<a>[^,]*),(?P<b>.*)$"),
}

REASONS = {
    None,
    "ValueError: not JSON",
    "ValueError: not a JSON object",
    "ValueError: JSON objects nested more than 8 deep",
    "ValueError: no values in it",
    "ValueError: not utf-8",
    "ValueError: not key=value",
    "ValueError: wrong number of columns",
    "ValueError: not CSV",
    "ValueError: does not match the pattern",
}

# Bytes that come near to something: signs of the formats, numbers, words, and noise.
near = st.lists(
    st.sampled_from(
        [b'{"a":', b"1", b"-2.5e3", b"}", b"[", b"]", b",", b'"', b"=", b":", b" ", b"t", b"nan", b"true", b"\xff"]
    )
).map(b"".join)


@pytest.mark.parametrize("name", DECODERS)
@given(frame=st.one_of(st.binary(max_size=200), near))
def test_nothing_makes_a_decoder_fail_otherwise_than_in_words(name: str, frame: bytes) -> None:
    """Any bytes give values or a ValueError, and its words do not carry the content."""
    try:
        values = DECODERS[name](frame)
    except ValueError as error:
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = None
        assert values
        for key, value in values.items():
            assert type(key) is str
            assert type(value) in (bool, int, float, str)
    assert reason in REASONS


scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
words = st.text(st.sampled_from("abcxyz°µ_-"), min_size=1, max_size=8)
numbers = st.one_of(st.booleans(), st.integers(-(10**17), 10**17), st.floats(allow_nan=False, allow_infinity=False))


def same(left: object, right: object) -> bool:
    return left == right and type(left) is type(right)


@given(st.dictionaries(words, scalars, min_size=1))
def test_json_round_trips(values: dict[str, text.Value]) -> None:
    """What a device writes as JSON is what is read, with its types."""
    read = DECODERS["json"](orjson.dumps(values))
    assert read.keys() == values.keys()
    assert all(same(read[key], values[key]) for key in values)


def spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


@given(
    st.dictionaries(words, numbers, min_size=1), st.sampled_from([" ", ",", "; ", "\t", " , "]), st.sampled_from("=:")
)
def test_key_value_round_trips(values: dict[str, text.Value], separator: str, sign: str) -> None:
    """Whatever separates and whichever sign is used, the numbers are read with their types."""
    read = DECODERS["key-value"](separator.join(f"{key}{sign}{spelled(item)}" for key, item in values.items()).encode())
    assert read.keys() == values.keys()
    assert all(same(read[key], values[key]) for key in values)


@given(st.lists(numbers, min_size=1, max_size=6), st.sampled_from([",", ";", "\t", " ", "|"]), st.booleans())
def test_csv_round_trips(cells: list[text.Value], separator: str, quoted: bool) -> None:
    """Quoted or not, each cell is read as what it spells, in its column."""
    columns = [f"c{index}" for index in range(len(cells))]
    frame = separator.join(f'"{spelled(cell)}"' if quoted else spelled(cell) for cell in cells).encode()
    read = text.csv_decoder(columns, separator)(frame)
    assert list(read) == columns
    assert all(same(read[column], cell) for column, cell in zip(columns, cells, strict=True))


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("21", 21),
        ("-3", -3),
        ("+7", 7),
        ("007", 7),
        ("21.5", 21.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+  12.345", 12.345),
        ("-  3", -3),
        ("9" * 30, float("9" * 30)),
        ("true", True),
        ("FALSE", False),
        ("inf", math.inf),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("0x10", "0x10"),
        ("12:30:05", "12:30:05"),
        ("+", "+"),
        ("+ x", "+ x"),
        ("+ .", "+ ."),
        ("- 1x", "- 1x"),
        ("+-5", "+-5"),
        ("open", "open"),
    ],
)
def test_a_word_is_the_number_that_it_spells_or_itself(spelling: str, value: object) -> None:
    """Numbers as devices write them, and nothing that only Python takes for a number."""
    assert same(text.value(spelling), value)


def test_nan_stays_a_number_so_that_it_is_counted() -> None:
    """A sensor's "nan" is not published as text among numbers."""
    assert math.isnan(text.value("NaN"))  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [10_000, 80_000])
@pytest.mark.parametrize("piece", ["1", "1.", "- ", "{", '"', '{"a":', "a=", ",", "e", "9e9"])
@pytest.mark.parametrize("name", DECODERS)
def test_a_hostile_line_takes_no_more_than_linear_time(name: str, piece: str, length: int) -> None:
    """Eight times the length may not take sixty-four times as long; the bound is far above what linear needs."""
    frame = (piece * length)[:length].encode()
    began = time.process_time()
    for ending in (b"", b"x", b"}", b'"'):
        try:
            DECODERS[name](frame + ending)
        except ValueError:
            continue
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("(", "is not a regular expression"), ("[0-9]+", "has no named group"), ("(?P<a>x){1,99999999999}", "is not a")],
)
def test_a_pattern_that_cannot_work_is_refused_in_words(pattern: str, words: str) -> None:
    """A mistake in a pattern is found when the config is read, not when the first line comes."""
    with pytest.raises(ValueError, match=words):
        text.regex_decoder(pattern)


def test_a_pattern_is_searched_in_the_line_and_anchors_are_its_ends() -> None:
    """A pattern need not describe the whole line; with ^ it does, and half a line is then no reading."""
    free = text.regex_decoder(r"T=(?P<t>[-0-9.]+)")
    assert free(b"node 7: T=21.5 ok") == {"t": 21.5}
    whole = text.regex_decoder(r"^ST,\+ *(?P<weight>[0-9.]+)kg$")
    assert whole(b"ST,+ 12.345kg") == {"weight": 12.345}
    with pytest.raises(ValueError, match="does not match"):
        whole(b"2.345kg")


@pytest.mark.parametrize(
    ("said", "expected"),
    [(b"21.5", 21.5), (b" -7\n", -7), (b"true", True), (b"open", "open"), (b"on fire", "on fire"), (b"nan", math.nan)],
)
def test_one_value(said: bytes, expected: object) -> None:
    """A number, true or false, or else the text."""
    assert repr(text.value_decoder()(said)) == repr({"value": expected})


@pytest.mark.parametrize("said", [b"", b" \n"])
def test_no_value_is_none(said: bytes) -> None:
    """An empty message says nothing."""
    with pytest.raises(ValueError, match="no values"):
        text.value_decoder()(said)
