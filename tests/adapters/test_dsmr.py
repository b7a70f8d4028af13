"""A meter at its P1 port that ciphers what it says: the key, and what is said when it is another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.frames.ciphered import LONGEST, CipheredFramer
from adapters.serial.dsmr import Dsmr
from gateway.config import ConfigError, load
from tests.adapters.frames.meters import AUTHENTICATION, DSMR_LINES, KEY, ciphered, p1
from tests.adapters.notebook import Notebook

TELEGRAM = p1(["1-3:0.2.8(42)", "1-0:1.8.0(000006.695*kWh)"])
VALUES = {"energy_import": 6.695}
NOT_OPENED = "the key does not fit, or the telegram is damaged"


@pytest.fixture
def key(tmp_path: Path) -> dict[str, str]:
    """Return where the key is."""
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    return {"file": str(tmp_path / "key")}


def said(stream: bytes, **keys: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the readings of a stream, and what is thrown away of it."""
    notes = Notebook()
    adapter = Dsmr(port="/dev/null", **keys)
    device = notes.device("m", adapter)
    assert adapter.taker(device)(stream) is None
    return notes.of("m"), device.skipped


def test_with_its_key_a_meter_is_read(key: dict[str, str]) -> None:
    """What is ciphered says what it says in plain text, one telegram after the other, with noise in between."""
    stream = ciphered(TELEGRAM, counter=1) + b"\xdb\x08 noise" + ciphered(TELEGRAM, counter=2)
    assert said(stream, key=key) == ([VALUES, VALUES], {"bytes between frames": 1})


def test_another_key_gives_no_reading_and_says_so(key: dict[str, str], tmp_path: Path) -> None:
    """A wrong digit in the key is told from a dead line: it does not fit, and nothing of it is a reading."""
    (tmp_path / "key").write_text((bytes([KEY[0] ^ 1]) + KEY[1:]).hex())
    assert said(ciphered(TELEGRAM), key=key) == ([], {NOT_OPENED: 1})


def test_what_is_authenticated_beside_it_may_be_another(key: dict[str, str]) -> None:
    """Another operator's authentication key is given with or without the 30 before it; a wrong one opens nothing."""
    plain = AUTHENTICATION[1:].hex()
    for given_as in (plain, plain.upper(), f"30{plain}"):
        assert said(ciphered(TELEGRAM), key=key, authentication=given_as)[0] == [VALUES]
    assert said(ciphered(TELEGRAM), key=key, authentication="0" * 32) == ([], {NOT_OPENED: 1})


def test_without_a_key_a_ciphered_meter_is_noise(key: dict[str, str]) -> None:
    """Nothing of it is taken for a telegram; nor is, with a key, one in plain text."""
    assert said(ciphered(TELEGRAM)) == ([], {"bytes between frames": 1})
    assert said(TELEGRAM, key=key) == ([], {"bytes between frames": 1})


@pytest.mark.parametrize("text", ["", "00", "0" * 31, "0" * 33, "g" * 32, KEY.hex() + " " + KEY.hex()])
def test_a_key_that_is_none_is_refused_and_not_shown(text: str, key: dict[str, str]) -> None:
    """A key is 32 hexadecimal digits; whatever stands in its place appears in no message."""
    Path(key["file"]).write_text(text)
    with pytest.raises(ValidationError) as refusal:
        Dsmr(port="/dev/null", key=key)
    assert "hexadecimal" in str(refusal.value) or "is empty" in str(refusal.value)
    assert not text or text not in str(refusal.value).replace(key["file"], "")


def test_a_key_in_the_config_itself_is_refused(tmp_path: Path) -> None:
    """A secret does not stand in the config, and the message does not repeat it."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[uplinks.a]\nbrokers = ["mqtt://localhost"]\n'
        f'[devices.m]\nadapter = "dsmr"\nport = "/dev/null"\nkey = "{KEY.hex()}"\nauthentication = "no"\n'
    )
    with pytest.raises(ConfigError) as refusal:
        load(config)
    assert "a secret does not stand in the config itself" in str(refusal.value)
    assert "32 hexadecimal digits, with or without 30" in str(refusal.value)
    assert KEY.hex() not in str(refusal.value)


WITHOUT = """
import sys
sys.modules["cryptography"] = None
from adapters.serial.dsmr import Dsmr
Dsmr(port="/dev/null").framer()
try:
    Dsmr(port="/dev/null", key={"env": "KEY"}).framer()
except OSError as error:
    print(error)
"""


def test_without_the_package_it_says_what_to_install() -> None:
    """A meter that needs AES waits for the package, with its reason; all others do without."""
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT], env=os.environ | {"KEY": KEY.hex()}, capture_output=True, text=True, check=True
    )
    assert "pip install 'sensor-gateway[crypto]'" in told.stdout


@given(DSMR_LINES.map(p1), st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16))
def test_what_was_ciphered_comes_out_as_it_was(telegram: bytes, counter: int, key: bytes) -> None:
    """Whatever the key and the counter, deciphering is the reverse, and another key opens nothing."""
    wire = ciphered(telegram, key=key, counter=counter)
    assert CipheredFramer(key, AUTHENTICATION).feed(wire) == [telegram]
    other = CipheredFramer(bytes([key[0] ^ 0x80]) + key[1:], AUTHENTICATION)
    assert other.feed(wire) == []
    assert other.thrown[NOT_OPENED] >= 1  # more, where something within looks like a header


@pytest.mark.parametrize("written", [0x81, 2, 4])
def test_each_way_to_write_a_length_is_read(written: int) -> None:
    """One byte, or the number of bytes and as many; also where fewer would do."""
    telegram = p1(["1-0:1.8.0(000006.695*kWh)"])
    wire = ciphered(telegram, written=0 if written == 0x81 else written)
    if written == 0x81:
        assert wire[10] < 0x80
        wire = wire[:10] + b"\x81" + wire[10:]
    assert CipheredFramer(KEY, AUTHENTICATION).feed(wire) == [telegram]


def test_a_length_beyond_all_telegrams_keeps_nothing_waiting() -> None:
    """A header that is noise and promises more than any meter says is passed over at once."""
    framer = CipheredFramer(KEY, AUTHENTICATION)
    noise = b"\xdb\x08" + bytes(8) + b"\x84" + (LONGEST + 1).to_bytes(4, "big") + b"\x30" + bytes(4)
    assert framer.feed(noise + ciphered(TELEGRAM)) == [TELEGRAM]
