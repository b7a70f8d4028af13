"""Every adapter has its page, which says how it was tested, and an example to start from."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gateway import registry
from gateway.config import ConfigError, load

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs/reference/devices"
OURS = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["gateway.adapters"])

BEGUN = {
    "air": 'adapter = "serial-text"\nport = "/dev/ttyUSB0"',
    "irrigation": 'adapter = "serial-text"\nport = "/dev/ttyUSB0"',
    "meter": 'adapter = "gpio-counter"\nline = "GPIO27"\nbackend = "simulated"',
}
"""What is above the blocks that go on with a device's table."""
NOT_HERE = r"(does not exist|cannot be read: [Nn]o such file or directory|CREDENTIALS_DIRECTORY.*|is not set)$"
"""The end of what is said about files and secrets that a page names, and its reader has."""


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


def complaints(config: Path) -> list[str]:
    """Return what is wrong in a config, but for files and secrets that are not here."""
    try:
        load(config, environ={"HOME": str(config.parent)})
    except ConfigError as error:
        return [line for line in str(error).splitlines() if not re.search(NOT_HERE, line)]
    return []


def shown() -> dict[str, str]:
    """Return each TOML block of the pages that is part of a config, by page and line."""
    blocks = {}
    for page in (ROOT / "docs").glob("**/*.md"):
        text = page.read_text()
        for found in re.finditer(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            if not re.search(r"^\[(project|\w+\.entry)", found[1], re.MULTILINE) and "thermometer" not in found[1]:
                blocks[f"{page.stem}:{text.count(chr(10), 0, found.start()) + 1}"] = found[1]
    return blocks


SHOWN = shown()


@pytest.mark.parametrize("where", sorted(SHOWN))
def test_what_is_shown_can_be_pasted(where: str, tmp_path: Path) -> None:
    """Each block is right as it stands, but for the uplink, the files and secrets that whoever pastes it has."""
    block = SHOWN[where]
    document = tomllib.loads(block)
    for name, device in document.get("devices", {}).items():
        if "adapter" not in device:  # it goes on with a table that is shown above it
            block = f"[devices.{name}]\n{BEGUN[name]}\n{block}"
    if "uplinks" not in document:
        block += '\n[uplinks.home]\nbrokers = ["mqtt://localhost"]\n'
    (tmp_path / "gateway.toml").write_text(block)
    assert complaints(tmp_path / "gateway.toml") == []
