r"""VE.Direct in text: battery monitors, solar chargers, inverters of Victron.

Source: Victron Energy, "VE.Direct Protocol" 3.33. A block is lines `\r\nKEY\tVALUE`, the last of which is `Checksum`
with one byte that makes the sum of all bytes of the block 0, modulo 256. Lines of the HEX protocol, `:…\n`, may come
anywhere in between; they do not belong to the block.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from adapters.frames.checksums import sum8
from gateway import Value

LONGEST = 1024  # bytes of a block; by the protocol one has at most 22 lines, of 43 bytes at most
_LONGEST_HEX = 256

_LAST: Final = b"\r\nChecksum\t"
_COLON, _NEWLINE = ord(":"), ord("\n")
_HEX: Final = frozenset(b"0123456789ABCDEF")
_BLOCK: Final = re.compile(rb"(?:\r\n[ -~]{1,9}\t[ -~]{0,33})+")
_NUMBER: Final = re.compile(r"-?[0-9]{1,10}")

# Key: the metric, and what its number is divided by.
_NUMBERS: Final[dict[str, tuple[str, int]]] = {
    "V": ("voltage", 1000),
    "V2": ("voltage_2", 1000),
    "V3": ("voltage_3", 1000),
    "VS": ("starter_voltage", 1000),
    "VM": ("midpoint_voltage", 1000),
    "DM": ("midpoint_deviation", 10),
    "VPV": ("panel_voltage", 1000),
    "PPV": ("panel_power", 1),
    "I": ("current", 1000),
    "I2": ("current_2", 1000),
    "I3": ("current_3", 1000),
    "IL": ("load_current", 1000),
    "T": ("temperature", 1),
    "P": ("power", 1),
    "CE": ("consumed_charge", 1000),
    "SOC": ("state_of_charge", 10),
    "TTG": ("time_to_go", 1),
    "H1": ("deepest_discharge", 1000),
    "H2": ("last_discharge", 1000),
    "H3": ("average_discharge", 1000),
    "H4": ("charge_cycles", 1),
    "H5": ("full_discharges", 1),
    "H6": ("charge_drawn", 1000),
    "H7": ("voltage_min", 1000),
    "H8": ("voltage_max", 1000),
    "H9": ("time_since_full", 1),
    "H10": ("synchronisations", 1),
    "H11": ("low_voltage_alarms", 1),
    "H12": ("high_voltage_alarms", 1),
    "H13": ("low_auxiliary_voltage_alarms", 1),
    "H14": ("high_auxiliary_voltage_alarms", 1),
    "H15": ("auxiliary_voltage_min", 1000),
    "H16": ("auxiliary_voltage_max", 1000),
    "H17": ("energy_discharged", 100),
    "H18": ("energy_charged", 100),
    "H19": ("energy_yield", 100),
    "H20": ("energy_yield_today", 100),
    "H21": ("power_peak_today", 1),
    "H22": ("energy_yield_yesterday", 100),
    "H23": ("power_peak_yesterday", 1),
    "HSDS": ("day", 1),
    "ERR": ("error", 1),
    "CS": ("state", 1),
    "MPPT": ("tracker", 1),
    "MON": ("monitor_mode", 1),
    "MODE": ("mode", 1),
    "AR": ("alarm_reason", 1),
    "WARN": ("warning_reason", 1),
    "AC_OUT_V": ("output_voltage", 100),
    "AC_OUT_I": ("output_current", 10),
    "AC_OUT_S": ("output_apparent_power", 1),
    "DC_IN_V": ("input_voltage", 100),
    "DC_IN_I": ("input_current", 10),
    "DC_IN_P": ("input_power", 1),
}
# What stands for no number; the time to go is -1 while nothing is drawn.
_UNKNOWN: Final = {"TTG": ("", "---", "-1")}
_SWITCHES: Final[dict[str, str]] = {"Alarm": "alarm", "Relay": "relay", "LOAD": "load"}


class VeDirectFramer:
    """Cut a stream into blocks whose checksum is right, without their last line. HEX lines are left out silently.

    The protocol does not mark where a block begins: what comes after one belongs to the next. Garbage without an end
    of line does no harm; other garbage costs the block that it lies before, once.
    """

    def __init__(self) -> None:
        self.thrown: Counter[str] = Counter()
        self._block = bytearray()
        self._hex = 0  # bytes of a HEX line so far; 0: in none
        self._torn = False  # a HEX line was none: what it took is missing

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the blocks that `chunk` completes."""
        frames = []
        for byte in chunk:
            if self._hex and self._in_hex(byte):
                continue
            block = self._block
            if byte == _COLON and not block.endswith(_LAST):
                self._hex = 1
                continue
            block.append(byte)
            if block.endswith(_LAST, 0, len(block) - 1):
                if (frame := self._end()) is not None:
                    frames.append(frame)
            elif len(block) > LONGEST:
                self._lose("frame without an end")
        return frames

    def _in_hex(self, byte: int) -> bool:
        """Return whether a byte belongs to the HEX line that has begun."""
        self._hex += 1
        belongs = byte == _NEWLINE or (byte in _HEX and self._hex <= _LONGEST_HEX)
        if not belongs:
            self._torn = True
        if not belongs or byte == _NEWLINE:
            self._hex = 0
        return belongs

    def _end(self) -> bytes | None:
        block = bytes(self._block)
        begin = block.find(b"\r\n")
        if self._torn or sum8(block[begin:]):
            self._lose("wrong checksum")
            return None
        if begin:
            self.thrown["bytes between frames"] += 1
        self._block.clear()
        return block[begin : -len(_LAST) - 1]

    def _lose(self, reason: str) -> None:
        self.thrown[reason] += 1
        self._block.clear()
        self._torn = False


def decode(frame: bytes) -> dict[str, Value]:
    """Return what a block says, by metric. Raises ValueError for what is no block.

    Identity and firmware, which never change, and numbers that the device does not know are left out.
    """
    if not _BLOCK.fullmatch(frame):
        raise ValueError("not lines of key and value")
    values: dict[str, Value] = {}
    for line in frame.decode("ascii").split("\r\n")[1:]:
        key, _, text = line.partition("\t")
        if key in _SWITCHES and text.upper() in ("ON", "OFF"):
            values[_SWITCHES[key]] = text.upper() == "ON"
        elif key in _NUMBERS and text not in _UNKNOWN.get(key, ("", "---")):
            if not _NUMBER.fullmatch(text):
                raise ValueError("not a number")
            name, divisor = _NUMBERS[key]
            values[name] = int(text) if divisor == 1 else int(text) / divisor
        elif key == "OR" and text.startswith("0x"):
            values["off_reason"] = int(text, 16)
    return values
