"""The keys of serial-text: what fits together, and what is refused when the config is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.serial.device import UNREAD
from adapters.serial.text import SerialText
from tests.adapters.notebook import Notebook

PORT = "/dev/ttyUSB0"


@pytest.mark.parametrize(
    "fields",
    [
        {"port": ""},
        {"port": None},
        {"usb": "1a86:7523"},
        {"port": None, "usb": "1a86"},
        {"port": None, "usb_port": "1.2"},
        {"port": None, "usb": "1a86:7523\n"},
        {"port": "tcp://a:1"},
        {"port": "socket://a"},
        {"port": "socket://a:0"},
        {"port": "socket://:1"},
        {"port": "rfc2217://a:70000"},
        {"port": "socket://u:p@a:1"},
        {"port": "socket://a:1/x"},
        {"baudrate": 0},
        {"baudrate": "fast"},
        {"bytesize": 9},
        {"parity": "X"},
        {"stopbits": 3},
        {"format": "xml"},
        {"format": "csv"},
        {"columns": ["a"]},
        {"format": "csv", "columns": ["a", "a"]},
        {"format": "csv", "columns": ["-", "-"]},
        {"format": "csv", "columns": ["a"], "separator": ""},
        {"format": "csv", "columns": ["a"], "separator": '"'},
        {"format": "regex"},
        {"pattern": "(?P<a>x)"},
        {"format": "regex", "pattern": "("},
        {"format": "regex", "pattern": "[0-9]+"},
        {"encoding": "utf-9"},
        {"encoding": "rot13"},
        {"encoding": "utf-16"},
        {"max_line": "8B"},
        {"settle": "2"},
        {"silent_after": "0s"},
        {"time_format": "iso"},
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any]) -> None:
    """A mistake is found when the config is read, not when the first line comes."""
    with pytest.raises(ValidationError):
        SerialText(**{"port": PORT, **fields})


def test_a_port_is_all_that_it_needs() -> None:
    """9600 8N1 and JSON is what a device speaks of which nothing else is said; no two devices share a port."""
    adapter = SerialText(port=PORT)
    assert (adapter.baudrate, adapter.bytesize, adapter.parity, adapter.stopbits) == (9600, 8, "N", 1)
    assert (adapter.format, adapter.max_line) == ("json", 4096)
    assert SerialText.exclusive == ("port", "usb", "usb_port")
    assert SerialText.shared == ()


@given(st.lists(st.binary(max_size=60), max_size=20))
async def test_noise_between_readings_is_never_fatal(noise: list[bytes]) -> None:
    """Whatever comes between them, each whole line is a reading, and all that is no reading is skipped."""
    notes = Notebook()
    adapter = SerialText(port=PORT)
    take = adapter.taker(notes.device("d", adapter))
    for number, piece in enumerate(noise):
        assert take(piece + b'\n{"mark": %d}\n' % number) is None
    assert [values["mark"] for values in notes.of("d") if "mark" in values] == list(range(len(noise)))


async def test_what_cannot_be_read_at_all_is_said_with_what_to_type() -> None:
    """At a wrong speed all is garbage: the log says so once, and which command finds the right one."""
    adapter = SerialText(port=PORT, format="json")
    device = Notebook().device("d", adapter)
    take = adapter.taker(device)
    for _ in range(3 * UNREAD // 64):
        take(b"\xf8\x00\x80\n" * 16)
    hints = {
        reason: count for reason, count in device.skipped.items() if "sensor-gateway detect /dev/ttyUSB0" in reason
    }
    assert list(hints.values()) == [1]


async def test_one_line_that_can_be_read_is_enough() -> None:
    """A device that says little among much is no wrong speed."""
    adapter = SerialText(port=PORT, format="json")
    device = Notebook().device("d", adapter)
    take = adapter.taker(device)
    take(b'{"t": 1}\n')
    for _ in range(3 * UNREAD // 64):
        take(b"hello, world...\n" * 4)
    assert not [reason for reason in device.skipped if "detect" in reason]
