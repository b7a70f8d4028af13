"""Files of the kernel that hold one number each: hwmon, IIO, thermal zones, power supplies."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from adapters.sampled_device import SampledDevice, Skip
from gateway import DeviceError, Value, scaled

_LONGEST = 256  # bytes of such a file


class KernelFile(BaseModel):
    """One file, and what its number means."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: str = Field(pattern="^/", description='The file; "*" stands for what changes, such as hwmon* or iio:device*.')
    scale: float = Field(default=1.0, description="Multiply the number by this.")
    offset: float = Field(default=0.0, description="Add this to the number first, as IIO does.")
    text: bool = Field(default=False, description="true: what is in it is a word, and no number.")


class Sysfs(SampledDevice):
    """Reads files of the kernel that hold one number or word each."""

    files: dict[str, KernelFile] = Field(min_length=1, description="The file of each metric.")

    def sample(self, skip: Skip) -> dict[str, Value]:
        """Return what the files say. See `SampledDevice.sample`."""
        values: dict[str, Value] = {}
        for name, file in self.files.items():
            try:
                with Path(_only(file.path)).open("rb") as opened:
                    said = opened.read(_LONGEST).decode("utf-8", "replace").strip()
            except OSError as error:
                if len(self.files) == 1:
                    raise
                skip(f"{file.path}: {error.strerror or error}")  # the others go on
                continue
            if file.text:
                values[name] = said
                continue
            try:
                number = float(said)
            except ValueError:
                skip(f"{file.path} holds no number", said.encode())
                continue
            whole = int(number) if number.is_integer() and abs(number) < 2**53 else number
            values[name] = scaled(whole + file.offset if file.offset else whole, file.scale)
        if not values:
            raise DeviceError(f"none of the files can be read, such as {next(iter(self.files.values())).path}")
        return values


def _only(path: str) -> str:
    """Return the one file that a pattern stands for. Raises DeviceError for none or several."""
    if "*" not in path:
        return path
    found = sorted(str(one) for one in Path("/").glob(path.lstrip("/")))
    if len(found) != 1:
        raise DeviceError(f"{path} stands for {len(found)} files" + (f": {', '.join(found[:4])}" if found else ""))
    return found[0]
