"""Every adapter has its page, which says how it was tested, and an example to start from."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gateway import registry

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs/reference/devices"
OURS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["gateway.adapters"])


def page_of(adapter: str) -> Path:
    """Return the page whose beginning names the adapter."""
    named = [page for page in sorted(PAGES.glob("*.md")) if f"`{adapter}`" in page.read_text()[:600]]
    assert len(named) == 1, f"pages that begin with `{adapter}`: {[page.name for page in named]}"
    return named[0]


def test_the_installed_adapters_are_those_of_the_project() -> None:
    """What is checked below is what users get."""
    assert set(OURS) <= {entry.name for entry in entry_points(group="gateway.adapters")}


@pytest.mark.parametrize("adapter", OURS)
def test_there_is_a_page(adapter: str) -> None:
    """It shows a config, names each key, perhaps on a page that it links to, and says how the adapter was tested."""
    page = page_of(adapter)
    text = page.read_text()
    assert 'adapter = "' in text
    linked = [PAGES / name for name in re.findall(r"\(([a-z0-9-]+\.md)[)#]", text)]
    keys = "".join(each.read_text() for each in (page, *linked))
    missing = [
        key
        for key in registry.adapter(adapter).model_fields
        if not re.search(rf"`{key}\b|^{key} =|[{{ ]{key} = |^\[devices\.\w+\.{key}\b", keys, re.M)
    ]
    assert not missing, f"{page.name}, and what it links to, does not name {', '.join(missing)} of {adapter}"
    assert "tested" in text.lower(), f"{page.name} does not say how it was tested"


def test_there_is_an_example_of_each() -> None:
    """An example that passes `check`, for each adapter; see tests/config/test_examples.py."""
    shown = {
        device["adapter"]
        for example in (ROOT / "config/examples").glob("*.toml")
        for device in tomllib.loads(example.read_text()).get("devices", {}).values()
    }
    assert not set(OURS) - shown


def test_the_index_names_every_page() -> None:
    """Whoever looks for a device finds its page."""
    index = (PAGES / "README.md").read_text()
    assert not [page.name for page in PAGES.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index]
