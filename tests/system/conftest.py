"""What every system test has: a mosquitto, or a loud failure, and a folder on a real disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Mosquitto


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds `folder`."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return max((point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point))[1]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a file system that has a disk below it, where fsync and the I/O account mean something."""
    for parent in (tmp_path, Path("/var/tmp"), Path.cwd()):
        if _file_system(parent) not in ("tmpfs", "ramfs", "overlay"):
            break
    else:
        pytest.fail("no folder on a real disk: the temporary folders and this one are in memory", pytrace=False)
    made = Path(tempfile.mkdtemp(prefix="gw-", dir=parent))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def broker(folder: Path) -> Iterator[Mosquitto]:
    """Give a running mosquitto, the first choice where there are two."""
    with Mosquitto(folder, "primary") as running:
        yield running


@pytest.fixture
def second(folder: Path) -> Iterator[Mosquitto]:
    """Give another running mosquitto, the one to fail over to."""
    with Mosquitto(folder, "second") as running:
        yield running
