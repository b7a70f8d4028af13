"""Topics of MQTT: what the wildcards of a filter stand for in one, and the names that metrics get by it. Pure.

Source: MQTT 5.0, section 4.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from gateway import Value

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_REMEMBERED: Final = 4096  # topics whose prefix is kept at hand

Named = Callable[[str, dict[str, Value]], dict[str, Value]]


def check_filter(topic_filter: str) -> None:
    """Raise ValueError with the reason if nobody can subscribe to this."""
    levels = topic_filter.split("/")
    if not topic_filter or "\0" in topic_filter or len(topic_filter.encode()) > 0xFFFF:
        raise ValueError(f'"{topic_filter}" is no topic filter')
    for number, level in enumerate(levels, 1):
        if level != "+" and "+" in level:
            raise ValueError(f'"+" must be a whole level: "{topic_filter}"')
        if "#" in level and (level != "#" or number < len(levels)):
            raise ValueError(f'"#" must be the last level: "{topic_filter}"')


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a message to this topic comes for this filter."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    return _pattern(topic_filter).fullmatch(topic) is not None


def overlap(one: str, other: str) -> bool:
    """Return whether a topic can match both filters, so that its messages may come twice."""
    first, second = one.split("/"), other.split("/")
    for mine, theirs in zip(first, second, strict=False):
        if "#" in (mine, theirs):
            return True
        if mine != theirs and "+" not in (mine, theirs):
            return False
    # "a/#" is for "a" as well.
    longer = first if len(first) > len(second) else second
    shorter = min(len(first), len(second))
    return len(first) == len(second) or longer[shorter:] == ["#"]


def check_template(topic_filter: str, template: str) -> None:
    """Raise ValueError with the reason if a template names what is no wildcard of its filter."""
    wildcards = sum(level in ("+", "#") for level in topic_filter.split("/"))
    for place in _PLACE.findall(template):
        if not (place.isdecimal() and place.isascii() and 1 <= int(place) <= wildcards):
            has = f"{{1}} to {{{wildcards}}}" if wildcards > 1 else "{1}" if wildcards else "none"
            raise ValueError(f'"{template}" names {{{place}}}, and the wildcards of "{topic_filter}" are: {has}')
    if set(_PLACE.sub("", template)) & set("{}"):
        raise ValueError(f'"{template}" has a brace without its partner')


def usual(topic_filter: str) -> str:
    """Return the template of a filter that has none of its own: what its wildcards stand for, joined with dots."""
    levels = topic_filter.split("/")
    wildcards = sum(level in ("+", "#") for level in levels)
    return ".".join(f"{{{number}}}" for number in range(1, wildcards + 1))


def naming(templates: Mapping[str, str], lone: str | None = None) -> Named:
    """Return a function that names the values of a message by its topic: `template.key`, or the key without a template.

    `templates` are those of the filters, which do not overlap. The value called `lone` is called as the template is,
    and as the last level of the topic where that is empty. The function raises ValueError for a topic of no filter.
    """
    patterns = [(_pattern(one), template) for one, template in templates.items()]
    known: dict[str, str] = {}

    def find(topic: str) -> str:
        for pattern, template in patterns:
            if (match := pattern.fullmatch(topic)) is not None:
                return _filled(template, match)
        raise ValueError("a topic that nobody has asked for")

    def named(topic: str, values: dict[str, Value]) -> dict[str, Value]:
        name = known.get(topic)
        if name is None:
            name = find(topic)
            if len(known) >= _REMEMBERED:
                known.clear()
            known[topic] = name
        if lone is not None and lone in values:
            return {name or topic.rpartition("/")[2]: values[lone]}
        return {f"{name}.{key}": value for key, value in values.items()} if name else values

    return named


def _filled(template: str, match: re.Match[str]) -> str:
    return _PLACE.sub(lambda place: (match[int(place[1])] or "").replace("/", "."), template)


def _pattern(topic_filter: str) -> re.Pattern[str]:
    levels = topic_filter.split("/")
    rest = levels[-1] == "#"
    text = "/".join("([^/]*)" if level == "+" else re.escape(level) for level in (levels[:-1] if rest else levels))
    if rest:
        text += "(?:/(.*))?" if len(levels) > 1 else "(.*)"
    return re.compile(text, re.DOTALL)
