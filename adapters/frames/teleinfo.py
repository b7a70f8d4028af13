r"""Teleinfo (TIC): the customer's output of French meters, in its historical and its standard spelling.

Source: Enedis-NOI-CPT_54E, "Sorties de télé-information client des appareils de comptage Linky". A frame goes from STX
to ETX; in it are groups, each from LF to CR: `label SP value SP checksum`, or in the standard spelling
`label HT [time HT] value HT checksum`. The checksum is `(sum & 0x3F) + 0x20`, over all before it; without the last
separator in the historical spelling.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import Final

from adapters.frames.obis import number
from gateway import Value

LONGEST = 4096  # bytes; a standard frame of a meter with three phases has about 1,200

# Label: the metric and the unit that the meter means.
_NUMBERS: Final[dict[str, tuple[str, str]]] = {
    # historical
    "BASE": ("energy_import", "Wh"),
    "HCHC": ("energy_import_off_peak", "Wh"),
    "HCHP": ("energy_import_peak", "Wh"),
    "EJPHN": ("energy_import_ejp_normal", "Wh"),
    "EJPHPM": ("energy_import_ejp_peak", "Wh"),
    **{
        f"BBRH{kind}J{letter}": (f"energy_import_{color}_{hours}", "Wh")
        for kind, hours in (("C", "off_peak"), ("P", "peak"))
        for letter, color in (("B", "blue"), ("W", "white"), ("R", "red"))
    },
    "ISOUSC": ("subscribed_current", "A"),
    "PEJP": ("ejp_notice", ""),
    "IINST": ("current", "A"),
    "IMAX": ("current_peak", "A"),
    "ADPS": ("current_over_subscribed", "A"),
    "PAPP": ("apparent_power_import", "VA"),
    "PMAX": ("power_import_peak", "W"),
    **{f"IINST{phase}": (f"current_l{phase}", "A") for phase in (1, 2, 3)},
    **{f"IMAX{phase}": (f"current_peak_l{phase}", "A") for phase in (1, 2, 3)},
    **{f"ADIR{phase}": (f"current_over_subscribed_l{phase}", "A") for phase in (1, 2, 3)},
    # standard
    "EAST": ("energy_import", "Wh"),
    "EAIT": ("energy_export", "Wh"),
    **{f"EASF{index:02}": (f"energy_import_tariff_{index}", "Wh") for index in range(1, 11)},
    **{f"EASD{index:02}": (f"energy_import_distributor_{index}", "Wh") for index in range(1, 5)},
    **{f"ERQ{quadrant}": (f"reactive_energy_q{quadrant}", "varh") for quadrant in (1, 2, 3, 4)},
    **{f"IRMS{phase}": (f"current_l{phase}", "A") for phase in (1, 2, 3)},
    **{f"URMS{phase}": (f"voltage_l{phase}", "V") for phase in (1, 2, 3)},
    **{f"UMOY{phase}": (f"voltage_average_l{phase}", "V") for phase in (1, 2, 3)},
    "PREF": ("subscribed_power", "kVA"),
    "PCOUP": ("power_limit", "kVA"),
    "SINSTS": ("apparent_power_import", "VA"),
    "SINSTI": ("apparent_power_export", "VA"),
    "SMAXSN": ("apparent_power_import_peak", "VA"),
    "SMAXSN-1": ("apparent_power_import_peak_yesterday", "VA"),
    "SMAXIN": ("apparent_power_export_peak", "VA"),
    "SMAXIN-1": ("apparent_power_export_peak_yesterday", "VA"),
    **{f"SINSTS{phase}": (f"apparent_power_import_l{phase}", "VA") for phase in (1, 2, 3)},
    **{f"SMAXSN{phase}": (f"apparent_power_import_peak_l{phase}", "VA") for phase in (1, 2, 3)},
    "CCASN": ("power_import_average", "W"),
    "CCAIN": ("power_export_average", "W"),
    "NTARF": ("tariff", ""),
    "RELAIS": ("relays", ""),
}
_TEXTS: Final[dict[str, str]] = {
    "PTEC": "tariff_period",
    "LTARF": "tariff_period",
    "OPTARIF": "contract",
    "NGTF": "contract",
}

# Text with a letter in lower case is left out: it may be a digit with one wrong bit. The checksum, 6 bits of the sum,
# does not see that one.
_PRINTED: Final = re.compile(r"[\x20-\x5f]*")
_LABEL: Final = re.compile(r"[A-Z][A-Z0-9+-]{1,8}")
_FIRST: Final = 1_199_145_600.0  # 2008, before the first Linky
_TIME: Final = re.compile(r"[ HEhe][0-9]{12}")


class TeleinfoFramer:
    """Cut a stream into frames: what stands between STX and ETX. An EOT gives the rest of a frame up.

    What lies between frames is counted as "bytes between frames", one without an end as "frame without an end".
    """

    _SIGNS = re.compile(rb"[\x02\x03\x04]")

    def __init__(self) -> None:
        self.thrown: Counter[str] = Counter()
        self._rest: bytearray | None = None  # of the frame that has begun; None: between frames
        self._garbage = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes, without STX and ETX."""
        frames, at = [], 0
        for sign in self._SIGNS.finditer(chunk):
            self._keep(chunk[at : sign.start()])
            at = sign.end()
            if sign[0] == b"\x03":
                if self._rest is not None:
                    frames.append(bytes(self._rest))
                self._rest = None
                continue
            if self._rest is not None:
                self.thrown["frame without an end"] += 1
            self._rest = bytearray() if sign[0] == b"\x02" else None
            self._garbage = False
        self._keep(chunk[at:])
        return frames

    def _keep(self, piece: bytes) -> None:
        if self._rest is None:
            if piece and not self._garbage:
                self._garbage = True
                self.thrown["bytes between frames"] += 1
            return
        self._rest += piece
        if len(self._rest) > LONGEST:
            self.thrown["frame without an end"] += 1
            self._rest, self._garbage = None, True


def decode(frame: bytes) -> dict[str, Value]:
    """Return what a frame says, by metric; `time` is the meter's own, in UTC seconds, if it knows it.

    Raises ValueError when one of its groups is not sound: half a frame is no reading.
    """
    try:
        text = frame.decode("ascii")
    except ValueError:
        raise ValueError("not ASCII") from None
    if len(text) < 2 or text[0] != "\n" or text[-1] != "\r":
        raise ValueError("not groups of LF and CR")
    values: dict[str, Value] = {}
    for group in text[1:-1].split("\r\n"):
        label, time, value = _group(group)
        if label == "DATE":
            if (seconds := _seconds(time)) is not None:
                values["time"] = seconds
        elif label in _NUMBERS:
            name, unit = _NUMBERS[label]
            found = number(value, unit)
            if found is None:
                raise ValueError("not a number")
            values[name] = found
        elif label in _TEXTS and _PRINTED.fullmatch(value):
            values[_TEXTS[label]] = value.strip(" .")
    if not values.keys() - {"time"}:
        raise ValueError("no values in it")
    return values


def _group(group: str) -> tuple[str, str, str]:
    """Return label, time ("" if there is none) and value. Raises ValueError for what is no group."""
    separator = group[-2:-1]
    covered = group[:-1] if separator == "\t" else group[:-2]
    if separator not in ("\t", " ") or chr((sum(covered.encode()) & 0x3F) + 0x20) != group[-1]:
        raise ValueError("wrong checksum")
    parts = group[:-2].split(separator, 1 if separator == " " else 2)
    label, time, value = parts if len(parts) == 3 else (parts[0], "", parts[-1])
    timed = len(parts) == 3 or label == "DATE"
    if len(parts) < 2 or not _LABEL.fullmatch(label) or (timed and not _TIME.fullmatch(time)):
        raise ValueError("not a group")
    return label, time, value


def _seconds(time: str) -> float | None:
    """Return the UTC seconds of a time such as `H081225223518` (H winter, E summer); None if the meter doubts it.

    Nor is a time before 2008 one: a clock that was never set begins in 1970 or 2000.
    """
    zone = {"H": "+0100", "E": "+0200"}.get(time[:1])
    if zone is None:
        return None
    try:
        seconds = datetime.strptime(time[1:] + zone, "%y%m%d%H%M%S%z").timestamp()
    except ValueError:
        return None
    return seconds if seconds >= _FIRST else None
