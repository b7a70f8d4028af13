"""Sensors on an I²C bus as their data sheets describe them, for a simulated bus, and what can be wrong with them."""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from adapters.frames.sensirion_i2c import crc
from adapters.ports.simulated_i2c import SimulatedBus, SimulatedChip

T = (27504, 26435, -1000)
P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
"""Of the data sheet of the BMP280, section 3.12: with 519888 and 415148 they make 25.08 °C and 100653.27 Pa."""
CALIBRATION = struct.pack("<HhhHhhhhhhhhxB", *T, *P, 75)
HUMIDITY = struct.pack("<hB", 362, 0) + bytes([0x13, 0x29, 0x03, 0x1E])
DATA = (415148 << 4).to_bytes(3, "big") + (519888 << 4).to_bytes(3, "big")


def words(*numbers: int) -> bytes:
    """Return words as Sensirion's sensors send them, each with its checksum."""
    parts = [number.to_bytes(2, "big") for number in numbers]
    return b"".join(part + bytes([crc(part)]) for part in parts)


class Bosch:
    """A BME280 or BMP280: registers of a byte; it measures when it is told to."""

    def __init__(self, number: int = 0x60, humidity: int = 27000) -> None:
        self.memory = bytearray(256)
        self.memory[0x88:0xA2] = CALIBRATION
        self.memory[0xD0] = number
        self.memory[0xE1:0xE8] = HUMIDITY
        self.memory[0xF7:0xFF] = b"\x80\0\0\x80\0\0\x80\0"
        self.humidity = humidity
        self.written: list[bytes] = []

    def transfer(self, write: bytes, read: int) -> bytes:
        if len(write) > 1:
            self.written.append(write)
            self.memory[write[0]] = write[1]
            if write[0] == 0xF4 and write[1] & 3:
                self.memory[0xF7:0xFD] = DATA
                if self.memory[0xF2] & 7:
                    self.memory[0xFD:0xFF] = self.humidity.to_bytes(2, "big")
        return bytes(self.memory[write[0] : write[0] + read]) if read else b""


class Texas:
    """A chip with registers of two bytes, the first of which begins a measurement."""

    def __init__(self, registers: dict[int, int], config: int = 0) -> None:
        self.registers = registers
        self.config = config  # the register that does
        self.pointer = 0
        self.written: list[bytes] = []

    def transfer(self, write: bytes, read: int) -> bytes:
        if write:
            self.pointer = write[0]
        if len(write) == 3:
            self.written.append(write)
            self.registers[write[0]] = self.taken(write[0], int.from_bytes(write[1:], "big"))
        return self.registers.get(self.pointer, 0).to_bytes(2, "big")[:read] if read else b""

    def taken(self, register: int, word: int) -> int:
        """Return what a register holds after a word was written to it."""
        return word


def ina219() -> Texas:
    """The example of its data sheet, table 8, with what makes 1 mA of a step: calibration 0x5000 at 2 mΩ."""
    # 11.98 V, and a measurement is ready.
    return Texas({1: 0x07D0, 2: 0x5D98 | 2, 3: 0x1766, 4: 0x2710})


class Ina226(Texas):
    """The example of its data sheet, table 1."""

    def __init__(self, die: int = 0x2260) -> None:
        super().__init__({1: 0x1F40, 2: 0x2570, 3: 0x12B8, 4: 0x2710, 6: 8, 0xFE: 0x5449, 0xFF: die})

    def taken(self, register: int, word: int) -> int:
        return word | 0x4000 if register == 0 else word


class Ads(Texas):
    """An ADS1115 that takes two looks to be ready; `inputs` are steps, by the bits that choose them."""

    def __init__(self, inputs: dict[int, int] | None = None, busy: int = 1) -> None:
        super().__init__({0: 0, 1: 0x8583}, config=1)
        self.inputs = inputs or {}
        self.busy = busy
        self.looks = 0

    def taken(self, register: int, word: int) -> int:
        if register == 1 and word & 0x8000:
            self.looks = self.busy
            self.registers[0] = self.inputs.get(word >> 12 & 7, 1000) & 0xFFFF
            return word & 0x7FFF
        return word

    def transfer(self, write: bytes, read: int) -> bytes:
        if write == b"\x01" and read:
            self.looks -= 1
            if self.looks < 0:
                self.registers[1] |= 0x8000
        return super().transfer(write, read)


class Sensirion:
    """A sensor that answers commands; what it has no answer to, it does not acknowledge."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = {bytes.fromhex(command): answer for command, answer in answers.items()}
        self.given: list[bytes] = []
        self.answer: bytes | None = None

    def transfer(self, write: bytes, read: int) -> bytes:
        if write:
            self.given.append(write)
            self.answer = self.answers.get(write)
        if not read:
            return b""
        if self.answer is None:
            raise OSError(errno.EREMOTEIO, "nothing to say")
        return self.answer


READY, NOT_READY = words(0x8006), words(0x8000)


class Scd(Sensirion):
    """An SCD41 with the example of its data sheet: 500 ppm, 25 °C, 37 %. Measures from START to STOP."""

    def __init__(self) -> None:
        super().__init__({"3682": words(0xF896, 0x9F07, 0x3BBE), "e4b8": NOT_READY, "ec05": b""})
        self.measures = False

    def transfer(self, write: bytes, read: int) -> bytes:
        if write in (b"\x21\xb1", b"\x21\xac"):
            self.measures = True
        elif write == b"\x3f\x86":
            self.measures = False
        elif self.measures and write[:1] not in (b"", b"\xec", b"\xe4"):
            raise OSError(errno.EREMOTEIO, "not while it measures")
        self.answers[b"\xe4\xb8"] = READY if self.measures else NOT_READY
        self.answers[b"\xec\x05"] = words(0x01F4, 0x6667, 0x5EB9) if self.measures else b""
        return super().transfer(write, read)


class Light:
    """A BH1750 with the example of its technical note: 28067 lx."""

    def __init__(self, counts: int = 0x8390) -> None:
        self.counts = counts
        self.measured = False

    def transfer(self, write: bytes, read: int) -> bytes:
        self.measured |= write == b"\x20"
        return self.counts.to_bytes(2, "big") if read and self.measured else bytes(read)


def sht3x(temperature: int = 0x6667, humidity: int = 0x5EB9) -> Sensirion:
    """An SHT3x."""
    return Sensirion({"2400": words(temperature, humidity)})


def sht4x(temperature: int = 0x6667, humidity: int = 0x5EB9) -> Sensirion:
    """An SHT4x."""
    return Sensirion({"fd": words(temperature, humidity)})


_KERNEL = 1.0  # seconds that a Raspberry Pi's kernel waits for the clock

CHIPS: dict[str, tuple[int, Callable[[], SimulatedChip], dict[str, Any]]] = {
    "ads1115": (0x48, Ads, {"inputs": {"battery": {"pins": "0"}, "current": {"pins": "2-3", "range": 0.256}}}),
    "bh1750": (0x23, Light, {}),
    "bme280": (0x76, Bosch, {}),
    "ina219": (0x40, ina219, {}),
    "ina226": (0x40, Ina226, {}),
    "scd4x": (0x62, Scd, {"altitude": 500, "self_calibration": False}),
    "sht": (0x44, sht3x, {}),
}
"""Of each adapter: where its chip is, what it is, and the keys that it needs."""


class Faulty:
    """A chip whose transfers can be disturbed: `fault` is called with their number and answer."""

    def __init__(self, chip: SimulatedChip, fault: Callable[[int, bytes], bytes]) -> None:
        self.chip = chip
        self.count = -1
        self._fault = fault

    def transfer(self, write: bytes, read: int) -> bytes:
        self.count += 1
        return self._fault(self.count, self.chip.transfer(write, read))


class Hanging:
    """A chip that holds the clock until it is released, or until the kernel gives up."""

    def __init__(self, patience: float | None = None) -> None:
        self.patience = patience
        self.released = threading.Event()
        self.asked = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()

    def transfer(self, write: bytes, read: int) -> bytes:
        self.asked.set()
        self.released.wait(self.patience)
        raise OSError(errno.ETIMEDOUT, "held")


class I2cStandIn:
    """The device of an I²C adapter: it is lost with the whole bus, as when an adapter at USB is unplugged."""

    can_be_lost = True

    def __init__(self, folder: Path, name: str, **keys: Any) -> None:
        self.address, self.make, more = CHIPS[name]
        self.chips: dict[int, SimulatedChip] = {}
        self.bus = SimulatedBus(folder / "i2c", self.chips)
        self.keys = {"bus": str(folder / "i2c"), "address": self.address, "interval": "10ms", **more, **keys}

    def plug(self) -> None:
        """Put the bus there, with a chip that was just switched on."""
        self.chips[self.address] = self.make()
        self.bus.plug()

    def speak(self) -> None:
        """Do nothing: it is asked."""

    def lose(self) -> None:
        """Take the bus away."""
        self.bus.unplug()


class LooseStandIn(I2cStandIn):
    """The same, on a bus that stays there: the chip alone comes off it, and nobody acknowledges its address."""

    def plug(self) -> None:
        """Put a chip that was just switched on to its address."""
        self.chips[self.address] = self.make()

    def lose(self) -> None:
        """Take it off."""
        self.chips.pop(self.address, None)


class NoisyStandIn(LooseStandIn):
    """The same, and when it is lost every answer has a wrong bit."""

    def lose(self) -> None:
        """Disturb it."""

        def flipped(_: int, answer: bytes) -> bytes:
            return bytes([answer[0] ^ 1, *answer[1:]]) if answer else answer

        self.chips[self.address] = Faulty(self.make(), flipped)


class HangingStandIn(LooseStandIn):
    """The same, and when it is lost it holds the clock, so that whoever asks gets no answer at all."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name, timeout="100ms")
        self._hanging = Hanging(_KERNEL)

    def plug(self) -> None:
        """Let go of the clock."""
        super().plug()
        self._hanging.released.set()

    def lose(self) -> None:
        """Hold it, the next time that it is asked."""
        self._hanging = Hanging(_KERNEL)
        self.chips[self.address] = self._hanging
