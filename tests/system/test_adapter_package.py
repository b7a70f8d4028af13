"""The package to start an adapter from, as a stranger has it: built, installed beside the product, found, tested."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.adapters.cable import Cable

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "adapter"
UPLINK = '[uplinks.a]\nbrokers = ["mqtt://broker.invalid"]\n\n'
CONFIG = UPLINK + '[devices.cellar]\nadapter = "thermometer"\nport = "{port}"\n'


def test_the_how_to_shows_the_files_as_they_are() -> None:
    """What a person copies from the page is what is tested here."""
    page = (ROOT / "docs/how-to/write-an-adapter.md").read_text()
    shown = [block.strip() for block in re.findall(r"```\w+\n(.*?)```", page, re.DOTALL)]
    for path in PACKAGE.glob("*.*"):
        assert path.read_text().strip() in shown, path.name


def test_an_adapter_takes_about_thirty_lines() -> None:
    """The promise of the first page."""
    assert len((PACKAGE / "thermometer.py").read_text().splitlines()) <= 35


class Environment:
    """A virtual environment of its own, in which the wheels of the product and of the package are installed."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "venv" / "bin"
        wheels = folder / "wheels"
        for project in (ROOT, PACKAGE):
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels]
            subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=120)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120)
        pip = [sys.executable, "-m", "pip", "--python", self._bin / "python", "install", "--no-deps", "--no-index"]
        subprocess.run([*pip, "--quiet", *wheels.glob("*.whl")], check=True, timeout=120)
        (site,) = (folder / "venv").glob("lib/python*/site-packages")
        (site / "dependencies.pth").write_text(f"{_dependencies(folder / 'dependencies')}\n")

    def run(self, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in a folder, with nothing of this one to be seen."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        environ |= {"NO_COLOR": "1", "COLUMNS": "200", "HOME": str(folder)}
        return subprocess.run(
            [self._bin / command[0], *command[1:]], cwd=folder, env=environ, capture_output=True, text=True, timeout=120
        )


def _dependencies(folder: Path) -> Path:
    """Make a folder of what is installed here beside the product, which is in it neither as code nor by its name."""
    folder.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if (
                not re.match(r"_?_?(editable.*)?(sensor_gateway|gateway|adapters)", entry.name)
                and entry.suffix != ".pth"
            ):
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Build and install everything, once."""
    return Environment(tmp_path_factory.mktemp("fresh"))


@contextmanager
def speaking(cable: Cable, words: bytes) -> Iterator[None]:
    """Have something at the other end of a cable say the same words again and again."""
    over = Event()

    def speak() -> None:
        while not over.wait(0.02):
            try:
                cable.write(words)
            except BlockingIOError:  # nobody reads
                continue

    with cable:
        thread = Thread(target=speak)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.system
def test_it_is_installed_found_and_read(fresh: Environment, tmp_path: Path) -> None:
    """Beside the gateway, an adapter of somebody else is listed, its keys are checked, and it reads its device."""
    where = fresh.run(tmp_path, "python", "-c", "import gateway, adapters; print(gateway.__file__, adapters.__file__)")
    assert str(ROOT) not in where.stdout
    assert where.stdout.count("/venv/lib/") == 2, where.stderr
    listed = fresh.run(tmp_path, "sensor-gateway", "adapters").stdout
    assert "thermometer  Reads the temperature from a thermometer" in listed
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(port="/dev/null") + "farenheit = true\n")
    checked = fresh.run(tmp_path, "sensor-gateway", "check", "-c", "gateway.toml")
    assert checked.returncode == 78
    hint = 'did you mean "fahrenheit"?'
    assert f'gateway.toml:7:1: error: unknown key "farenheit" in [devices.cellar]; {hint}' in checked.stderr
    cable = Cable(tmp_path / "tty")
    config.write_text(CONFIG.format(port=cable.path))
    assert fresh.run(tmp_path, "sensor-gateway", "check", "-c", "gateway.toml").returncode == 0
    with speaking(cable, b"T=21.5\r\n"):
        read = fresh.run(tmp_path, "sensor-gateway", "read", "cellar", "-c", "gateway.toml", "--once", "--json")
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout)["temperature"] == 21.5


@pytest.mark.system
def test_its_own_tests_pass(fresh: Environment, tmp_path: Path) -> None:
    """Suite and golden cases run outside of this repository, over what is installed, with pytest and no more."""
    for name in ("pyproject.toml", "test_thermometer.py"):
        shutil.copy(PACKAGE / name, tmp_path)
    shutil.copytree(PACKAGE / "cases", tmp_path / "cases")
    done = fresh.run(tmp_path, "python", "-m", "pytest", "-p", "no:asyncio", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout
    assert "cases/thermometer/plain ." in done.stdout
    assert "11 passed" in done.stdout


MODULE = '''
from collections.abc import Callable
from gateway import Adapter
from pydantic import BaseModel, field_validator

class Buggy(Adapter):
    """Has a bug in its run."""
    async def run(self, device):
        raise KeyError("x")

class Picky(Adapter):
    """Has a bug in the checks of its keys."""
    speed: int = 1
    @field_validator("speed")
    @classmethod
    def check(cls, given):
        raise KeyError("x")

class Strange(Adapter):
    """Has a key that no schema can describe."""
    function: Callable[[], int] = int

class Other:
    """Is no adapter."""
'''
POINTS = {
    "buggy": "things:Buggy",
    "picky": "things:Picky",
    "strange": "things:Strange",
    "other": "things:Other",
    "gone": "things.gone:Gone",
    "system": "things:Buggy",
}


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Lay a package out as an installer does, whose adapters are wrong in every way, and run the gateway beside it."""
    metadata = tmp_path / "lib" / "broken_things-2.5.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-things\nVersion: 2.5\n")
    points = "".join(f"{name} = {where}\n" for name, where in POINTS.items())
    (metadata / "entry_points.txt").write_text(f"[gateway.adapters]\n{points}")
    (tmp_path / "lib" / "things.py").write_text(MODULE)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path / 'lib'}{os.pathsep}{ROOT}"
        environ = {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "gateway", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.system
def test_an_error_of_an_adapter_names_its_distribution(
    faulty: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Whoever has installed it knows whom to tell, whatever it is: import, checks, schema, or a bug while it runs."""
    devices = "".join(f'[devices.{kind}]\nadapter = "{kind}"\n' for kind in POINTS)
    (tmp_path / "gateway.toml").write_text(UPLINK + devices)
    checked = faulty("check", "-c", "gateway.toml")
    assert checked.returncode == 78
    for kind, words in {
        "picky": "",  # its own default is not looked at
        "other": "is not a subclass of gateway.Adapter: things:Other",
        "gone": "cannot be imported: ModuleNotFoundError: No module named 'things.gone'",
    }.items():
        assert not words or f'error: adapter "{kind}" of broken-things 2.5 {words}' in checked.stderr
    assert re.search(
        r'error: adapter "system" is in broken-things 2\.5 and sensor-gateway \S+: only one of them', checked.stderr
    )
    (tmp_path / "gateway.toml").write_text(
        UPLINK + '[devices.picky]\nadapter = "picky"\nspeed = 2\n[devices.b]\nadapter = "buggy"\n'
    )
    words = "error: adapter \"picky\" of broken-things 2.5 has a bug in the checks of its keys: KeyError: 'x'"
    assert words in faulty("check", "-c", "gateway.toml").stderr
    (tmp_path / "gateway.toml").write_text('[devices.b]\nadapter = "buggy"\n')
    read = faulty("read", "b", "-c", "gateway.toml", "--for", "1s")
    assert "b: a bug in Buggy of broken-things 2.5: KeyError: 'x'" in read.stderr


@pytest.mark.system
def test_an_adapter_without_a_schema_is_named_and_the_others_are_listed(
    faulty: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """One package that is wrong does not hide what else is installed."""
    listed = faulty("adapters").stdout
    assert "buggy  Has a bug in its run." in listed
    assert 'adapter "strange" of broken-things 2.5 has keys that no schema can describe: Pydantic' in listed
    assert 'adapter "gone" of broken-things 2.5 cannot be imported' in listed
    assert "serial-text  " in listed
    schema = faulty("schema")
    assert schema.returncode == 70
    assert re.match(r'sensor-gateway schema: adapter "\w+" of broken-things 2\.5 ', schema.stderr)
