"""Posts of weather stations, and of whatever else can post JSON."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Literal, NamedTuple, Self
from urllib.parse import parse_qsl

from pydantic import Field, model_validator

from adapters.frames import stations
from adapters.frames.text import json_decoder
from adapters.ports.address import Here
from adapters.ports.http import MISSING, Answer, Request, serving
from adapters.text_lines import EARLIEST, LATEST
from gateway import Adapter, Device, Duration, Secret, Size, Value

_MOST_FIELDS = 500  # of a form
_json = json_decoder()


class _Form(NamedTuple):
    """What a kind of station does."""

    path: str
    methods: tuple[str, ...]
    secret: str  # the field in which it says who it is


_FORMS: Final[Mapping[str, _Form]] = {
    "ecowitt": _Form("/data/report/", ("POST", "GET"), "PASSKEY"),
    "wunderground": _Form("/weatherstation/updateweatherstation.php", ("GET", "POST"), "PASSWORD"),
    "json": _Form("/", ("POST",), ""),
}


class Http(Adapter):
    """Takes in what weather stations post (Ecowitt, Weather Underground), or JSON. Needs the extra http."""

    exclusive: ClassVar[tuple[str, ...]] = ("listen",)

    listen: Here = Field(
        default="127.0.0.1:8088",
        description="Address and port; 0.0.0.0:8088 hears every machine of the network.",
    )
    format: Literal["ecowitt", "wunderground", "json"] = Field(
        description="What is posted: by the protocol of Ecowitt or of Weather Underground, or a JSON object."
    )
    path: str | None = Field(
        default=None,
        pattern=r"^/[!-~]*$",
        description='Where it is posted to. Default: "/data/report/" for ecowitt, '
        '"/weatherstation/updateweatherstation.php" for wunderground, "/" for json.',
    )
    passkey: Secret | None = Field(
        default=None,
        description="Who posts has to know it: PASSKEY of ecowitt, PASSWORD of wunderground, a header "
        '"Authorization: Bearer ..." for json. Default: everybody may post.',
    )
    units: Literal["metric", "raw"] = Field(
        default="metric",
        description="metric: °C, hPa, m/s and mm under names that can be read; raw: names and numbers as sent.",
    )
    time: str = Field(
        default="dateutc",
        description='The field that holds the device\'s own time (UTC), as text or as a number; "" for none.',
    )
    time_format: Literal["s", "ms"] = Field(default="s", description="A number is seconds or milliseconds since 1970.")
    max_body: Size = Field(default=16_384, ge=256, le=1_048_576, description="A larger post is refused.")
    max_connections: int = Field(default=16, ge=1, le=1000, description="More at once are refused.")
    timeout: Duration = Field(default=10.0, ge=0.1, description="The longest that a request may take.")

    @model_validator(mode="after")
    def _installed(self) -> Self:
        if MISSING is not None:
            raise ValueError(MISSING)
        return self

    async def run(self, device: Device) -> None:
        """Listen, and take in what is posted. Raises DeviceError when the address cannot be had."""
        answering, most = self.answering(device), self.max_connections
        async with serving(
            self.listen, answering, device.skip, most=most, longest=self.timeout, largest=self.max_body
        ) as broken:
            device.online()
            await broken

    def answering(self, device: Device) -> Callable[[Request], Answer]:
        """Return the function that takes a request in, and says what is answered."""
        form = _FORMS[self.format]
        path = form.path if self.path is None else self.path

        def refuse(status: int, why: str, *headers: tuple[str, str]) -> Answer:
            device.skip(why)  # without a sample, in which a secret could be
            return Answer(status, why, headers)

        def answer(request: Request) -> Answer:
            if request.path.rstrip("/") != path.rstrip("/"):
                return refuse(404, f"there is nothing here: readings go to {path}")
            if request.method not in form.methods:
                methods = ", ".join(form.methods)
                return refuse(405, f"readings come with {methods}", ("Allow", methods))
            try:
                fields = {} if self.format == "json" else _form(request)
                if not self._knows(request, fields):
                    return refuse(401, "the passkey is missing or wrong", ("WWW-Authenticate", "Bearer"))
                values, time = self._decoded(request, fields, device)
            except ValueError as error:
                return refuse(400, str(error))
            return Answer(200, "success", after=device.take_in(values, time))

        return answer

    def _knows(self, request: Request, fields: Mapping[str, str]) -> bool:
        if self.passkey is None:
            return True
        if self.format == "json":
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
        else:
            given = fields.get(_FORMS[self.format].secret, "")
        return hmac.compare_digest(given.encode(errors="replace"), self.passkey.get_secret_value().encode())

    def _decoded(
        self, request: Request, fields: dict[str, str], device: Device
    ) -> tuple[dict[str, Value], float | None]:
        """Return values and time of a request. Raises ValueError."""
        if self.format == "json":
            values = dict(_json(request.body))
            time = self._time_of(values.pop(self.time, None), device)
            if not values:
                raise ValueError("no values in it")
            return values, time
        time = self._time_of(fields.pop(self.time, None), device)
        return stations.decode(fields, metric=self.units == "metric"), time

    def _time_of(self, given: Value | None, device: Device) -> float | None:
        if given is None or given == "now":
            return None
        if isinstance(given, str):
            seconds = stations.utc(given)
        else:
            seconds = given / 1000 if self.time_format == "ms" else float(given)
        if seconds is None or not EARLIEST <= seconds < LATEST:
            device.skip("device time that cannot be right; the gateway's own is used")
            return None
        return seconds


def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form, of a query or both. Raises ValueError."""
    texts = [request.query, *([request.body.decode("latin-1")] if request.method == "POST" else [])]
    try:
        return {name: text for one in texts for name, text in parse_qsl(one, max_num_fields=_MOST_FIELDS)}
    except ValueError:
        raise ValueError(f"more than {_MOST_FIELDS} fields") from None
