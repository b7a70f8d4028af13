"""What every test is held to: it leaves no task, thread, child process or descriptor behind."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A shared machine makes any wall-clock deadline flaky; CI must find the same examples each time.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A shell has jobs in its background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where tests wait longest comes first.
WAITING = ("tests/torture/", "tests/system/", "")

# How long a thread that is already on its way out may take to end.
GRACE = 2.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers' tests, have those begin that wait longest, so that no worker is left with them at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next(n for n, where in enumerate(WAITING) if item.nodeid.startswith(where)))


def _descriptors() -> dict[int, str]:
    """Return what each open descriptor of this process refers to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of this very listing
            continue
    return found


def _has_children() -> bool:
    """Return whether this process has a child, running or not yet waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    return {fd: target for fd, target in _descriptors().items() if before.get(fd) != target}


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a folder for temporary files whose name leaves room for that of a socket, which may have 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="gw-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaks a descriptor, a thread or a child process."""
    threads, children, before = set(threading.enumerate()), _has_children(), _descriptors()
    yield
    started = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    for thread in started:
        thread.join(GRACE)
    left = [f"thread {thread.name}" for thread in started if thread.is_alive()]
    if _opened_since(before):
        gc.collect()  # what is only waiting to be collected warns by itself, and warnings are errors
        for thread in set(threading.enumerate()) - threads:
            thread.join(GRACE)  # an opening that was given up ends by itself, and closes what it has opened
        left += [f"descriptor {fd} -> {target}" for fd, target in _opened_since(before).items()]
    if not children and _has_children():
        left.append("a child process")
    if left:
        pytest.fail("left behind: " + ", ".join(left))


@pytest.fixture
async def _tasks() -> AsyncIterator[None]:
    """Fail a coroutine that ends with a task of its own still there."""
    before = asyncio.all_tasks()
    yield
    before.add(asyncio.current_task())  # type: ignore[arg-type]
    for _ in range(3):  # what was cancelled a moment ago has these turns of the loop to end
        left = asyncio.all_tasks() - before
        if not left:
            return
        await asyncio.sleep(0)
    pytest.fail("left running: " + ", ".join(sorted(repr(task.get_coro()) for task in left)))


@pytest.fixture(autouse=True)
def _leaves_no_task(request: pytest.FixtureRequest, _leaves_nothing_behind: None) -> None:
    """Watch the tasks of tests that are coroutines, and spare the others a loop.

    Comes after the fixture above, so that the loop and its threads are closed before descriptors are counted, and
    before any that the test asks for, so that they are taken down first.
    """
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("_tasks")
