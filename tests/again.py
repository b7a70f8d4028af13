"""Runs once more, with nothing beside it, what has just failed while many tests ran at a time, and says so.

A test that waits for real processes may meet a machine that is too busy for it. Whether that was the reason is what the
second run tells; a test that fails both times has failed, and whoever passes only alone is named.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

MANY = 3
"""Of more than so many failures, being busy is not the reason."""


def main() -> int:
    """Return the exit status."""
    record = Path(__file__).resolve().parents[1] / ".pytest_cache/v/cache/lastfailed"
    failed = list(json.loads(record.read_text())) if record.exists() else []
    if not 0 < len(failed) <= MANY:
        return 1
    print(f"\n===== failed while others ran; once more, alone: {', '.join(failed)}", flush=True)
    status = int(pytest.main(["-p", "no:xdist", *failed]))
    if status == 0:
        print(f"===== UNSTEADY: failed beside others, passed alone: {', '.join(failed)}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
