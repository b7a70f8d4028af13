"""Edges and pulses: the records of the kernel, levels without glitches, exact totals, and how often they come."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import edges
from adapters.frames.edges import Edge
from adapters.gpio.counter import GpioCounter, remembered
from adapters.gpio.input import GpioInput, Story
from adapters.gpio.pulses import Pulses, Rhythm, Steady

MS = 1_000_000
SECOND = 1000 * MS

edge_lists = st.lists(st.builds(Edge, st.integers(0, 2**64 - 1), st.booleans(), st.integers(0, 2**32 - 1)), max_size=50)


@given(edge_lists)
def test_what_is_encoded_is_decoded(given_edges: list[Edge]) -> None:
    """decode(encode(x)) == x, for one record and for many at once."""
    assert edges.decode(b"".join(map(edges.encode, given_edges))) == given_edges


def test_a_record_is_the_kernels() -> None:
    """The layout of struct gpio_v2_line_event, field by field, and its size."""
    record = struct.pack("=Q", 123456789) + struct.pack("=IIII", 2, 17, 9, 5) + bytes(24)
    assert len(record) == edges.SIZE == 48
    assert edges.decode(record) == [Edge(123456789, False, 5)]


@given(st.binary(max_size=500))
def test_noise_raises_nothing_but_value_error(data: bytes) -> None:
    """Whatever comes, it is a list of edges or a ValueError."""
    try:
        found = edges.decode(data)
    except ValueError:
        return
    assert len(found) * edges.SIZE == len(data)


def wave(times: list[int], number: int = 1, level: bool = True) -> list[Edge]:
    """Return edges at these times, with alternating levels, beginning with `level`."""
    return [Edge(at, level == (n % 2 == 0), number + n) for n, at in enumerate(times)]


@given(st.lists(st.integers(1, 10 * MS), min_size=1, max_size=60), st.integers(1, 10 * MS))
def test_a_steady_level_changes_only_after_it_has_lasted(gaps: list[int], shortest: int) -> None:
    """Each change is of a raw level that lasted at least `shortest`; and changes alternate."""
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    steady = Steady(False, shortest)
    found: list[tuple[int, bool]] = []
    for edge in wave(times):
        if (since := steady.feed(edge.time, edge.level)) is not None:
            found.append((since, steady.level))
    end = times[-1] + shortest
    if (since := steady.settle(end)) is not None:
        found.append((since, steady.level))
    lasted = {at: [*times, end][n + 1] - at for n, at in enumerate(times)}
    assert all(lasted[at] >= shortest for at, _ in found)
    assert [level for _, level in found] == [n % 2 == 0 for n in range(len(found))]
    long = [n for n, at in enumerate(times) if lasted[at] >= shortest]
    levels = [n % 2 == 0 for n in long]
    expected = [level for n, level in enumerate(levels) if level != ([False, *levels][n])]
    assert [level for _, level in found] == expected


@given(st.integers(0, 500), st.integers(0, 5), st.data())
def test_bounces_do_not_count(pulses: int, bounces: int, data: st.DataObject) -> None:
    """However often contacts bounce for less than the glitch time, each pulse counts once, in whatever batches."""
    times: list[int] = []
    for pulse in range(pulses):
        for start in (pulse * 100 * MS, pulse * 100 * MS + 40 * MS):
            times += [start + n * MS // 10 for n in range(2 * bounces + 1)]
    stream = wave(times)
    counter = Pulses(7, glitch=10 * MS)
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, 100))
        counter.feed(stream[at : at + step])
        at += step
    counter.settle(pulses * 100 * MS + SECOND)
    assert counter.total == 7 + pulses
    assert counter.missed == 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=50))
def test_pulses_that_the_kernel_had_no_room_for_are_counted(steps: list[int]) -> None:
    """Without a glitch filter the numbers of the edges tell the total, whichever edges are missing."""
    numbers = [sum(steps[: n + 1]) for n in range(len(steps))]
    counter = Pulses(100)
    counter.feed([Edge(number * MS, True, number) for number in numbers])
    assert counter.total == 100 + numbers[-1]
    assert counter.missed == 0


def test_the_numbers_of_the_kernel_begin_anew_after_32_bits() -> None:
    """At 1 kHz that is after 50 days, and neither a total nor an input notices."""
    counter, story = Pulses(0), Story(GpioInput(line="L"))
    numbers = [2**32 - 2, 2**32 - 1, 0, 2]
    assert [story.skipped(Edge(number, True, number)) for number in numbers] == [2**32 - 3, 0, 0, 1]
    counter.feed([Edge(at, True, number) for at, number in enumerate(numbers)])
    assert counter.total == 2**32 + 2


def test_with_a_glitch_filter_what_is_missing_is_said() -> None:
    """Where an edge more or less matters, lost ones are neither guessed nor hidden."""
    counter = Pulses(0, glitch=MS)
    counter.feed(wave([0, 10 * MS]))
    counter.feed(wave([100 * MS, 110 * MS, 120 * MS], number=9))
    assert counter.missed == 6
    assert counter.total == 2


@pytest.mark.parametrize("hertz", [0.01, 1.0, 50.0, 1000.0])
def test_the_frequency_of_a_steady_wave_is_exact(hertz: float) -> None:
    """From the times of the pulses: right to a part in a million from the second reading on, whatever the interval."""
    counter, rhythm = Pulses(0), Rhythm(0, 300)
    number = 0
    for second in range(1, 402, 100):
        fresh = []
        while (number + 1) / hertz <= second:
            number += 1
            fresh.append(Edge(round(number / hertz * SECOND), True, number))
        counter.feed(fresh[-2000:])
        found = rhythm.hertz(counter, second * SECOND)
    assert found == pytest.approx(hertz, rel=1e-6)


def test_the_frequency_falls_when_pulses_stay_away_and_ends() -> None:
    """It is never more than if a pulse came now, and 0 once the line was idle long enough."""
    counter, rhythm = Pulses(0), Rhythm(0, 60)
    assert rhythm.hertz(counter, SECOND) == 0.0
    counter.feed(wave([SECOND, 2 * SECOND, 3 * SECOND]))  # numbers 1 to 3, all of them pulses here
    assert rhythm.hertz(counter, 3 * SECOND) == 1.0
    assert rhythm.hertz(counter, 3 * SECOND + SECOND // 2) == 1.0
    assert rhythm.hertz(counter, 7 * SECOND) == 0.25
    assert rhythm.hertz(counter, 63 * SECOND) == 0.0


def test_a_first_pulse_alone_has_no_frequency() -> None:
    """One pulse says nothing about how often they come; what was remembered is not a burst."""
    counter, rhythm = Pulses(1_000_000), Rhythm(1_000_000, 60)
    counter.feed([Edge(SECOND, True, 1)])
    assert rhythm.hertz(counter, 2 * SECOND) == 0.0
    counter.feed([Edge(6 * SECOND, True, 2)])
    assert rhythm.hertz(counter, 7 * SECOND) == 0.2


@pytest.mark.parametrize(
    ("fields", "pulses", "hertz", "values"),
    [
        ({}, 41, 2.0, {"total": 41, "rate": 2.0}),
        (
            {"pulses_per_unit": 1000, "rate_per": "1h", "initial": 12.5},
            41,
            0.5,
            {"total": 12.541, "rate": 1.8},
        ),
        ({"report": ["frequency"], "pulses_per_unit": 3}, 5, 50.0, {"frequency": 50.0}),
        ({"initial": 0.5}, 1, 0.0, {"total": 1.5, "rate": 0.0}),
    ],
)
def test_units(fields: dict[str, object], pulses: int, hertz: float, values: dict[str, object]) -> None:
    """1000 pulses make a kWh, one every two seconds are 1.8 kW; the meter's own start is added."""
    found = GpioCounter(line="L", **fields).values(pulses, hertz)
    assert found == values
    assert [type(value) for value in found.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize("contents", [{}, {"pulses": -1}, {"pulses": "7"}, {"pulses": 1.5}, {"total": 3}])
def test_what_cannot_be_a_count_is_none(contents: dict[str, object]) -> None:
    """A strange memory begins at 0."""
    assert remembered(contents) == 0
    assert remembered({"pulses": 7}) == 7


def test_an_input_tells_how_long_a_state_lasted_by_the_kernels_clock() -> None:
    """The time between two edges is that of their time stamps; unknown at first and where edges are missing."""
    story = Story(GpioInput(line="L", metric="door", duration="for"))
    told = []
    for edge in [*wave([0, 1500 * MS]), *wave([3 * SECOND, 4 * SECOND], number=5)]:
        told.append((story.skipped(edge), story.tell(edge)))
    assert told == [
        (0, {"door": True}),
        (0, {"door": False, "for": 1.5}),
        (2, {"door": True}),
        (0, {"door": False, "for": 1.0}),
    ]


def test_an_input_tells_only_the_edges_that_are_wanted() -> None:
    """`edges = "falling"` leaves the others out, and a duration still is that of the state before."""
    story = Story(GpioInput(line="L", duration="for", edges="falling"))
    assert [story.tell(edge) for edge in wave([0, SECOND, 3 * SECOND])] == [None, {"state": False, "for": 1.0}, None]
