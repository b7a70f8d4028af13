"""Golden cases: `cases/NAME.toml` (or `cases/NAME/gateway.toml` with its conf.d) and what is said about it, `NAME.txt`.

A new case needs no Python. `NAME.env` holds the environment, one NAME=value on a line; without it there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import registry
from gateway.config import ConfigError, load

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.txt"))


def said(name: str) -> str:
    """Return what is said about a case, with its paths relative to the folder of cases."""
    folder, env = CASES / name, CASES / f"{name}.env"
    environ = dict(line.split("=", 1) for line in env.read_text().splitlines()) if env.exists() else {}
    try:
        load(folder / "gateway.toml" if folder.exists() else CASES / f"{name}.toml", environ={"HOME": "/", **environ})
    except ConfigError as error:
        words = f"{error}\n".replace(", ".join(registry.names()), "...")  # whatever is installed here
        return words.replace(f"{CASES}/", "").replace(str(CASES), ".")
    return "nothing\n"


@pytest.mark.parametrize("name", NAMES)
def test_says_what_is_wrong_and_where(name: str) -> None:
    """Each error is said in words for a person, at its file, line and column, and all of them at once."""
    assert said(name) == (CASES / f"{name}.txt").read_text()


def test_every_case_is_looked_at() -> None:
    """A case without an expectation would be no test."""
    inputs = {path.stem for path in CASES.glob("*.toml")} | {path.name for path in CASES.iterdir() if path.is_dir()}
    assert {name.removesuffix(".toml") for name in inputs} <= set(NAMES)
    assert len(NAMES) >= 40
