"""Topics: what a filter matches, which two overlap, and how metrics are named."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.frames.topics import check_filter, check_template, matches, naming, overlap, usual
from gateway.mqtt import topics as engine

LEVELS = st.sampled_from(["a", "b", "", "$x", "é.*"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(st.lists(st.sampled_from(["a", "b", "", "+"]), min_size=0, max_size=4), st.booleans())
    .map(lambda parts: "/".join([*parts[0], *(["#"] if parts[1] else [])]))
    .filter(bool)
)


@given(FILTERS, TOPICS)
def test_a_filter_matches_what_the_engine_says(one: str, topic: str) -> None:
    """The adapter and the engine know one rule: MQTT 5.0, section 4.7."""
    assert matches(one, topic) == engine.matches(one, topic)


@given(FILTERS, FILTERS, TOPICS)
def test_what_matches_two_filters_shows_that_they_overlap(one: str, other: str, topic: str) -> None:
    """No message can come twice where `overlap` says no."""
    assert overlap(one, other) == overlap(other, one)
    if engine.matches(one, topic) and engine.matches(other, topic):
        assert overlap(one, other)


@given(FILTERS, FILTERS)
def test_filters_that_overlap_have_a_topic_in_common(one: str, other: str) -> None:
    """`overlap` refuses no more than it has to."""
    assume(overlap(one, other))
    mine, theirs = one.split("/"), other.split("/")
    longer, shorter = (mine, theirs) if len(mine) >= len(theirs) else (theirs, mine)
    common = [
        next(
            (level for level in (first, shorter[at] if at < len(shorter) else "#") if level not in "+#" or not level),
            "x",
        )
        for at, first in enumerate(longer)
    ]
    if longer[-1] == "#" and len(shorter) < len(longer) and shorter[-1] != "#":
        common.pop()  # "a/#" is for "a" as well
    topic = "/".join(common)
    assume(topic and not topic.startswith("$"))
    assert matches(one, topic)
    assert matches(other, topic)


@given(st.text(max_size=20))
def test_every_text_is_a_filter_or_is_refused(text: str) -> None:
    """What the engine could not subscribe to is found when the config is read."""
    try:
        check_filter(text)
    except ValueError:
        with pytest.raises(ValueError, match="topic filter"):
            engine.check_filter(text)
    else:
        if not text.startswith(engine.SHARED):
            engine.check_filter(text)


@pytest.mark.parametrize(
    ("one", "template", "topic", "values", "expected"),
    [
        ("zigbee2mqtt/+", None, "zigbee2mqtt/kitchen", {"t": 1, "h": 2}, {"kitchen.t": 1, "kitchen.h": 2}),
        ("+/x/+", None, "a/x/b", {"t": 1}, {"a.b.t": 1}),
        ("sensors/+/+", "{1}_{2}", "sensors/a/b", {"value": 1}, {"a_b": 1}),
        ("sensors/+/+", "{2}", "sensors/a/b", {"t": 1}, {"b.t": 1}),
        ("cellar/#", None, "cellar/a/b", {"value": 1}, {"a.b": 1}),
        ("cellar/#", "x{1}", "cellar", {"value": 1}, {"x": 1}),
        ("#", None, "a/b", {"value": 1}, {"a.b": 1}),
        ("a/b", None, "a/b", {"value": 1}, {"b": 1}),
        ("a/b", None, "a/b", {"t": 1}, {"t": 1}),
        ("a/+", "", "a/b", {"t": 1}, {"t": 1}),
        ("a.c/+", None, "a.c/(x)", {"t": 1}, {"(x).t": 1}),
    ],
)
def test_names(one: str, template: str | None, topic: str, values: dict[str, int], expected: dict[str, int]) -> None:
    """The template, or what the wildcards stand for; then the key, where there is one."""
    named = naming({one: usual(one) if template is None else template}, "value")
    assert named(topic, dict(values)) == expected
    assert named(topic, dict(values)) == expected  # and the same the second time


def test_a_topic_of_no_filter_has_no_name() -> None:
    """A broker that sends what nobody has asked for changes nothing."""
    with pytest.raises(ValueError, match="nobody has asked for"):
        naming({"a/+": ""})("b", {"t": 1})


def test_ever_new_topics_take_no_memory() -> None:
    """A broker with millions of topics does not fill it; all of them are named."""
    named = naming({"a/+": "{1}"}, "value")
    assert all(named(f"a/{n}", {"value": n}) == {str(n): n} for n in range(10_000))
    cells = [cell.cell_contents for cell in named.__closure__ or () if isinstance(cell.cell_contents, dict)]
    assert max(len(cell) for cell in cells) <= 4096


@pytest.mark.parametrize("template", ["{2}", "{0}", "{x}", "{}", "{1", "1}", "{1}}", "{²}"])
def test_a_template_names_wildcards_that_there_are(template: str) -> None:
    """A mistake is found when the config is read."""
    with pytest.raises(ValueError, match=r"names|brace"):
        check_template("a/+", template)
    check_template("a/+", "{1}_{1}")
