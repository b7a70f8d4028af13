"""Every message reaches each subscriber it is for, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.client.routing import Routes
from gateway.mqtt import Message
from gateway.mqtt.packets import Subscription
from gateway.mqtt.topics import matches


class Taker:
    def __init__(self) -> None:
        self.got: list[str] = []

    def take(self, message: Message) -> None:
        self.got.append(message.topic)


def send(routes: Routes, topic: str, *identifiers: int) -> None:
    properties = {"subscription_identifiers": list(identifiers)} if identifiers else {}
    for take in routes.find(topic, properties):
        take(Message(topic, b""))


def test_overlapping_filters_get_a_message_once_each() -> None:
    """Without identifiers the topic decides: each subscriber, whatever its filters, gets one."""
    routes, first, second = Routes(), Taker(), Taker()
    routes.add(Subscription("a/#"), first.take)
    routes.add(Subscription("a/+"), first.take)
    routes.add(Subscription("a/b"), second.take)
    send(routes, "a/b")
    assert (first.got, second.got) == (["a/b"], ["a/b"])


def test_a_copy_for_each_subscription_goes_to_that_one_only() -> None:
    """A broker that sends one copy for each overlapping subscription says which one it is for."""
    routes, first, second = Routes(), Taker(), Taker()
    one = routes.add(Subscription("a/#"), first.take)
    two = routes.add(Subscription("a/b"), second.take)
    send(routes, "a/b", one.identifier)
    assert (first.got, second.got) == (["a/b"], [])
    send(routes, "a/b", two.identifier)
    assert (first.got, second.got) == (["a/b"], ["a/b"])
    send(routes, "a/b", one.identifier, two.identifier)  # one copy for both
    assert (first.got, second.got) == (["a/b"] * 2, ["a/b"] * 2)


def test_an_identifier_means_the_same_filter_in_every_run() -> None:
    """A session that the broker has kept cannot mean another filter than the one it was made with."""
    before, after, taker = Routes(), Routes(), Taker()
    old = before.add(Subscription("old/#"), taker.take).identifier
    after.add(Subscription("new/#"), taker.take)
    assert (
        before.add(Subscription("new/#"), taker.take).identifier
        == after.add(Subscription("new/#"), taker.take).identifier
    )
    send(after, "old/1", old)
    assert taker.got == []
    after.add(Subscription("old/#"), taker.take)
    send(after, "old/1", old)
    assert taker.got == ["old/1"]


def test_shared_subscriptions_are_found_by_what_they_share() -> None:
    """`$share/group/filter` gets messages whose topic matches the filter."""
    routes, taker = Routes(), Taker()
    routes.add(Subscription("$share/workers/jobs/+"), taker.take)
    send(routes, "jobs/1")
    send(routes, "$share/workers/jobs/1")
    assert taker.got == ["jobs/1"]


def test_the_highest_quality_that_anybody_wants_is_asked_for() -> None:
    """There is one subscription for each filter at the broker: it must not be made worse by a modest second one."""
    routes, first, second = Routes(), Taker(), Taker()
    assert routes.add(Subscription("a", 2), first.take).subscription.qos == 2
    assert routes.add(Subscription("a", 0), second.take).subscription.qos == 2
    assert not routes.remove("a", first.take)
    send(routes, "a")
    assert (first.got, second.got) == ([], ["a"])
    assert routes.remove("a", second.take)
    assert "a" not in routes
    send(routes, "a")
    assert second.got == ["a"]


def test_what_was_never_added_cannot_be_removed() -> None:
    """Nobody is told to unsubscribe twice."""
    routes, taker = Routes(), Taker()
    assert not routes.remove("a", taker.take)
    routes.add(Subscription("a"), taker.take)
    assert routes.remove("a", taker.take)
    assert not routes.remove("a", taker.take)


LEVEL = st.sampled_from(["a", "b", "", "$c"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=3).map("/".join).filter(bool)
FILTER = st.lists(LEVEL | st.just("+"), min_size=1, max_size=3).map("/".join).filter(bool) | TOPIC.map(
    lambda topic: f"{topic}/#"
)


@given(st.lists(st.tuples(FILTER, st.booleans()), max_size=8), st.lists(TOPIC, max_size=5))
def test_routes_are_what_the_filters_say(changes: list[tuple[str, bool]], topics: list[str]) -> None:
    """However filters come and go, and whatever was looked up before, a message goes where its topic matches."""
    routes, takers = Routes(), {}
    for name, add in changes:
        if add:
            taker = takers.setdefault(name, Taker())
            routes.add(Subscription(name), taker.take)
        elif name in takers:
            assert routes.remove(name, takers.pop(name).take)
        for topic in topics:
            wanted = {id(taker) for name, taker in takers.items() if matches(name, topic)}
            found = routes.find(topic, {})
            assert {id(take.__self__) for take in found} == wanted  # type: ignore[attr-defined]
            assert len(found) == len(wanted)
