"""Which message a broker hangs up on: a pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.uplink.suspicion import Suspicion


def play(count: int, window: int, poison: set[int], lost_acks: bool) -> tuple[list[int], list[int], int]:
    """Send messages 1..count to a broker that hangs up on poison; return what it took, what was set aside, the losses.

    `lost_acks`: it hangs up before its acknowledgements have gone out.
    """
    suspicion, todo = Suspicion(), list(range(1, count + 1))
    taken: list[int] = []
    aside: list[int] = []
    losses = 0
    while todo:
        sent = todo[: suspicion.window(window)]
        bad = next((message for message in sent if message in poison), None)
        if bad is None:
            suspicion.acknowledged(sent)
            taken += sent
            todo = todo[len(sent) :]
            continue
        good = [] if lost_acks else sent[: sent.index(bad)]
        suspicion.acknowledged(good)
        taken += good
        todo = todo[len(good) :]
        losses += 1
        found = suspicion.lost([message for message in sent if message not in good], 0.1)
        if found is not None:
            aside.append(found)
            todo.remove(found)
    return taken, aside, losses


@given(st.integers(1, 200), st.integers(1, 50), st.sets(st.integers(1, 200), max_size=4), st.booleans())
def test_exactly_the_poison_is_set_aside_and_the_rest_flows(
    count: int, window: int, poison: set[int], lost_acks: bool
) -> None:
    """Every poisonous message costs three losses at most, and no other message is ever blamed."""
    poison = {message for message in poison if message <= count}
    taken, aside, losses = play(count, window, poison, lost_acks)
    assert set(aside) == poison
    assert sorted(set(taken)) == [message for message in range(1, count + 1) if message not in poison]
    assert losses <= 3 * len(poison)


def test_a_network_that_comes_and_goes_blames_nobody() -> None:
    """As long as something gets through between two losses, no message is suspected twice."""
    suspicion = Suspicion()
    for first in range(1, 1000, 10):
        sent = list(range(first, first + 10))
        assert suspicion.lost(sent, 1.0) is None
        suspicion.acknowledged(sent[:1])
        suspicion.acknowledged(sent[1:])
        assert not suspicion.aroused


def test_the_window_grows_again_after_one_loss() -> None:
    """One loss costs a slow start, and not the throughput."""
    suspicion = Suspicion()
    suspicion.lost(range(1, 101), 1.0)
    sizes = []
    at = 1
    while suspicion.aroused:
        size = suspicion.window(1000)
        sizes.append(size)
        suspicion.acknowledged(range(at, min(101, at + size)))
        at += size
    assert sizes == [1, 2, 4, 8, 16, 32, 64]
    assert suspicion.window(1000) == 1000


def test_suspects_that_are_gone_are_forgotten() -> None:
    """What was dropped meanwhile does not keep the window small for ever."""
    suspicion = Suspicion()
    suspicion.lost([1, 2, 3], 0.1)
    suspicion.lost([1, 2, 3], 0.1)
    assert suspicion.window(1000) == 1
    suspicion.acknowledged([4])
    assert suspicion.window(1000) == 1, "newer ones, such as live ones, can be faster than a suspect"
    suspicion.forget(lambda one: one == 2)
    assert (suspicion.window(1000), suspicion.newest) == (1, 2)
    suspicion.forget(lambda one: False)
    assert suspicion.window(1000) == 1000


def test_links_that_end_without_a_suspect_acquit_it() -> None:
    """Before a suspect goes out alone, the link has to outlive the one before; one that does not was no message's."""
    suspicion = Suspicion()
    for _ in range(50):  # a broker that lets no link live for longer than two seconds, and acknowledges nothing
        assert suspicion.lost([1, 2, 3], 2.0) is None
        assert suspicion.lost([1], 2.0) is None
        assert suspicion.calm == 4.0
        assert suspicion.lost([], 2.0) is None
        assert not suspicion.aroused


def test_a_broker_that_goes_away_by_itself_makes_it_doubtful() -> None:
    """What was alone in flight when a broker went away is blamed only if that happens again and again."""
    suspicion = Suspicion()
    found = []
    for _ in range(4):
        found.append(suspicion.lost([1], 0.1, broker=3))
        suspicion.unreachable(3)
    assert found == [None, None, None, 1]


def test_another_broker_that_is_away_casts_no_doubt() -> None:
    """That some other broker cannot be reached says nothing about the one that hangs up."""
    suspicion = Suspicion()
    found = []
    for _ in range(3):
        found.append(suspicion.lost([1], 0.1, broker=3))
        suspicion.unreachable(2)
    assert found == [None, None, 1]


def test_brokers_that_go_away_in_turn_make_it_doubtful() -> None:
    """Where failover goes back and forth, a message has to be alone in flight twice."""
    suspicion = Suspicion()
    assert [suspicion.lost([1], 0.1, broker) for broker in (0, 1, 0, 1)] == [None, None, None, 1]


def test_a_long_life_is_not_waited_for_in_full() -> None:
    """However long a link has lived, the next is watched for a few seconds."""
    suspicion = Suspicion()
    suspicion.lost([1], 3600.0)
    assert suspicion.calm == 0.0, "the first loss may be anything"
    suspicion.lost([1], 3600.0)
    assert suspicion.calm == 5.0
