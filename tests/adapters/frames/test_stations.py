"""What weather stations post: names, units, what is left out, and what is never shown."""

from __future__ import annotations

import math
import time
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.frames import stations

# What stations were seen to send, with the key replaced.
# bachya/ecowitt2mqtt, issue 76.
WS2900 = (
    "PASSKEY=00000000000000000000000000000000&stationtype=EasyWeatherV1.5.9&dateutc=2021-08-17+10:27:26&tempinf=74.8"
    "&humidityin=57&baromrelin=29.959&baromabsin=28.252&tempf=60.8&humidity=63&winddir=289&windspeedmph=5.4"
    "&windgustmph=6.9&maxdailygust=18.3&rainratein=0.000&eventrainin=1.421&hourlyrainin=0.000&dailyrainin=0.091"
    "&weeklyrainin=1.421&monthlyrainin=5.020&totalrainin=14.980&solarradiation=216.90&uv=2&wh65batt=0&freq=868M"
    "&model=WS2900_V2.01.13"
)
# cumulusmx/CumulusMX, in the comments of its Ecowitt station.
GW1000 = (
    "PASSKEY=00000000000000000000000000000000&stationtype=GW1000A_V1.6.8&dateutc=2021-07-23+17:13:34&tempinf=80.6"
    "&humidityin=50&baromrelin=29.940&baromabsin=29.081&temp1f=83.48&humidity1=39&temp5f=-11.38&soilmoisture1=51"
    "&pm25_ch1=11.0&pm25_avg_24h_ch1=10.8&tf_co2=80.8&humi_co2=48&pm25_co2=4.8&pm25_24h_co2=6.1&pm10_co2=4.9"
    "&pm10_24h_co2=6.5&co2=493&co2_24h=454&lightning_time=1627039348&lightning_num=3&lightning=24&wh80batt=3.06"
    "&soilbatt1=1.5&freq=868M&model=GW1000_Pro"
)
# WernerKr/Ecowitt-or-DAVIS-stations-and-Season-skin, an issue about WBGT.
WS3900 = (
    "PASSKEY=00000000000000000000000000000000&stationtype=WS3900B_V1.4.8&runtime=621073&heap=74396"
    "&dateutc=2026-07-25+20:20:42&tempf=87.98&humidity=66&bgt=86.00&wbgt=81.14&vpd=0.454&winddir_avg10m=150"
    "&rrain_piezo=0.000&wrain_piezo=0.634&srain_piezo=0&ws90cap_volt=2.4&freq=915M&model=WS3900B&interval=30"
)
# The example of Weather Underground's page, with more of its fields.
WU = (
    "ID=KCASANFR5&PASSWORD=XXXXXX&dateutc=2000-01-01+10%3A32%3A35&winddir=230&windspeedmph=12&windgustmph=12&tempf=70"
    "&rainin=0&baromin=29.1&dewptf=68.2&humidity=90&weather=&clouds=&softwaretype=vws%20versionxx&action=updateraw"
    "&indoortempf=71.6&indoorhumidity=52&soiltempf=50&soiltemp2f=-9999&soilmoisture=20&UV=3&AqPM2.5=4.5"
    "&windspdmph_avg2m=5&realtime=1&rtfreq=5"
)


def decoded(post: str, **more: bool) -> dict[str, object]:
    return dict(stations.decode(dict(parse_qsl(post)), **more))


def test_a_ws2900() -> None:
    """Every field, in °C, hPa, m/s and mm."""
    assert decoded(WS2900) == {
        "temperature_indoor": 23.78,
        "humidity_indoor": 57,
        "pressure_relative": 1014.53,
        "pressure_absolute": 956.72,
        "temperature_outdoor": 16.0,
        "humidity_outdoor": 63,
        "wind_direction": 289,
        "wind_speed": 2.41,
        "wind_gust": 3.08,
        "wind_gust_day": 8.18,
        "rain_rate": 0.0,
        "rain_event": 36.09,
        "rain_hour": 0.0,
        "rain_day": 2.31,
        "rain_week": 36.09,
        "rain_month": 127.51,
        "rain_total": 380.49,
        "solar_radiation": 216.9,
        "uv_index": 2,
        "wh65batt": 0,
    }


def test_a_gw1000_with_many_sensors() -> None:
    """Sensors that there are several of have their number in the name."""
    assert decoded(GW1000) == {
        "temperature_indoor": 27.0,
        "humidity_indoor": 50,
        "pressure_relative": 1013.88,
        "pressure_absolute": 984.8,
        "temperature_1": 28.6,
        "humidity_1": 39,
        "temperature_5": -24.1,
        "soil_moisture_1": 51,
        "pm2_5_1": 11.0,
        "pm2_5_24h_1": 10.8,
        "temperature_air_quality": 27.11,
        "humidity_air_quality": 48,
        "pm2_5_air_quality": 4.8,
        "pm2_5_24h_air_quality": 6.1,
        "pm10_air_quality": 4.9,
        "pm10_24h_air_quality": 6.5,
        "co2": 493,
        "co2_24h": 454,
        "lightning_time": 1627039348,
        "lightning_count": 3,
        "lightning_distance": 24,
        "wh80batt": 3.06,
        "soilbatt1": 1.5,
    }


def test_a_ws3900_with_a_rain_gauge_without_moving_parts() -> None:
    """Its rain is told from that of a bucket; what is not known keeps its name."""
    assert decoded(WS3900) == {
        "runtime": 621073,
        "heap": 74396,
        "temperature_outdoor": 31.1,
        "humidity_outdoor": 66,
        "black_globe_temperature": 30.0,
        "wet_bulb_globe_temperature": 27.3,
        "vapour_pressure_deficit": 15.37,
        "wind_direction_10min": 150,
        "rain_rate_piezo": 0.0,
        "rain_week_piezo": 16.1,
        "rain_state_piezo": 0,
        "ws90cap_volt": 2.4,
        "interval": 30,
    }


def test_weather_underground() -> None:
    """The same names as Ecowitt's, where it is the same; -9999 is a sensor that is not there."""
    assert decoded(WU) == {
        "wind_direction": 230,
        "wind_speed": 5.36,
        "wind_gust": 5.36,
        "temperature_outdoor": 21.11,
        "rain_hour": 0.0,
        "pressure_relative": 985.44,
        "dew_point": 20.11,
        "humidity_outdoor": 90,
        "temperature_indoor": 22.0,
        "humidity_indoor": 52,
        "soil_temperature_1": 10.0,
        "soil_moisture_1": 20,
        "uv_index": 3,
        "pm2_5": 4.5,
        "wind_speed_2min": 2.24,
    }


def test_raw_is_what_was_sent() -> None:
    """Names and numbers of the station, and still nothing that is secret."""
    assert decoded("PASSKEY=1&tempf=60.8&UV=2&x=abc&id=7", metric=False) == {"tempf": 60.8, "UV": 2}


@pytest.mark.parametrize("secret", ["PASSKEY", "passkey", "ID", "PASSWORD", "Password", "MAC"])
@pytest.mark.parametrize("metric", [True, False])
def test_a_secret_is_no_metric_even_if_it_is_a_number(secret: str, metric: bool) -> None:
    """Who posts says who he is with it."""
    assert "1234" not in str(stations.decode({secret: "1234", "tempf": "70"}, metric=metric))


@given(st.dictionaries(st.text(), st.text()))
def test_any_form_is_read_or_refused(fields: dict[str, str]) -> None:
    """Whatever a stranger posts, numbers come out, or ValueError."""
    try:
        values = stations.decode(fields)
    except ValueError:
        return
    assert values
    assert all(type(number) in (int, float) for number in values.values())


@given(st.floats(-100, 200, allow_nan=False))
def test_conversions_are_those_of_the_definitions(number: float) -> None:
    """Each unit by its definition, to a hundredth."""
    found = stations.decode(dict.fromkeys(("tempf", "baromabsin", "windspeedmph", "dailyrainin"), repr(number)))
    expected = ((number - 32) * 5 / 9, number * 33.8638866667, number * 1609.344 / 3600, number * 25.4)
    assert all(
        math.isclose(float(one), other, abs_tol=0.006) for one, other in zip(found.values(), expected, strict=True)
    )


def test_every_field_has_a_name_of_its_own() -> None:
    """Two fields that are the same metric are of two protocols."""
    names = [name for _, name, _ in stations._FIELDS]
    assert len(names) == len(set(names))


def test_times() -> None:
    """UTC, with a space or a T; "now" is none."""
    assert stations.utc("2021-08-17 10:27:26") == stations.utc("2021-08-17T10:27:26") == 1629196046
    assert stations.utc("now") is None
    assert stations.utc("2021-13-17 10:27:26") is None


def test_many_fields_take_linear_time() -> None:
    """A field costs the same however many there are, and however long it is."""

    def cost(count: int) -> float:
        fields = {f"field{n}" + "x" * 50: "1" for n in range(count)}
        return min(_timed(fields) for _ in range(3))

    def _timed(fields: dict[str, str]) -> float:
        began = time.process_time()
        stations.decode(fields)
        return time.process_time() - began

    assert cost(4000) < 40 * cost(400) + 0.05
