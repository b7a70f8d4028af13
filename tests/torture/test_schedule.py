"""What the self-test will do: drawn from a seed, of each kind as often, and the same whenever it is asked for."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.selftest.levers import AILMENTS as KNOWN
from gateway.cli.selftest.schedule import AILMENTS, BROKERS, DEVICES, DRAWN, ROUND, draw, only

SEEDS = st.integers(0, 1 << 32)


@given(seed=SEEDS, kills=st.integers(0, 200), faults=st.integers(0, 200))
def test_a_seed_always_draws_the_same(seed: int, kills: int, faults: int) -> None:
    """The same seed and the same numbers are the same acts, each with a number of its own; none is left out."""
    rounds = draw(seed, kills, faults)
    assert rounds == draw(seed, kills, faults)
    acts = [act for acts in rounds for act in acts]
    assert [act.number for act in acts] == list(range(1, kills + faults + 1))
    assert sum(act.is_kill for act in acts) == kills
    assert all(len(acts) <= ROUND for acts in rounds)


@given(seed=SEEDS)
def test_each_kind_is_drawn_as_often(seed: int) -> None:
    """No kind of fault, no ailment of the card and no broker or device is left to chance, or left out."""
    acts = [act for acts in draw(seed, 0, 60 * len(DRAWN)) for act in acts]
    assert set(Counter(act.kind for act in acts).values()) == {60}
    ailments = Counter(act.way for act in acts if act.kind == "card")
    assert ailments == dict.fromkeys(AILMENTS, 10)
    assert set(AILMENTS) == set(KNOWN) - {"well"}
    assert {act.target for act in acts} == {"", *BROKERS, *DEVICES}
    assert all(str(act).startswith(f"#{act.number} ") for act in acts)


def test_different_seeds_draw_differently() -> None:
    """Another seed is another schedule."""
    assert len({str(draw(seed, 5, 10)) for seed in range(20)}) == 20


def test_without_a_card_that_can_fail_no_such_fault_is_drawn() -> None:
    """Where the card cannot be made to fail, the other kinds take its turns."""
    acts = [act for acts in draw(1, 0, 99, cards=False) for act in acts]
    assert len(acts) == 99
    assert "card" not in {act.kind for act in acts}


def test_a_trace_is_the_same_acts_in_one_round() -> None:
    """What is tried again are the very acts of the long run, and nothing in between."""
    rounds = draw(3, 200, 100)
    (acts,) = only(rounds, frozenset({17, 250}))
    assert acts == [rounds[0][16], rounds[4][9]]
