"""Topic names and topic filters: which are allowed, and which filter matches which topic (MQTT 5.0 section 4.7)."""

from __future__ import annotations

LONGEST = 0xFFFF
SHARED = "$share/"


def check_topic(topic: str) -> None:
    """Make sure that messages can be published to this topic. Raises ValueError that says what is wrong with it."""
    _check_text(topic, "topic")
    for wildcard in "+#":
        if wildcard in topic:
            raise ValueError(f"a topic cannot contain the wildcard {wildcard}: {topic!r}")


def check_filter(topic_filter: str) -> None:
    """Make sure that this can be subscribed to, shared or not. Raises ValueError that says what is wrong with it."""
    _check_text(topic_filter, "topic filter")
    levels = plain(topic_filter).split("/")
    if topic_filter.startswith(SHARED):
        group, slash, rest = topic_filter[len(SHARED) :].partition("/")
        if not group or not slash or not rest or "+" in group or "#" in group:
            raise ValueError(f"a shared subscription is written $share/group/filter: {topic_filter!r}")
    for position, level in enumerate(levels, 1):
        if "+" in level and level != "+":
            raise ValueError(f"the wildcard + must be a whole level of a topic filter: {topic_filter!r}")
        if "#" in level and (level != "#" or position < len(levels)):
            raise ValueError(f"the wildcard # must be the last level of a topic filter: {topic_filter!r}")


def plain(topic_filter: str) -> str:
    """Return the filter that a shared subscription shares; any other as it is."""
    return topic_filter.split("/", 2)[-1] if topic_filter.startswith(SHARED) else topic_filter


def has_wildcard(topic_filter: str) -> bool:
    """Return whether a valid filter can match more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a message with this topic comes for this filter; both must be valid.

    Wildcards at the front do not match topics that begin with `$`.
    """
    topic_filter = plain(topic_filter)
    if not has_wildcard(topic_filter):
        return topic_filter == topic
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    return all(one in ("+", level) for one, level in zip(wanted, levels, strict=False))


def _check_text(text: str, what: str) -> None:
    if not text:
        raise ValueError(f"a {what} cannot be empty")
    if "\0" in text:
        raise ValueError(f"a {what} cannot contain NUL: {text!r}")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"a {what} must be text that UTF-8 can write: {text!r}") from None
    if length > LONGEST:
        raise ValueError(f"a {what} has at most {LONGEST} bytes, not {length}")
