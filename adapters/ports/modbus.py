"""One Modbus device on a port that it may share, asked in turns. The only room that knows pymodbus, for its codec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final

from pymodbus import ModbusException
from pymodbus.framer import FramerAscii, FramerBase, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from adapters.frames.checksums import crc16_modbus
from adapters.frames.modbus import AfterEcho, Expected, Framing, framer
from adapters.ports.bus import Bus, NoAnswer, Turn
from adapters.ports.network import SocketPort
from gateway import DeviceError

ILLEGAL_ADDRESS: Final = 2
_EXCEPTIONS: Final = {
    1: "it does not know this function",
    2: "there is nothing at this address",
    3: "it refuses the value, or to give so many at once",
    4: "it has failed itself",
    5: "it is still at it",
    6: "it is busy",
    8: "its memory is faulty",
    10: "the gateway has no way to it",
    11: "the gateway hears nothing of it",
}
"""MODBUS Application Protocol Specification V1.1b3, section 7."""
_NOTHING_DONE: Final = frozenset({1, 2, 3, 6, 10})  # by all others it may have begun
_READ: Final[dict[str, type[ModbusPDU]]] = {
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
}
_WRITTEN: Final = 5  # bytes of the answer to a write: those with which the question begins
_CODECS: Final[dict[Framing, type[FramerBase]]] = {"rtu": FramerRTU, "ascii": FramerAscii, "tcp": FramerSocket}
_ATTEMPTS: Final = 3  # to get one answer: a disturbed one costs no reading
_SILENCE, _SHORTEST, _FAST = 3.5 * 11, 0.00175, 19200  # bits; seconds, above so many bits a second
"""The silence between two frames of RTU: MODBUS over Serial Line V1.02, section 2.5.1.1."""
_LONGEST: Final = 40  # bytes of an answer in a message

_transactions = cycle(range(1, 1 << 16))  # of all: devices on one connection may have the same unit


class Refused(DeviceError):
    """The device has answered with an exception."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.nothing_done = code in _NOTHING_DONE


class TcpPort(SocketPort):
    """A connection to a device that speaks Modbus over TCP; many end it when they were not asked for a while."""

    lost = "the device hung up"
    may_hang_up = True


class Unit:
    """One device on a line. Whoever reads and sets it, in whatever tasks, does so in turns with all others there."""

    def __init__(
        self, bus: Bus, number: int, *, framing: Framing, timeout: float = 1.0, local_echo: bool = False
    ) -> None:
        """`timeout` is the longest that one answer may take; `local_echo`: the port gives back what it is given."""
        self.number = number
        self.framing = framing
        self.timeout = timeout
        self.local_echo = local_echo
        self.codec = _CODECS[framing](DecodePDU(False))
        self.silence = silence(bus.port.line.baudrate) if framing == "rtu" else 0.0
        self._bus = bus
        self._late_until = 0.0  # until then, an answer may come that nobody waits for any more

    def __str__(self) -> str:
        return f"device {self.number} on {self._bus.port.path}"

    async def read(self, table: str, address: int, count: int) -> Sequence[int]:
        """Return registers, or bits, in a turn of their own, and in another one if the first is disturbed.

        Raises Refused if it answers with an exception, NoAnswer, with what was heard instead, if it does not answer,
        and DeviceError when the port is gone.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self.turn(again=attempt > 1) as questions:
                    return await questions.read(table, address, count)
            except NoAnswer:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def turn(self, *, again: bool = False) -> AsyncIterator[Questions]:
        """Have the line for one question, or for several that belong together. Raises as `read` does.

        Where questions have no numbers, the late answer to one could pass for the answer to the next. So after one that
        was not answered its time goes by once more, except when it is asked `again`.
        """
        loop = asyncio.get_running_loop()
        if not again:
            await asyncio.sleep(max(0.0, self._late_until - loop.time()))
        try:
            async with self._bus.turn(self.timeout) as turn:
                yield Questions(self, turn)
        except NoAnswer:
            if self.framing != "tcp":
                self._late_until = loop.time() + self.timeout
            raise NoAnswer(self._instead(turn)) from None

    def _instead(self, turn: Turn) -> str:
        """Return what is to be said of a device that has not answered in time."""
        asked, heard = turn.asked, bytes(turn.heard)
        if not asked:
            return f"{self} could not be asked within {self.timeout:g} s: something on the line speaks all the time"
        if self.local_echo:
            heard = heard.removeprefix(asked)
        if not heard:
            return f"{self} does not answer within {self.timeout:g} s: check its address, {self._nothing()}"
        if heard == asked:
            return f"{self} does not answer, and what was sent comes back: is local_echo = true what is missing?"
        shown = heard[:_LONGEST].hex(" ") + (" ..." if len(heard) > _LONGEST else "")
        return f"{self} answers with {self._nonsense(heard, shown)}"

    def _nothing(self) -> str:
        if isinstance(self._bus.port, SocketPort):
            return f"and whether what is behind the port speaks Modbus {self.framing.upper()}"
        return "the wiring and the speed"

    def _nonsense(self, heard: bytes, shown: str) -> str:
        if self.framing == "tcp":
            return f'what is no answer to what was asked ({shown}): is framing = "rtu" what is missing?'
        if self.framing == "rtu" and not crc16_modbus(heard):
            return f"what is no answer to what was asked ({shown}): does another device have this address?"
        return f"a wrong checksum, or not with all of it ({shown}): check parity, speed and wiring"


class Questions:
    """What is asked in one turn. Each question has the whole timeout, and one without an answer ends the turn."""

    def __init__(self, unit: Unit, turn: Turn) -> None:
        self._unit = unit
        self._turn = turn

    async def read(self, table: str, address: int, count: int) -> Sequence[int]:
        """Return registers, or bits. Raises Refused."""
        question = _encoded(_READ[table](address=address, count=count))
        size = 2 * count if table in ("holding", "input") else (count + 7) // 8
        begins = bytes([question[0], size])
        answer = await self._ask(question, begins, size + 2, f"{table} {address} to {address + count - 1}")
        return answer.registers if table in ("holding", "input") else answer.bits[:count]

    async def write(self, table: str, address: int, values: Sequence[int], *, multiple: bool) -> None:
        """Write registers, or bits; with the function for several, also one. Raises Refused."""
        question: ModbusPDU
        if table == "coil":
            bits = [bool(value) for value in values]
            question = (WriteMultipleCoilsRequest if multiple else WriteSingleCoilRequest)(address=address, bits=bits)
        else:
            kind = WriteMultipleRegistersRequest if multiple else WriteSingleRegisterRequest
            question = kind(address=address, registers=values)
        asked = _encoded(question)
        await self._ask(asked, asked[:_WRITTEN], _WRITTEN, f"writing {table} {address} to {address + len(values) - 1}")

    async def _ask(self, question: bytes, begins: bytes, size: int, about: str) -> ModbusPDU:
        """Return the answer to a PDU, which begins with some bytes and has so many. Raises Refused."""
        unit, turn, transaction = self._unit, self._turn, next(_transactions)
        request = unit.codec.encode(question, unit.number, transaction)
        cutter = framer(unit.framing, Expected(unit.number, begins, size, transaction))
        turn.renew()
        await turn.quiet(unit.silence)
        frame = await turn.ask(request, AfterEcho(request, cutter) if unit.local_echo else cutter)
        try:
            _, answer = unit.codec.handleFrame(frame, unit.number, transaction)
        except ModbusException as error:
            raise DeviceError(f"{unit}, {about}: {error}") from None
        if answer is None:
            raise DeviceError(f"{unit}, {about}: an answer that cannot be read ({frame[:_LONGEST].hex(' ')})")
        if answer.isError():
            words = _EXCEPTIONS.get(answer.exception_code, f"exception {answer.exception_code}")
            raise Refused(answer.exception_code, f"{unit}, {about}: {words}")
        return answer


def _encoded(question: ModbusPDU) -> bytes:
    """Return a PDU as bytes. Once for each: some versions of pymodbus fill up its bits when they do it."""
    return question.function_code.to_bytes(1, "big") + question.encode()


def silence(baudrate: int) -> float:
    """Return for how many seconds a line has to be silent before a frame of RTU."""
    return _SHORTEST if baudrate > _FAST else _SILENCE / baudrate
