"""The shortest trace: delta debugging over lists of anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.selftest.shrink import shrink


@given(size=st.integers(1, 60), needed=st.sets(st.integers(0, 59), min_size=1, max_size=5))
async def test_what_is_needed_is_what_is_left(size: int, needed: set[int]) -> None:
    """Where some items together make it fail, these are left, in their order, and nothing else."""
    needed = {each % size for each in needed}

    async def fails(some: list[int]) -> bool:
        assert some == sorted(some)
        return needed <= set(some)

    assert await shrink(range(size), fails, lambda: True) == sorted(needed)


@given(size=st.integers(1, 60), tries=st.integers(0, 20), needed=st.integers(0, 59))
async def test_it_ends_in_time_with_something_that_fails(size: int, tries: int, needed: int) -> None:
    """When there may be no more tries, what is left is known to fail, and no further try is made."""
    needed %= size
    made = 0

    async def fails(some: list[int]) -> bool:
        nonlocal made
        made += 1
        return needed in some

    left = await shrink(range(size), fails, lambda: made < tries)
    assert needed in left
    assert made <= tries


async def test_what_fails_no_more_is_left_as_it_was() -> None:
    """A failure that does not come again leaves the whole list."""

    async def fails(_: list[int]) -> bool:
        return False

    assert await shrink(range(7), fails, lambda: True) == list(range(7))
