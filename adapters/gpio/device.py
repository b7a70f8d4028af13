"""A device on one GPIO line: the keys that all such devices have, and how the line is requested."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from adapters.ports.gpio import open_kernel, unavailable
from adapters.ports.gpio_line import Bias, Request, TakenOver, Wanted
from adapters.ports.simulated_gpio import open_simulated
from gateway import Adapter, Device

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^/+#{}\s]+$")]


class Simulated(BaseModel):
    """How a line goes that is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    frequency: float = Field(default=0.0, ge=0, le=5000, description="Pulses a second; 0: none. For inputs.")
    duty: float = Field(default=0.5, gt=0, lt=1, description="Which part of a pulse's time the line is high.")
    bounces: int = Field(default=0, ge=0, le=100, description="How often the contact bounces at each edge.")
    wire: str | None = Field(
        default=None,
        min_length=1,
        description="For inputs a named pipe: 0 and 1 written to it are levels. For outputs a file that holds 0 or 1.",
    )


class GpioDevice(Adapter):
    """A device on one line. A subclass says what becomes of its edges."""

    exclusive: ClassVar[tuple[str, ...]] = ("line",)

    line: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The line's name, such as GPIO17 (gpioinfo lists them), or its offset on the chip."
    )
    consumer: str | None = Field(
        default=None,
        min_length=1,
        max_length=31,
        description="In the place of line: the one that another program has under this name, as soon as it is free.",
    )
    chip: str | None = Field(
        default=None,
        min_length=1,
        description="The chip's label, name or path; needed with an offset, or where two lines have one name.",
    )
    active_low: bool = Field(default=False, description="true: the line is active, or on, while it is low.")
    bias: Bias = Field(
        default="as-is", description="The resistor within the chip: as-is, disabled, pull-up, pull-down."
    )
    backend: Literal["kernel", "simulated"] = Field(
        default="kernel", description="simulated: a line that is not there, for first steps and tests."
    )
    simulated: Simulated = Field(default=Simulated(), description="How a simulated line goes.")
    _taken_over: TakenOver | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _one_line(self) -> Self:
        if (self.line is None) == (self.consumer is None):
            raise ValueError('say which line: line = "GPIO17", or consumer = the name under which it is in use')
        if self.consumer is not None:
            if self.backend == "simulated":
                raise ValueError("a simulated line is in use by nobody: say line, and not consumer")
            self._taken_over = TakenOver(self.consumer)
        if self.backend == "kernel":
            if isinstance(self.line, int) and self.chip is None:
                words = f'is an offset: say the chip as well, or the name, such as "GPIO{self.line}"'
                raise ValueError(f"line = {self.line} {words}")
            if (why := unavailable()) is not None:
                raise ValueError(why)
        return self

    def claim(self, key: str) -> tuple[str | None, int | str] | None:
        """Return its chip, as far as that is said, and its line; a simulated line is nobody else's."""
        return None if self.line is None or self.backend == "simulated" else (self.chip, self.line)

    @property
    def sought(self) -> str | int | TakenOver:
        """The line as `Wanted` has it."""
        if self._taken_over is not None:
            return self._taken_over
        return 0 if self.line is None else self.line

    def request(self, wanted: Wanted) -> Callable[[], Request]:
        """Return what requests the line; it may block, and raises DeviceError."""
        if self.backend == "kernel":
            return partial(open_kernel, wanted)
        simulated = self.simulated
        return partial(
            open_simulated,
            wanted,
            frequency=simulated.frequency,
            duty=simulated.duty,
            bounces=simulated.bounces,
            wire=simulated.wire,
        )

    def name_for(self, device: Device) -> str:
        """Return the name under which the kernel shows who has the line; it keeps 31 bytes of it."""
        return f"sensor-gateway {device.name}".encode()[:31].decode(errors="ignore")
