"""What every installed adapter must be, whoever wrote it."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import Adapter, registry
from tests.adapters.cable import Cable
from tests.adapters.notebook import WAIT, Notebook, running

NAMES = registry.names()


def made(name: str, **fields: Any) -> Adapter:
    """Return the adapter with nothing but what it needs: the first exclusive key is a port."""
    kind = registry.adapter(name)
    needed = {key: "/dev/null" for key, field in kind.model_fields.items() if field.is_required()}
    needed |= dict.fromkeys(kind.exclusive[:1], "/dev/null")
    return kind(**{**needed, **fields})


def test_the_built_in_adapters_are_installed() -> None:
    """The suite below runs over something."""
    assert {"serial-text", "simulator"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_what_each_key_means(name: str) -> None:
    """The class and each of its keys are described: the schema, the help and the documentation are made of it."""
    kind = registry.adapter(name)
    assert issubclass(kind, Adapter)
    assert kind.__doc__ not in (None, Adapter.__doc__)
    assert inspect.iscoroutinefunction(kind.run)
    for key, field in kind.model_fields.items():
        assert field.description, key
        assert field.description.endswith("."), key
    assert set(kind.exclusive) <= set(kind.model_fields)
    assert set(kind.shared) <= set(kind.exclusive)
    assert set(kind.alike) <= set(kind.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_frozen_and_refuses_unknown_keys(name: str) -> None:
    """A config is read once, and a typo in it is an error."""
    adapter = made(name)
    key = next(iter(type(adapter).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(adapter, key, getattr(adapter, key))
    with pytest.raises(ValidationError, match="no_such_key"):
        made(name, no_such_key=1)


@pytest.mark.parametrize("name", NAMES)
async def test_a_stop_closes_what_it_opened(name: str, tmp_path: Path) -> None:
    """Cancelled at any moment of its first turns, an adapter leaves no descriptor and no task behind, and ends."""
    with Cable(tmp_path / "tty") as cable:
        adapter = made(name, **dict.fromkeys(registry.adapter(name).exclusive[:1], cable.path))
        before, tasks = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
        for turns in range(30):
            notes = Notebook()
            async with running(notes.device("d", adapter)):
                for _ in range(turns):
                    await asyncio.sleep(0)
        notes = Notebook()
        device = notes.device("d", adapter)
        async with running(device):
            await notes.until(lambda: device.state == "online")
        async with asyncio.timeout(WAIT):
            while len(os.listdir("/proc/self/fd")) > before:  # an opening in a thread may still be on its way
                await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
