"""What weather stations post: names and units of the fields of Ecowitt's and Weather Underground's protocols. Pure.

Sources: Weather Underground, "PWS upload protocol"; for Ecowitt's, which its makers have not published, what stations
of Ecowitt, Fine Offset, Froggit and Ambient are seen to send.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from adapters.frames.text import value
from gateway import Value

Convert = Callable[[float], float]


def _celsius(fahrenheit: float) -> float:
    return round((fahrenheit - 32) / 1.8, 2)


def _hectopascal(inches_of_mercury: float) -> float:
    return round(inches_of_mercury * 33.863886, 2)


def _metres_a_second(miles_an_hour: float) -> float:
    return round(miles_an_hour * 0.44704, 2)


def _millimetres(inches: float) -> float:
    return round(inches * 25.4, 2)


def _as_it_is(number: float) -> float:
    return number


# What a field is called, in small letters, and what of it. A group is the number of a sensor; without one it is 1.
_FIELDS: Final[tuple[tuple[str, str, Convert], ...]] = (
    (r"tempf", "temperature_outdoor", _celsius),
    (r"tempinf|indoortempf", "temperature_indoor", _celsius),
    (r"temp(\d+)f", "temperature_{}", _celsius),
    (r"tf_ch(\d+)", "temperature_probe_{}", _celsius),
    (r"tf_co2", "temperature_air_quality", _celsius),
    (r"soiltemp(\d*)f", "soil_temperature_{}", _celsius),
    (r"dewptf|dewpointf", "dew_point", _celsius),
    (r"windchillf", "wind_chill", _celsius),
    (r"heatindexf", "heat_index", _celsius),
    (r"feelslikef", "feels_like", _celsius),
    (r"bgt", "black_globe_temperature", _celsius),
    (r"wbgt", "wet_bulb_globe_temperature", _celsius),
    (r"humidity", "humidity_outdoor", _as_it_is),
    (r"humidityin|indoorhumidity", "humidity_indoor", _as_it_is),
    (r"humidity(\d+)", "humidity_{}", _as_it_is),
    (r"humi_co2", "humidity_air_quality", _as_it_is),
    (r"soilmoisture(\d*)", "soil_moisture_{}", _as_it_is),
    (r"leafwetness(?:_ch)?(\d*)", "leaf_wetness_{}", _as_it_is),
    (r"leak(?:_ch)?(\d+)", "leak_{}", _as_it_is),
    (r"baromrelin|baromin", "pressure_relative", _hectopascal),
    (r"baromabsin|absbaromin", "pressure_absolute", _hectopascal),
    (r"vpd", "vapour_pressure_deficit", _hectopascal),
    (r"winddir", "wind_direction", _as_it_is),
    (r"winddir_avg(\d+)m", "wind_direction_{}min", _as_it_is),
    (r"windspeedmph", "wind_speed", _metres_a_second),
    (r"windspdmph_avg(\d+)m", "wind_speed_{}min", _metres_a_second),
    (r"windgustmph", "wind_gust", _metres_a_second),
    (r"windgustmph_(\d+)m", "wind_gust_{}min", _metres_a_second),
    (r"windgustdir", "wind_gust_direction", _as_it_is),
    (r"windgustdir_(\d+)m", "wind_gust_direction_{}min", _as_it_is),
    (r"maxdailygust", "wind_gust_day", _metres_a_second),
    (r"solarradiation", "solar_radiation", _as_it_is),
    (r"uv", "uv_index", _as_it_is),
    (r"rainratein", "rain_rate", _millimetres),
    (r"eventrainin", "rain_event", _millimetres),
    (r"hourlyrainin|rainin", "rain_hour", _millimetres),
    (r"last24hrainin|24hourrainin", "rain_24h", _millimetres),
    (r"dailyrainin", "rain_day", _millimetres),
    (r"weeklyrainin", "rain_week", _millimetres),
    (r"monthlyrainin", "rain_month", _millimetres),
    (r"yearlyrainin", "rain_year", _millimetres),
    (r"totalrainin", "rain_total", _millimetres),
    (r"rrain_piezo", "rain_rate_piezo", _millimetres),
    (r"erain_piezo", "rain_event_piezo", _millimetres),
    (r"hrain_piezo", "rain_hour_piezo", _millimetres),
    (r"last24hrain_piezo", "rain_24h_piezo", _millimetres),
    (r"drain_piezo", "rain_day_piezo", _millimetres),
    (r"wrain_piezo", "rain_week_piezo", _millimetres),
    (r"mrain_piezo", "rain_month_piezo", _millimetres),
    (r"yrain_piezo", "rain_year_piezo", _millimetres),
    (r"srain_piezo", "rain_state_piezo", _as_it_is),
    (r"pm25_ch(\d+)", "pm2_5_{}", _as_it_is),
    (r"pm25_avg_24h_ch(\d+)", "pm2_5_24h_{}", _as_it_is),
    (r"pm25_co2", "pm2_5_air_quality", _as_it_is),
    (r"pm25_24h_co2", "pm2_5_24h_air_quality", _as_it_is),
    (r"pm10_co2", "pm10_air_quality", _as_it_is),
    (r"pm10_24h_co2", "pm10_24h_air_quality", _as_it_is),
    (r"co2", "co2", _as_it_is),
    (r"co2_24h", "co2_24h", _as_it_is),
    (r"aqpm2\.5", "pm2_5", _as_it_is),
    (r"aqpm10", "pm10", _as_it_is),
    (r"lightning", "lightning_distance", _as_it_is),
    (r"lightning_num", "lightning_count", _as_it_is),
    (r"lightning_time", "lightning_time", _as_it_is),
)
_KNOWN: Final = tuple((re.compile(pattern), name, convert) for pattern, name, convert in _FIELDS)
# What is secret, says who the station is, or is told otherwise.
_OTHER: Final = frozenset(
    {"passkey", "id", "password", "mac", "dateutc", "stationtype", "softwaretype", "model", "freq", "action"}
    | {"realtime", "rtfreq"}
)
_MISSING: Final = -9999  # what a station sends in place of a sensor that it does not hear


def decode(fields: Mapping[str, str], *, metric: bool = True) -> dict[str, Value]:
    """Return the numbers that a station has posted: °C, hPa, m/s, mm, km and %, under names that can be read.

    A number of a field that is not known keeps its name and unit; text is left out. Not `metric`: all of them keep
    theirs. Raises ValueError if there is no number.
    """
    values: dict[str, Value] = {}
    for field, text in fields.items():
        number = value(text.strip())
        if field.lower() in _OTHER or isinstance(number, str | bool) or number == _MISSING:
            continue
        name, convert = named(field) if metric else (field, _as_it_is)
        values[name] = convert(number)
    if not values:
        raise ValueError("no numbers in it")
    return values


def named(field: str) -> tuple[str, Convert]:
    """Return the name of the metric that a field is, and what its number has to go through."""
    for pattern, name, convert in _KNOWN:
        if (match := pattern.fullmatch(field.lower())) is not None:
            return name.format(*(group or "1" for group in match.groups())), convert
    return field, _as_it_is


def utc(text: str) -> float | None:
    """Return a time such as `2026-11-20 18:25:00`, which is UTC, in seconds since 1970. None: "now", or no time."""
    try:
        return datetime.strptime(text.strip().replace("T", " "), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
