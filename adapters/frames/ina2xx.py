"""Texas Instruments INA219 and INA226: voltage and current through a shunt, as registers of 16 bits.

Source: SBOS448G (INA219), sections 8.5.1 (equations 1 to 5), 8.6.2 to 8.6.4 and table 8 (example); SBOS547B (INA226),
sections 7.5 (equations 1 to 4), 7.6 and table 1 (example).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONFIG, SHUNT, BUS, POWER, CURRENT, CALIBRATION, STATUS, MAKER, DIE = 0, 1, 2, 3, 4, 5, 6, 0xFE, 0xFF
TEXAS = 0x5449
"""What an INA226 and its successors have in the register MAKER."""
DIES = {0x226: "INA226", 0x227: "INA260", 0x322: "INA3221"}
"""The upper twelve bits of the register DIE."""
MODE = 0b111
"""The bits of the configuration that say what is measured."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the two do not have in common."""

    name: str
    factor: float  # of the calibration, in V
    highest: int  # calibration
    ranges: tuple[float, ...]  # of the shunt's voltage, in V, by the bits that choose it
    shunt_step: float  # V
    bus_step: float  # V
    bus_shift: int  # bits below the voltage
    power_ratio: float  # a step of power, in steps of current
    averages: Mapping[int, int]  # bits, by how many measurements make one
    once: float  # the longest that one measurement of both takes, in seconds


INA219 = Kind(
    "INA219",
    0.04096,
    0xFFFE,
    (0.04, 0.08, 0.16, 0.32),
    10e-6,
    4e-3,
    3,
    20,
    {1: 0b0011, 2: 0b1001, 4: 0b1010, 8: 0b1011, 16: 0b1100, 32: 0b1101, 64: 0b1110, 128: 0b1111},
    2 * 586e-6,
)
INA226 = Kind(
    "INA226",
    0.00512,
    0x7FFF,
    (0.08192,),
    2.5e-6,
    1.25e-3,
    0,
    25,
    {1: 0, 4: 1, 16: 2, 64: 3, 128: 4, 256: 5, 512: 6, 1024: 7},
    2 * 1.21e-3,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """How one of them is set for its shunt: `plan` makes it."""

    kind: Kind
    shunt: float  # Ω
    calibration: int
    config: int

    @property
    def step(self) -> float:
        """A step of the current, in A."""
        return self.kind.factor / (self.calibration * self.shunt)


def plan(kind: Kind, shunt: float, max_current: float, average: int) -> Setting:
    """Return how it is set for a shunt of so many Ω and currents of up to so many A. Raises ValueError, in words."""
    widest = shunt * max_current
    fitting = [bits for bits, volts in enumerate(kind.ranges) if widest <= volts * (1 + 1e-9)]
    if not fitting:
        raise ValueError(
            f"{max_current:g} A through {shunt:g} Ω make {widest:.3g} V, and an {kind.name} measures "
            f"{kind.ranges[-1]:.3g} V: take a smaller shunt, or max_current up to {kind.ranges[-1] / shunt:.3g}"
        )
    exact = kind.factor / (max_current / 32768 * shunt)
    calibration = min(int(exact + 1e-6), kind.highest)
    if kind is INA219:
        # 32 V; bit 0 of the calibration is always 0.
        bits = kind.averages[average]
        config = 0x2000 | fitting[0] << 11 | bits << 7 | bits << 3
        calibration &= 0xFFFE
    else:
        # 1.1 ms for each of the two.
        config = 0x4000 | kind.averages[average] << 9 | 4 << 6 | 4 << 3
    return Setting(kind, shunt, calibration, config | 0b011)  # both, once


def is_beyond(setting: Setting, shunt: int) -> bool:
    """Say whether the shunt's voltage stands at the end of its range: then nothing is known but that it is more."""
    kind = setting.kind
    bits = (setting.config >> 11) & 3 if kind is INA219 else 0
    return abs(_signed(shunt)) * kind.shunt_step >= kind.ranges[bits] - 1.5 * kind.shunt_step


def decode(setting: Setting, shunt: int, bus: int, power: int, current: int) -> dict[str, float]:
    """Return V, A and W from the registers."""
    kind = setting.kind
    return {
        "voltage": round((bus >> kind.bus_shift) * kind.bus_step, 5),
        "shunt_voltage": round(_signed(shunt) * kind.shunt_step, 7),
        "current": _rounded(_signed(current) * setting.step),
        "power": _rounded(power * kind.power_ratio * setting.step),
    }


def _signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word


def _rounded(value: float) -> float:
    """Return `value` to the µA or µW, beyond which there is nothing but the arithmetic."""
    return round(value, 6)
