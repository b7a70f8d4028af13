"""A made-up Modbus device at the far end of a pseudo-terminal: RTU as the specification has it, and nothing else."""

from __future__ import annotations

import struct

from adapters.frames.checksums import crc16_modbus


def rtu(unit: int, pdu: bytes) -> bytes:
    """Return a frame of RTU."""
    frame = bytes([unit]) + pdu
    return frame + crc16_modbus(frame).to_bytes(2, "little")


class Slave:
    """Answers questions to one unit: all of its registers and coils are there, and 0 at first."""

    def __init__(self, unit: int = 1) -> None:
        self.unit = unit
        self.words: dict[int, int] = {}
        self.coils: dict[int, int] = {}
        self.functions: list[int] = []  # that it was asked for
        self.refuses: dict[int, int] = {}  # functions, and with which exception
        self.ignores: set[int] = set()  # functions that it does not answer

    def __call__(self, asked: bytes) -> bytes:
        """Return the answer to what was written in one go; nothing, if it is no question to this unit."""
        if len(asked) < 8 or asked[0] != self.unit or crc16_modbus(asked):
            return b""
        function = asked[1]
        self.functions.append(function)
        if function in self.ignores:
            return b""
        if function in self.refuses:
            return rtu(self.unit, bytes([function | 0x80, self.refuses[function]]))
        return rtu(self.unit, bytes([function]) + self._done(function, asked[2:-2]))

    def _done(self, function: int, data: bytes) -> bytes:
        """Do what a question says, and return what follows the function in the answer."""
        address, number = struct.unpack(">HH", data[:4])
        if function in (1, 2):
            bits = sum(self.coils.get(address + at, 0) << at for at in range(number))
            size = (number + 7) // 8
            return bytes([size]) + bits.to_bytes(size, "little")
        if function in (3, 4):
            words = [self.words.get(address + at, 0) for at in range(number)]
            return struct.pack(f">B{number}H", 2 * number, *words)
        if function == 5:
            self.coils[address] = int(number == 0xFF00)
        elif function == 6:
            self.words[address] = number
        elif function == 15:
            bits = int.from_bytes(data[5:], "little")
            self.coils |= {address + at: bits >> at & 1 for at in range(number)}
        else:
            assert function == 16
            self.words |= dict(enumerate(struct.unpack(f">{number}H", data[5:]), address))
        return data[:4]
