"""Frames that were published in data sheets or captured by others: what they say, and what is written to devices."""

from __future__ import annotations

import struct

import pytest

from adapters.frames import a02yyuw, cse7766, nova, plantower, rdm6300, sensirion_shdlc, winsen
from gateway import Value
from tests.adapters.frames.encoders import FORMATS, cse7766_frame, mhz19, pms, read, sds011_confirmation, shdlc, tag


@pytest.mark.parametrize(
    ("name", "frame", "expected"),
    [
        (
            "plantower",
            "424d001c00000008000800000008000800d20046002d001e00000000970002c5",
            {"pm1": 0, "pm2_5": 8, "pm10": 8, "pm2_5_cf1": 8, "particles_0_3": 210, "particles_2_5": 30},
        ),
        # A PMS3003, and a PMS5003T: captures in the tests of PyPMS (PMS3003.hexdump, PMS5003T.hexdump).
        ("plantower", "424d001400000000000000000000000000000000005100f4", {"pm1": 0, "pm10": 0}),
        (
            "plantower-t",
            "424d001c001700270029001600230029100804a90116000c00d400e09a0004aa",
            {"pm1": 22, "pm2_5": 35, "pm10": 41, "particles_0_3": 4104, "temperature": 21.2, "humidity": 22.4},
        ),
        ("nova", "aa c0 06 00 06 00 58 d9 3d ab", {"pm2_5": 0.6, "pm10": 0.6}),
        ("winsen", "ff 86 02 7c 42 00 00 00 ba", {"co2": 636, "temperature": 26}),
        ("a02yyuw", "ff 07 a1 a7", {"distance": 1953}),
        # The voltage: 0x02F760 / 0x0003AB.
        (
            "cse7766",
            "55 5A 02 F7 60 00 03 AB 00 40 10 02 60 5D 51 A6 58 03 E9 EF 71 0B 7A 36",
            {"voltage": 207.029, "current": 0.105, "power": 20.862, "energy": 0.0},
        ),
        # Valid are voltage and current, not the power: less than some 5 W.
        (
            "cse7766",
            "55 5A 02 F7 60 00 03 5A 00 40 10 04 8B 9F 51 A6 58 18 72 75 61 AC A1 30",
            {"voltage": 226.573, "current": 0.0, "power": 0.0},
        ),
        # No load: the power's cycle takes too long.
        (
            "cse7766",
            "F2 5A 02 F7 60 00 03 61 00 40 10 05 72 40 51 A6 58 63 10 1B E1 7F 4D 4E",
            {"voltage": 224.74, "current": 0.0, "power": 0.0},
        ),
    ],
)
def test_a_published_frame_says_what_was_published(name: str, frame: str, expected: dict[str, Value]) -> None:
    """The decoders read real frames, and not only those of our own encoders."""
    (values,) = read(FORMATS[name], bytes.fromhex(frame))
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("written", "published"),
    [
        (winsen.read(), "ff 01 86 00 00 00 00 00 79"),
        (winsen.self_calibration(True), "ff 01 79 a0 00 00 00 00 e6"),
        (winsen.self_calibration(False), "ff 01 79 00 00 00 00 00 86"),
        (sensirion_shdlc.start(), "7e 00 00 02 01 03 f9 7e"),
        (sensirion_shdlc.read(), "7e 00 03 00 fc 7e"),
        (nova.work(), "aa b4 06 01 01 00 00 00 00 00 00 00 00 00 00 ff ff 06 ab"),
        (nova.report(), "aa b4 02 01 00 00 00 00 00 00 00 00 00 00 00 ff ff 01 ab"),
        (nova.period(1), "aa b4 08 01 01 00 00 00 00 00 00 00 00 00 00 ff ff 08 ab"),
        (nova.period(0), "aa b4 08 01 00 00 00 00 00 00 00 00 00 00 00 ff ff 07 ab"),
    ],
)
def test_a_command_is_written_as_published(written: bytes, published: str) -> None:
    """What is written to a device is what its maker says."""
    assert written == bytes.fromhex(published)


def test_a_confirmation_is_told_from_a_reading_and_from_another_one() -> None:
    """A command is done when the sensor has repeated it, and not when it says anything."""
    command = nova.period(5)
    (frame,) = nova.framer().feed(sds011_confirmation(command, 0x60A1))
    assert nova.confirms(frame, command)
    assert not nova.confirms(frame, nova.period(6))
    assert not nova.confirms(frame, nova.work())
    assert nova.decode(frame) == {}
    (reading,) = nova.framer().feed(bytes.fromhex("aa c0 06 00 06 00 58 d9 3d ab"))
    assert not nova.confirms(reading, command)
    with pytest.raises(ValueError, match="0 to 30"):
        nova.period(31)


def test_a_pms_that_reports_an_error_says_which() -> None:
    """An error of the sensor is a value of its own, and there is none while it is well."""
    words = list(range(13))
    assert "error_code" not in read(FORMATS["plantower"], pms([*words[:12], 0x9700]))[0]
    assert read(FORMATS["plantower"], pms([*words[:12], 0x9701]))[0]["error_code"] == 1
    assert set(read(FORMATS["plantower"], pms(words[:9]))[0]) == {
        f"pm{size}{kind}" for size in ("1", "2_5", "10") for kind in ("", "_cf1")
    }


@pytest.mark.parametrize("frame", ["ff 00 00 ff", "ff 00 1d 1c", "ff 3a 99 d2", "ff ff fd fb", "ff ff fe fc"])
def test_no_echo_is_no_distance(frame: str) -> None:
    """What is too near, too far to be heard, or a word for no echo at all, is no reading."""
    (found,) = a02yyuw.framer().feed(bytes.fromhex(frame))
    with pytest.raises(ValueError, match="no echo"):
        a02yyuw.decode(found)


MASSES = [1, 2, 3, 4, 5, 6]


def test_relatives_of_the_pms5003_measure_other_things() -> None:
    """Formaldehyde, temperature and humidity stand where their manuals say, and are no counts or errors."""
    counts = [100, 90, 80, 70]
    t = plantower.decode(pms([*MASSES, *counts, 0x10000 - 55, 403, 0x9700]), "PMS5003T")
    assert (t["temperature"], t["humidity"], t["particles_2_5"]) == (-5.5, 40.3, 70)
    assert not {"particles_5", "error_code", "formaldehyde"} & t.keys()
    s = plantower.decode(pms([*MASSES, *counts, 2, 1, 0x0105]), "PMS5003S")
    assert (s["formaldehyde"], s["particles_10"]) == (0x0105, 1)
    assert "error_code" not in s
    st = plantower.decode(pms([*MASSES, *counts, 2, 1, 31, 0x10000 - 1, 1000, 0, 0x9703]))
    assert (st["formaldehyde"], st["temperature"], st["humidity"], st["error_code"]) == (31, -0.1, 100.0, 3)


def test_an_mhz19_without_a_temperature_says_none() -> None:
    """Firmware that leaves the byte empty does not make a frost of 40 degrees."""
    assert winsen.decode(mhz19(636, -40)) == {"co2": 636}


def test_whole_numbers_of_an_sps30_are_read_as_well() -> None:
    """Another program may have started it with the other format, in which the size of particles is in nm."""
    (frame,) = sensirion_shdlc.framer().feed(shdlc(3, 0, struct.pack(">10H", *range(1, 10), 812)))
    values = sensirion_shdlc.decode(frame)
    assert (values["pm1"], values["particles_10"], values["particle_size"]) == (1, 9, 0.812)


def test_an_own_question_is_no_answer() -> None:
    """A shorted line that sends the question back does not measure."""
    assert winsen.framer().feed(winsen.read() + mhz19(636, 26)) == [mhz19(636, 26)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (shdlc(0x03, 0x43, b""), "not allowed in this state"),
        (shdlc(0x00, 0x04, b""), "parameter out of range"),
        (shdlc(0x03, 0x55, b""), "error 0x55"),
        (shdlc(0x03, 0, b"\0" * 24), "not ten"),
    ],
)
def test_an_error_of_the_sps30_is_said_in_words(answer: bytes, words: str) -> None:
    """What the sensor refuses is not taken for silence."""
    (frame,) = sensirion_shdlc.framer().feed(answer)
    with pytest.raises(ValueError, match=words):
        sensirion_shdlc.decode(frame)


@pytest.mark.parametrize("answer", [shdlc(0, 0, b""), shdlc(0, 0x43, b""), shdlc(3, 0, b"")])
def test_an_sps30_that_measures_already_or_has_nothing_new_says_nothing(answer: bytes) -> None:
    """Neither is an error, and neither is a reading."""
    (frame,) = sensirion_shdlc.framer().feed(answer)
    assert sensirion_shdlc.decode(frame) == {}


def test_a_fault_of_the_sps30_goes_with_its_reading() -> None:
    """A fan that does not turn makes numbers that look fine: the flag stands beside them."""
    data = struct.pack(">10f", *([1.5] * 10))
    (well,) = sensirion_shdlc.framer().feed(shdlc(3, 0, data))
    (ill,) = sensirion_shdlc.framer().feed(shdlc(3, 0x80, data))
    assert sensirion_shdlc.decode(ill) == {**sensirion_shdlc.decode(well), "fault": True}


def test_bytes_between_flags_are_bounded() -> None:
    """A line that never sends a flag costs no memory, and is thrown away once."""
    framer = sensirion_shdlc.framer()
    for _ in range(100):
        assert framer.feed(b"x" * 100) == []
    assert len(framer._rest) <= 520
    assert framer.feed(shdlc(3, 0, b"")) != []
    assert framer.thrown == {"bytes between frames": 1}


PAIRS = [(194400, 939), (16400, 155741), (5351000, 256495)]


def test_energy_is_counted_over_the_end_of_the_counter_and_lost_frames() -> None:
    """The pulses between two frames are energy, also when the counter of 16 bits began again in between."""
    decode = cse7766.decoder()
    assert decode(cse7766_frame(PAIRS, pulses=65530))["energy"] == 0.0
    assert decode(cse7766_frame(PAIRS, pulses=994))["energy"] == round(1000 * 5351000 / 3.6e9, 3)
    # The same as the power, summed up: a pulse takes one cycle.
    seconds, power = 1000 * 256495e-6, 5351000 / 256495
    assert round(power * seconds / 3600, 3) == round(1000 * 5351000 / 3.6e9, 3)


@pytest.mark.parametrize(("state", "words"), [(0xAA, "never calibrated"), (0xF1, "damaged")])
def test_a_chip_without_calibration_gives_no_reading(state: int, words: str) -> None:
    """Numbers without their coefficients would be wrong ones."""
    with pytest.raises(ValueError, match=words):
        cse7766.decoder()(cse7766_frame(PAIRS, state=state))


def test_a_quantity_without_a_cycle_is_left_out() -> None:
    """Nothing is divided by zero, and nothing is invented."""
    assert cse7766.decoder()(cse7766_frame([(1, 0), (1, 0), (1, 0)])) == {"energy": 0.0}
    assert "voltage" not in cse7766.decoder()(cse7766_frame(PAIRS, state=0xF8))


def test_a_tag_that_stays_is_one_arrival() -> None:
    """A reading is the event of a tag: when it comes, when another one comes, and when it comes back."""
    first, second = tag(0x0123456789), tag(0x0123456780)
    times = iter([0.0, 0.1, 2.0, 3.9, 6.0, 6.1, 6.2])
    decode = rdm6300.arrivals(2.0, lambda: next(times))
    said = [decode(frame).get("tag") for frame in (first, first, first, first, first, second, first)]
    assert said == ["0123456789", None, None, None, "0123456789", "0123456780", "0123456789"]


def test_the_number_on_a_tag_is_its_lower_32_bits() -> None:
    """The ten decimal digits that are printed on tags."""
    assert rdm6300.decode(b"\x020F0184F07A00\x03") == {"tag": "0F0184F07A", "number": 0x0184F07A}


def test_a_tag_in_lower_case_is_thrown_away() -> None:
    """A flipped bit that makes a small letter of a big one does not pass."""
    framer = rdm6300.framer()
    assert framer.feed(b"\x020F0184F07A00\x03".lower()) == []
    assert framer.feed(b"\x020F0184F07A00\x03") == [b"\x020F0184F07A00\x03"]


def test_readings_come_once_in_an_interval_and_energy_of_all_frames_counts() -> None:
    """Eighteen frames a second are one reading a second, without drift, or a burst after a pause, or lost energy."""
    times = [0.0, 0.05, 0.99, 1.04, 1.9, 2.0, 5.5, 5.6, 6.5]
    clock = iter(times)
    decode = cse7766.every(1.0, lambda: next(clock))
    said = [decode(cse7766_frame(PAIRS, pulses=10 * number)) for number in range(len(times))]
    assert [time for time, values in zip(times, said, strict=True) if values] == [0.0, 1.04, 2.0, 5.5, 6.5]
    assert said[-1]["energy"] == round(80 * 5351000 / 3.6e9, 3)


def test_without_an_interval_every_frame_is_a_reading() -> None:
    """Who wants all eighteen gets them."""
    decode = cse7766.every(0.0, lambda: 1.0)
    assert all(decode(cse7766_frame(PAIRS)) for _ in range(5))
