"""What meters, receivers and scales say: the rules of each format that no law over all of them shows."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import checksums, dsmr, iec62056_21, nmea, obis, scales, sml, suffix, teleinfo, vedirect
from adapters.frames.telegrams import TelegramFramer
from adapters.frames.text import key_value_decoder
from tests.adapters.frames import meters
from tests.adapters.frames.meters import element, p1, sentence, tic, victron


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("1.8.0", "energy_import"),
        ("2.8.2", "energy_export_tariff_2"),
        ("21.8.0", "energy_import_l1"),
        ("3.8.1", "reactive_energy_import_tariff_1"),
        ("1.7.0", "power_import"),
        ("16.7.0", "power"),
        ("36.7.0", "power_l1"),
        ("62.7.0", "power_export_l3"),
        ("72.7.0", "voltage_l3"),
        ("31.7.0", "current_l1"),
        ("91.7.0", "current_n"),
        ("14.7.0", "frequency"),
        ("1.4.0", "power_import_average"),
        ("1.6.0", "power_import_peak"),
        ("1.7.1", None),
        ("11.8.0", None),
        ("96.1.0", None),
        ("99.97.0", None),
        ("32.7", "voltage_l1"),
        ("16.7", "power"),
        ("1.8", None),
        ("6.26", None),
        ("F.F.0", None),
        ("20.7.0", None),
        ("0.0.0", None),
    ],
)
def test_a_code_has_one_name(code: str, name: str | None) -> None:
    """The same code is the same metric, whatever the meter speaks; what is not known has no name."""
    assert obis.metric(code) == name


@given(st.integers(0, 10**12), st.integers(0, 6), st.sampled_from(["Wh", "kWh", "MWh", "W", "kW", "V", "A", "mA"]))
def test_a_number_is_exact_in_its_unit(digits: int, places: int, unit: str) -> None:
    """What a meter writes comes out as the same decimal number, moved to the one unit of its kind."""
    text = f"{Decimal(digits).scaleb(-places):f}"
    power = {"Wh": -3, "MWh": 3, "kW": 3, "mA": -3}.get(unit, 0)
    assert obis.quantity(f"{text}*{unit}") == float(Decimal(text).scaleb(power))


def test_a_unit_may_stand_after_a_space() -> None:
    """Some meters, as Iskra's MT171, write no star before the unit."""
    assert obis.quantity("0000123 kWh") == obis.quantity("0000123*kWh") == obis.quantity("0000123*kWh ") == 123.0
    assert obis.quantity("0000123 times") is None


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "1e5", "nan", "1*furlong", "9" * 40, "0x1F*kWh", "1_0"])
def test_what_is_no_number_is_none(text: str) -> None:
    """Nothing but digits with a known unit is a number."""
    assert obis.quantity(text) is None


def test_a_telegram_that_ought_to_have_a_checksum_needs_one() -> None:
    """A version 5 telegram whose checksum was lost is not taken for one of version 2.2."""
    lines = ["1-3:0.2.8(50)", "1-0:1.8.1(000001.000*kWh)"]
    assert dsmr.decode(p1(lines)) == {"energy_import_tariff_1": 1.0}
    with pytest.raises(ValueError, match="wrong checksum"):
        dsmr.decode(p1(lines, checked=False))
    assert dsmr.decode(p1(lines[1:], checked=False)) == {"energy_import_tariff_1": 1.0}


def test_two_meters_of_a_kind_are_told_apart() -> None:
    """Each meter on the bus has its name, by its kind and, if that is taken, its channel."""
    lines = ["0-1:24.1.0(003)", "0-1:24.2.1(230115130000W)(00001.000*m3)"]
    lines += ["0-2:24.1.0(003)", "0-2:24.2.1(230715130000S)(00002.000*m3)"]
    lines += ["0-3:24.1.0(099)", "0-3:24.2.1(230115130000X)(00003.000*m3)", "0-4:24.2.1(00004.000*m3)"]
    winter, summer = 1673784000.0, 1689418800.0
    assert dsmr.decode(p1(lines)) == {
        "gas": 1.0,
        "gas_time": winter,
        "gas_2": 2.0,
        "gas_2_time": summer,
        "meter_3": 3.0,
        "meter_4": 4.0,
    }


@pytest.mark.parametrize(
    ("written", "heat"),
    [("00240.860*GJ", 240.86), ("240860*MJ", 240.86), ("001000.5*kWh", 3.6018), ("1.0005*MWh", 3.6018)],
)
def test_heat_is_in_gigajoules_whatever_its_meter_counts(written: str, heat: float) -> None:
    """A metric has one unit: what a heat meter says in kWh is the same heat."""
    assert dsmr.decode(p1(["0-1:24.1.0(012)", f"0-1:24.2.1(230115130000W)({written})"]))["heat"] == heat


def test_a_meter_that_is_gone_has_no_value_and_no_name() -> None:
    """The place of a gas meter that was replaced stays in the telegram, without a unit; the new one is `gas`."""
    lines = ["0-1:24.1.0(003)", "0-1:24.2.1(700101010000W)(00000000)", "0-2:24.1.0(003)", "0-2:24.2.1(00246.138*m3)"]
    assert dsmr.decode(p1(lines)) == {"gas": 246.138}


def test_what_is_measured_needs_its_unit_and_what_is_counted_has_none() -> None:
    """Without a unit a power may be watts or kilowatts: it is left out, and not a thousand times too small."""
    lines = ["1-0:1.8.0(000006.695*kWh)", "1-0:4.7.0(00.007)", "0-0:17.0.0(77.376)", "0-0:96.7.21(00069)"]
    assert dsmr.decode(p1(lines)) == {"energy_import": 6.695, "power_failures": 69}


def test_a_limit_of_a_phase_is_no_average() -> None:
    """Code x.4.0 of a current is its threshold on the P1 port, in each phase; Luxembourg's says inward and outward."""
    lines = ["1-1:31.4.0(100*A)(-063*A)", "1-0:51.4.0(200.00*A)", "1-0:71.4.0(200.00*A)", "1-0:1.4.0(02.351*kW)"]
    assert dsmr.decode(p1(lines)) == {
        "fuse_limit": 100.0,
        "fuse_limit_l2": 200.0,
        "fuse_limit_l3": 200.0,
        "power_import_average": 2351.0,
    }


@pytest.mark.parametrize(("offset", "hours"), [(1, 0), (2, -1), (0, 1)])
def test_a_meter_of_another_zone_has_its_time(offset: int, hours: int) -> None:
    """S is an hour more than the winter time, which is what the config says."""
    lines = ["1-3:0.2.8(50)", "0-0:1.0.0(230715133000S)", "1-0:1.8.0(1.5*kWh)"]
    lines += ["0-1:24.1.0(003)", "0-1:24.2.1(230115130000W)(00001.000*m3)"]
    values = dsmr.decode(p1(lines), offset)
    assert (values["time"], values["gas_time"]) == (1689420600.0 + 3600 * hours, 1673784000.0 + 3600 * hours)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ["/KFM5KAIFA-METER", "/HLY5/D545-METER"])
def test_a_stroke_within_a_line_begins_no_telegram(name: str, checked: bool) -> None:
    """A Holley DTSD545 has one in its name, and people write them in messages: the telegram is whole all the same."""
    text = [name, "", "1-0:1.8.1(00001.001*kWh)", "0-0:96.13.0(this/that4 -/-)", "1-0:1.8.2(00002.002*kWh)", "!"]
    body = "\r\n".join(text).encode()
    telegram = body + (f"{meters.crc16(body, 0, 0):04X}" if checked else "").encode() + b"\r\n"
    framer = TelegramFramer()
    found = [dsmr.decode(frame) for byte in telegram * 2 for frame in framer.feed(bytes([byte]))]
    assert found == [{"energy_import_tariff_1": 1.001, "energy_import_tariff_2": 2.002}] * 2
    assert not framer.thrown


@given(st.integers(1, 150))
def test_a_torn_telegram_does_not_cost_the_one_after_it(length: int) -> None:
    """Wherever a telegram breaks off, also within a line, the next one is read, and nothing of the torn one."""
    whole = p1(["1-0:1.8.1(00001.001*kWh)", "1-0:2.8.1(00009.009*kWh)", "1-0:2.8.2(00008.008*kWh)"], checked=False)
    other = p1(["1-0:1.8.1(00003.003*kWh)"], checked=False)
    framer = TelegramFramer()
    found = [dsmr.decode(frame) for frame in framer.feed(whole[: min(length, whole.index(b"!"))] + other)]
    assert found == [{"energy_import_tariff_1": 3.003}]
    assert framer.thrown == {"frame without an end": 1}


DZG = b"\x0a\x01DZG"


@pytest.mark.parametrize(
    ("number", "value", "power"),
    [
        (42_082_910, -29912, 356.24),  # as captured
        (55_000_000, -1, 655.35),
        (60_694_611, -10550, -105.5),  # as captured, of a later one
        (54_999_999, -1, -0.01),
    ],
)
def test_a_dvs74_writes_its_power_without_a_sign(number: int, value: int, power: float) -> None:
    """By its number it is told which firmware has that defect; another meter's power keeps its sign."""
    server = DZG + number.to_bytes(5, "big")
    entry = [b"\1\0\x10\7\0\xff", None, None, meters.unsigned(27, 1), meters.integer(-2, 1), meters.integer(value, 2)]
    listed = [None, server, None, None, [[*entry, None]], None, None]
    assert sml.decode(meters.sml_message(0x0701, listed)) == {"power": power}
    entry[5] = meters.integer(-126061, 4)
    listed[4] = [[*entry, None]]
    assert sml.decode(meters.sml_message(0x0701, listed)) == {"power": -1260.61}


@pytest.mark.parametrize(("status", "power"), [(0x182, 126.6), (0x1A2, -126.6), (0x1B0, -126.6), (0x1C0104, None)])
def test_the_direction_of_a_power_is_in_the_status_of_a_counter(status: int, power: float | None) -> None:
    """Meters by FNN's EDL say an amount and a bit; others use these bits for other things, and nothing is guessed."""
    entries = [
        [b"\1\0\1\x08\0\xff", meters.unsigned(status, 4), None, meters.unsigned(30, 1), None, meters.integer(7), None],
        [b"\1\0\x0f\7\0\xff", None, None, meters.unsigned(27, 1), meters.integer(-1, 1), meters.integer(1266), None],
    ]
    values = sml.decode(meters.sml_message(0x0701, [None, b"server", None, None, entries, None, None]))
    expected = {"energy_import": 0.007, "power_absolute": 126.6}
    assert values == expected | ({} if power is None else {"power": power})


def test_another_checksum_of_sml_is_taken_only_where_it_is_asked_for() -> None:
    """A file whose checksum is Kermit's is damaged to everybody who has not said that it is of such a meter."""
    file = meters.sml_file(meters.sml_content([(b"\1\0\1\x08\0\xff", 30, -1, 5)]))
    odd = file[:-2] + (meters.crc16(file[:-2], 0, 0xFFFF) ^ 0xFFFF).to_bytes(2, "little")
    for checksum, good, bad in (("x25", file, odd), ("kermit", odd, file)):
        framer = sml.SmlFramer(checksum)
        assert len(framer.feed(good + bad + good)) == 2
        assert framer.thrown["wrong checksum"] == 1


@pytest.mark.parametrize(
    "time", ["000101000000W", "700101010000S", "231515000000W", "230115133000", "230115133000X", ""]
)
def test_a_clock_that_was_never_set_gives_no_time(time: str) -> None:
    """A reading of a meter whose clock says nonsense has the gateway's time."""
    assert dsmr.decode(p1([f"0-0:1.0.0({time})", "1-0:1.8.0(1.5*kWh)"])) == {"energy_import": 1.5}


def test_a_readout_is_no_p1_telegram() -> None:
    """What a mode D meter sends looks like a telegram of DSMR 2.2, and is told from it by how it writes its codes."""
    for code in ("1-0:1.8.0*255", "1.8.0"):
        readout = meters.readout([f"{code}(000001.5*kWh)", "96.7.21(00007)"])
        assert iec62056_21.decode(readout) == {"energy_import": 1.5}
        with pytest.raises(ValueError, match="no values"):
            dsmr.decode(readout)


def nested(depth: int) -> bytes:
    return b"\x71" * depth + b"\x01"


@pytest.mark.parametrize("content", [nested(5000), b"\xf1\x01" * 3000, b"\xff" * 5000, b"\x7f" * 5000, b"\x8f\x8f\x8f"])
def test_sml_is_bounded(content: bytes) -> None:
    """Lists in lists without end, and lengths beyond the file, are refused and not followed."""
    with pytest.raises(ValueError, match=r"nested|ends within"):
        sml.decode(content)


@given(
    st.recursive(
        st.one_of(st.none(), st.binary(min_size=1, max_size=40)), lambda v: st.lists(v, max_size=9), max_leaves=20
    )
)
def test_sml_values_round_trip(value: object) -> None:
    """Whatever is written as SML, within its bounds, is what is read."""
    wire = element(value)
    assert sml._element(wire, 0, 100) == (value, len(wire))


@given(st.binary(max_size=60), st.lists(st.sampled_from([b"\x1b", b"\x1b" * 4, b"\x01" * 4, b"\x1a\x00"]), max_size=12))
def test_sml_escapes_round_trip(noise: bytes, signs: list[bytes]) -> None:
    """Whatever stands in a file, also the signs of its own frame in any order, arrives as it was."""
    content = noise + b"".join(signs)
    assert sml.SmlFramer().feed(meters.sml_file(content)) == [content]


def test_the_doubted_time_of_a_meter_is_not_used() -> None:
    """Small letters before a Teleinfo time say that the clock is not to be trusted."""
    energy = ("EAST", "001234567")
    assert teleinfo.decode(tic([("DATE", "E230715133000", ""), energy])[1:-1])["time"] == 1689420600.0
    for doubted in ("e230715133000", " 230715133000", "E239915133000", "H000101000000"):
        assert teleinfo.decode(tic([("DATE", doubted, ""), energy])[1:-1]) == {"energy_import": 1234.567}


def test_a_time_of_day_is_of_the_day_that_is_nearest() -> None:
    """GGA says no date: it is of the day of the last RMC, also across midnight in either direction."""
    decode = nmea.decoder()
    fix = "{},4717.1,N,00833.9,E,1,08,1.0,500.0,M,48.0,M,,"
    assert "time" not in decode(sentence("GPGGA," + fix.format("235959.00")).strip())
    rmc = decode(sentence("GPRMC,235959.00,A,4717.1,N,00833.9,E,,,311222,,,A").strip())
    assert rmc["time"] == 1672531199.0
    assert decode(sentence("GPGGA," + fix.format("000001.00")).strip())["time"] == 1672531201.0
    assert decode(sentence("GPGGA," + fix.format("235958.00")).strip())["time"] == 1672531198.0


@pytest.mark.parametrize(
    "text",
    [
        "GPGGA,1",
        "GPGGA,250000.00,4717.1,N,00833.9,E,1,08,1.0,500.0,M,48.0,M,,",
        "GPRMC,000000,A,9917.1,N,00833.9,E,1.0,1.0,010123,,,A",
        "GPRMC,000000,A,4760.1,N,00833.9,E,1.0,1.0,010123,,,A",
        "GPRMC,000000,A,4717.1,X,00833.9,E,1.0,1.0,010123,,,A",
        "GPRMC,000000,A,4717.1,N,00833.9,E,1.0,1.0,320123,,,A",
        "GPHDT,1e5,T",
        "GPHDT,nan,T",
    ],
)
def test_a_sentence_that_makes_no_sense_is_refused(text: str) -> None:
    """A right checksum does not make a position of what is none."""
    with pytest.raises(ValueError, match=r"."):
        nmea.decoder()(sentence(text).strip())


@given(st.integers(-899999999, 899999999), st.integers(-1799999999, 1799999999))
def test_a_position_round_trips(latitude: int, longitude: int) -> None:
    """What a receiver writes in degrees and minutes is what comes out in degrees, to a part of a millimetre."""

    def written(value: int, width: int, signs: str) -> str:
        degrees, rest = divmod(abs(value), 10**7)
        return f"{degrees:0{width}}{Decimal(rest * 60).scaleb(-7):010.7f},{signs[value < 0]}"

    text = f"GPGLL,{written(latitude, 2, 'NS')},{written(longitude, 3, 'EW')},,A,A"
    values = nmea.decoder()(sentence(text).strip())
    assert values["latitude"] == pytest.approx(latitude / 1e7, abs=1e-8)
    assert values["longitude"] == pytest.approx(longitude / 1e7, abs=1e-8)


def test_a_checksum_may_be_a_colon() -> None:
    """In its place, the byte that begins a HEX line is a checksum."""
    for voltage in range(12000, 12600):
        wire = victron([("V", str(voltage))])
        if wire.endswith(b":"):
            break
    assert wire.endswith(b":")
    framer = vedirect.VeDirectFramer()
    assert [vedirect.decode(frame) for frame in framer.feed(wire + wire)] == [{"voltage": voltage / 1000}] * 2


def test_a_block_that_lost_bytes_to_no_hex_line_is_refused() -> None:
    """One wrong bit makes a 2 a colon; what seems to be a HEX line then may weigh nothing in the sum."""
    wire = victron([("V", "20077"), ("I", "5")])
    torn = wire.replace(b"20077", b":0077")
    framer = vedirect.VeDirectFramer()
    assert (sum(wire) - sum(b"20077")) % 256 == 0
    assert [vedirect.decode(frame) for frame in framer.feed(torn + wire)] == [{"voltage": 20.077, "current": 0.005}]
    assert framer.thrown == {"wrong checksum": 1}


@given(st.data())
def test_hex_lines_may_come_anywhere(data: st.DataObject) -> None:
    """The HEX protocol interrupts a block at any byte, and is not a part of it."""
    wire = data.draw(meters.PAIRS.map(victron))
    at = data.draw(st.integers(0, len(wire) - 1).filter(lambda at: not wire[:at].endswith(b"Checksum\t")))
    framer = vedirect.VeDirectFramer()
    plain = vedirect.VeDirectFramer().feed(wire)
    assert framer.feed(wire[:at] + b":A0102000543\n" + wire[at:]) == plain
    assert not framer.thrown


@given(
    st.integers(0, 10**9), st.integers(0, 6), st.sampled_from(["+", "-", ""]), st.sampled_from(["kg", "g", "mg", "t"])
)
def test_a_weight_is_exact_in_kilograms(digits: int, places: int, sign: str, unit: str) -> None:
    """What a scale shows is what is published, moved to kilograms digit by digit."""
    number = Decimal(digits).scaleb(-places)
    values = scales.decode(f"ST,NT,{sign} {number:f} {unit}".encode())
    power = {"kg": 0, "g": -3, "mg": -6, "t": 3}[unit]
    assert values["weight"] == float(Decimal(f"{sign}1") * number.scaleb(power))
    assert (values["stable"], values["net"]) == (True, True)


def test_a_tare_is_no_weight() -> None:
    """What a scale lists beside the weight is not mistaken for it."""
    assert scales.decode(b"TR,+  1.000kg") == scales.decode(b"PT,+  1.000kg") == scales.decode(b"1.0 kg T") == {}


COMPUTE = {
    "xor": checksums.xor8,
    "sum": checksums.sum8,
    "crc8-maxim": checksums.crc8_maxim,
    "crc16-arc": checksums.crc16_arc,
    "crc16-modbus": checksums.crc16_modbus,
    "crc16-x25": checksums.crc16_x25,
}


@pytest.mark.parametrize("kind", COMPUTE)
@given(values=st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**6), min_size=1), bit=st.integers(min_value=0))
def test_a_line_with_a_checksum_is_read_or_refused(kind: suffix.Kind, values: dict[str, int], bit: int) -> None:
    """A line with the right checksum says what it says without; with one wrong bit it says nothing else."""
    line = ",".join(f"{name}={value}" for name, value in values.items()).encode()
    digits = 4 if "16" in kind else 2
    wire = line + b"*" + f"{COMPUTE[kind](line):0{digits}X}".encode()
    decode = suffix.checked(key_value_decoder(), kind, "*")
    assert decode(wire) == decode(b"$" + wire) == values
    flipped = bytearray(wire)
    flipped[bit // 8 % len(wire)] ^= 1 << bit % 8
    # A digit of a checksum may have become a small letter.
    if bytes(flipped).upper() != wire.upper():
        with pytest.raises(ValueError, match="checksum"):
            decode(bytes(flipped))
