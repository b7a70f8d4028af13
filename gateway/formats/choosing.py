"""Only some of the metrics: a format that leaves the others out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any

from gateway.reading import Reading


def choosing(patterns: Sequence[str], render: Callable[..., bytes]) -> Callable[..., bytes]:
    """Return `render` for those metrics whose name is one of `patterns`; "*" and "?" in one stand for any letters.

    A reading that has none of them is rendered without values: the seq of its stream has no gap for that.
    """
    wanted = re.compile("|".join(map(translate, patterns)))

    @lru_cache(maxsize=4096)
    def is_wanted(name: str) -> bool:
        return wanted.match(name) is not None

    def chosen(reading: Reading, *when: Any) -> bytes:
        values: Any = reading.values  # of a device: publications are not rendered
        return render(reading._replace(values={name: values[name] for name in values if is_wanted(name)}), *when)

    return chosen
