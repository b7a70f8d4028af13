"""One table of the config, and the types of value that several tables have."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from gateway.config.files import unreadable
from gateway.config.problems import refuse
from gateway.config.secret import located, surroundings


class Section(BaseModel):
    """One table of the config. Nothing is converted silently, and nothing is shown in an error that could be secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        model_title_generator=lambda model: model.__name__.removesuffix("Section"),
    )


def _path(value: Any, info: ValidationInfo) -> Any:
    """Take a path as a config means it: from the folder of the config file on, with `~` for the user's home."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise refuse("path", "must be a path in quotes")
    path = located(value, surroundings(info).folder)
    return str(path) if info.mode == "json" else path  # the keys of adapters are validated as JSON


def _readable(path: Path) -> Path:
    """Check that a file can be opened, so that a missing certificate is found now and not with each connection."""
    try:
        # Opening a pipe or a device would wait for ever, or do something to it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise refuse("path", f"{path} is not a regular file")
        path.open("rb").close()
    except OSError as error:
        raise refuse("path", f"{path} {unreadable(error)}") from None
    return path


def _no_control_characters(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f-\x9f]", value):
        raise refuse("text", "must not contain control characters")
    return value


FilePath: TypeAlias = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string"})]
ReadableFile: TypeAlias = Annotated[FilePath, AfterValidator(_readable)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=65535), AfterValidator(_no_control_characters)]
