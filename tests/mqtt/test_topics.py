"""Topic names and filters: what is allowed, and what matches what (MQTT 5.0 section 4.7)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import check_filter, check_topic, matches


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/x", " ", "ü/°C", "a" * 65_535])
def test_a_topic_that_is_allowed(topic: str) -> None:
    """Whatever is not empty, no wildcard and not too long can be published to, and subscribed to as well."""
    check_topic(topic)
    check_filter(topic)


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("", "cannot be empty"),
        ("a/+", r"wildcard \+"),
        ("a#", "wildcard #"),
        ("a\0", "NUL"),
        ("\ud800", "UTF-8"),
        ("ä" * 32_768, "at most 65535 bytes, not 65536"),
    ],
)
def test_a_topic_that_is_not_allowed(topic: str, words: str) -> None:
    """What is wrong with a topic is said in words."""
    with pytest.raises(ValueError, match=words):
        check_topic(topic)


@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "+/+", "/+", "a/#", "+/a/#", "$share/g/a/#", "$share/g//", "$shared/x"]
)
def test_a_filter_that_is_allowed(topic_filter: str) -> None:
    """Wildcards stand for whole levels; a shared subscription names a group and a filter."""
    check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "words"),
    [
        ("", "cannot be empty"),
        ("a+", "whole level"),
        ("a/b+/c", "whole level"),
        ("#/a", "last level"),
        ("a#", "last level"),
        ("a/##", "last level"),
        ("$share/g", r"\$share/group/filter"),
        ("$share//a", r"\$share/group/filter"),
        ("$share/g/", r"\$share/group/filter"),
        ("$share/+/a", r"\$share/group/filter"),
        ("$share/g/a+", "whole level"),
    ],
)
def test_a_filter_that_is_not_allowed(topic_filter: str, words: str) -> None:
    """What is wrong with a filter is said in words."""
    with pytest.raises(ValueError, match=words):
        check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sport/#", "sport", True),
        ("sport/#", "sport/tennis/player1", True),
        ("#", "/finance", True),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/a", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/a", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("$share/g/sport/#", "sport/a", True),
        ("$share/g/sport/#", "$share/g/sport/a", False),
        ("ACCOUNTS", "Accounts", False),
        ("a/b", "a/b", True),
    ],
)
def test_the_examples_of_the_specification(topic_filter: str, topic: str, expected: bool) -> None:
    """The specification's own examples hold."""
    assert matches(topic_filter, topic) is expected


LEVEL = st.sampled_from(["", "a", "b", "$x"])


@given(
    wanted=st.lists(LEVEL | st.just("+"), min_size=1, max_size=4),
    rest=st.booleans(),
    topic=st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool),
)
def test_matching_is_what_a_pattern_would_say(wanted: list[str], rest: bool, topic: str) -> None:
    """A filter matches as the regular expression does that says the same."""
    topic_filter = "/".join([*wanted, "#"] if rest else wanted)
    if not topic_filter:
        return
    pattern = "/".join("[^/]*" if level == "+" else re.escape(level) for level in wanted) + ("(/.*)?" if rest else "")
    expected = re.fullmatch(pattern, topic, re.DOTALL) is not None
    if topic.startswith("$") and wanted[0] == "+":
        expected = False
    check_filter(topic_filter)
    assert matches(topic_filter, topic) is expected
    assert matches(f"$share/g/{topic_filter}", topic) is expected
