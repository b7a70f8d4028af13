"""What is in flight: packet identifiers, and the age of the oldest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.inflight import InFlight


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 1)), min_size=1, max_size=60))
def test_an_identifier_in_flight_is_never_used_again(steps: list[tuple[int, float]]) -> None:
    """Identifiers go round, from 1 to 65535, and pass over those that are not acknowledged, in order of sending."""
    flying = InFlight()
    mine: dict[int, int] = {}
    token = 0
    for count, kept in steps:
        identifiers = list(flying.identifiers(count))
        assert len(set(identifiers)) == count
        assert not mine.keys() & set(identifiers)
        assert all(1 <= identifier <= 65_535 for identifier in identifiers)
        tokens = list(range(token, token + count))
        token += count
        flying.sent(identifiers, tokens, 0.0)
        mine.update(zip(identifiers, tokens, strict=True))
        done = identifiers[int(count * kept / 4) :]  # the first quarter at most is never acknowledged
        assert flying.acknowledged(done) == [mine.pop(identifier) for identifier in done]
        assert flying.tokens == list(mine.values())
        assert len(flying) == len(mine)


def test_identifiers_run_out_with_a_word() -> None:
    """Asking for more than there are free identifiers is an error, and not an endless search."""
    flying = InFlight()
    flying.sent(flying.identifiers(65_535), range(65_535), 0.0)
    with pytest.raises(ValueError, match="packet identifiers"):
        flying.identifiers(1)
    flying.acknowledged([777])
    assert list(flying.identifiers(1)) == [777]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.3),  # seconds until the step
            st.integers(0, 3),  # messages sent
            st.integers(0, 5),  # of those in flight, the one acknowledged
            st.booleans(),  # whether the age is asked for
        ),
        max_size=60,
    )
)
def test_the_oldest_is_known_to_the_grain(steps: list[tuple[float, int, int, bool]]) -> None:
    """The oldest message is never taken for younger than it is, nor for older than by the grain."""
    flying = InFlight(grain=0.1)
    sent_at: dict[int, float] = {}
    now = 50.0
    for wait, count, which, asked in steps:
        now += wait
        identifiers = flying.identifiers(count)
        flying.sent(identifiers, range(count), now)
        sent_at.update(dict.fromkeys(identifiers, now))
        if which < len(sent_at):
            done = list(sent_at)[which]
            flying.acknowledged([done])
            del sent_at[done]
        if not asked:
            continue
        oldest = flying.oldest()
        if sent_at:
            true = next(iter(sent_at.values()))
            assert oldest is not None
            assert true - 0.1 - 1e-9 <= oldest <= true
        else:
            assert oldest is None


def test_times_are_kept_for_groups_and_not_for_messages() -> None:
    """What is sent within one grain shares one time, so that sending costs nothing but itself."""
    flying = InFlight(grain=0.1)
    for step in range(100):
        flying.sent(flying.identifiers(3), (1, 2, 3), step * 0.01)
    assert len(flying.once._began) <= 11
    assert len(flying) == 300


def test_groups_that_are_over_are_forgotten() -> None:
    """A link that runs for days keeps no trace of what has long been acknowledged."""
    flying = InFlight(grain=0.1)
    for step in range(1000):
        identifiers = flying.identifiers(2)
        flying.sent(identifiers, (1, 2), step * 1.0)
        flying.acknowledged(identifiers)
        if step % 50 == 0:
            assert flying.oldest() is None
            assert len(flying.once._tokens) == len(flying.once._began) == 0
