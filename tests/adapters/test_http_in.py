"""Posts of weather stations over real sockets: what is taken, what is refused, and what strangers may cost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from adapters.network.http import Http
from adapters.ports.http import Request
from gateway.devices import RunningDevice
from tests.adapters.frames.test_stations import WS2900, WU
from tests.adapters.notebook import WAIT, Notebook, running
from tests.ports import free_port

WU_PATH = "/weatherstation/updateweatherstation.php"


class Bench:
    """A device that listens, and whoever posts to it."""

    def __init__(self, **keys: Any) -> None:
        self.port = free_port()
        self.notes = Notebook()
        self.adapter = Http.model_validate({"listen": f"127.0.0.1:{self.port}", **keys})
        self.device: RunningDevice = self.notes.device("d", self.adapter)

    async def online(self) -> None:
        """Wait for the device."""
        await self.notes.until(lambda: self.device.state == "online")

    async def raw(self, *parts: bytes) -> bytes:
        """Send these bytes, and return all that is answered until the other side hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(WAIT):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def ask(self, method: str, target: str, body: bytes = b"", *headers: str) -> tuple[int, str]:
        """Make one request; return the status and the text of the answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: pi", f"Content-Length: {len(body)}", *headers, "", ""]
        head, _, text = (await self.raw("\r\n".join(lines).encode() + body)).partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, text.decode().strip()


async def test_an_ecowitt_station() -> None:
    """It posts a form, and hears 200 once the reading was taken in, with the station's time."""
    bench = Bench(format="ecowitt", passkey=SecretStr("0" * 32))
    async with running(bench.device):
        await bench.online()
        form = "Content-Type: application/x-www-form-urlencoded"
        assert await bench.ask("POST", "/data/report/", WS2900.encode(), form) == (200, "success")
        assert await bench.ask("POST", "/data/report", WS2900.encode(), form) == (200, "success")
        assert await bench.ask("GET", f"/data/report/?{WS2900}") == (200, "success")  # as Ambient's do
    ((_, values, time), *others) = bench.notes.readings
    assert time == 1629196046
    assert values["temperature_outdoor"] == 16.0
    assert others == [("d", values, time)] * 2
    assert bench.device.skipped == {}


async def test_a_station_of_weather_underground() -> None:
    """It asks with GET, and wants to read "success"."""
    bench = Bench(format="wunderground", units="raw", time="", passkey=SecretStr("XXXXXX"))
    async with running(bench.device):
        await bench.online()
        assert await bench.ask("GET", f"{WU_PATH}?{WU}") == (200, "success")
    ((_, values, time),) = bench.notes.readings
    assert time is None
    assert values["tempf"] == 70


async def test_json() -> None:
    """An object, flattened as a line would be; a number or a text is its time."""
    bench = Bench(format="json", path="/greenhouse", time="ts", time_format="ms", passkey=SecretStr("geheim"))
    async with running(bench.device):
        await bench.online()
        bearer = "Authorization: Bearer geheim"
        for document in (
            {"t": 21.5, "a": {"b": 1}},
            {"t": 1, "ts": 1763600000123},
            {"t": 2, "ts": "2021-08-17 10:27:26"},
        ):
            body = json.dumps(document).encode()
            assert await bench.ask("POST", "/greenhouse", body, bearer) == (200, "success")
        assert await bench.ask("POST", "/greenhouse", b'{"ts": 1763600000123}', bearer) == (400, "no values in it")
        assert await bench.ask("POST", "/greenhouse", b"[1]", bearer) == (400, "not a JSON object")
        assert (await bench.ask("POST", "/greenhouse", b'{"t": 1}'))[0] == 401
    assert [(values, time) for _, values, time in bench.notes.readings] == [
        ({"t": 21.5, "a.b": 1}, None),
        ({"t": 1}, 1763600000.123),
        ({"t": 2}, 1629196046.0),
    ]


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "words"),
    [
        ("POST", "/", b"tempf=70", 404, "there is nothing here: readings go to /data/report/"),
        ("PUT", "/data/report/", b"tempf=70", 405, "readings come with POST, GET"),
        ("HEAD", "/data/report/", b"", 405, ""),
        ("POST", "/data/report/", b"PASSKEY=1&tempf=70", 401, "the passkey is missing or wrong"),
        ("POST", "/data/report/", b"tempf=70", 401, "the passkey is missing or wrong"),
        ("POST", "/data/report/", b"PASSKEY=geheim&model=x", 400, "no numbers in it"),
        ("POST", "/data/report/", b"PASSKEY=geheim&" + b"a=1&" * 600, 400, "more than 500 fields"),
        ("POST", "/data/report/", b"x" * 5000, 413, "the body has more than 4000 bytes"),
    ],
)
async def test_what_is_refused_is_said(method: str, target: str, body: bytes, status: int, words: str) -> None:
    """To whoever posts, in a sentence, and counted here; nothing of it is shown, in which a secret could be."""
    bench = Bench(format="ecowitt", passkey=SecretStr("geheim"), max_body=4000)
    with capture_logs() as logs:
        async with running(bench.device):
            await bench.online()
            assert await bench.ask(method, target, body) == (status, words)
    assert bench.notes.readings == []
    assert sum(bench.device.skipped.values()) == 1
    assert "geheim" not in str(logs)
    assert "PASSKEY" not in str(logs)


@pytest.mark.parametrize("key", ["", "geheimX", "gehei", "GEHEIM", "é\udc80", "ge\0heim"])
def test_a_wrong_passkey_is_no_passkey(key: str) -> None:
    """All of it has to be right, and no text is too strange to be compared."""
    adapter = Http.model_validate({"format": "ecowitt", "passkey": SecretStr("geheim")})
    request = Request("POST", "/data/report/", "", {}, b"")
    assert not adapter._knows(request, {"PASSKEY": key})
    assert adapter._knows(request, {"PASSKEY": "geheim"})


async def test_nothing_that_is_no_request_stops_it() -> None:
    """Noise, TLS, half a request: answered or hung up, counted, and the next station is heard."""
    bench = Bench(format="wunderground")
    async with running(bench.device):
        await bench.online()
        for noise in (b"\x16\x03\x01\x02\x00\x01", b"\0" * 20_000, b"GET\r\n\r\n", b"GET / FTP/1.0"):
            answer = await bench.raw(noise + b"\r\n\r\n")
            assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(b"GET /x HTTP/1.1\r\n")
        writer.close()
        assert await bench.ask("GET", f"{WU_PATH}?tempf=70") == (200, "success")
        assert reader is not None
    assert bench.device.skipped["this is no request over HTTP"] >= 4
    assert bench.device.failures == 0


async def test_a_request_that_takes_for_ever_is_given_up() -> None:
    """One byte after the other keeps a place for `timeout`, and no longer."""
    bench = Bench(format="wunderground", timeout=0.3)
    async with running(bench.device):
        await bench.online()
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        async with asyncio.timeout(WAIT):
            writer.write(b"GET / HTTP/1.1\r\n")
            over = asyncio.ensure_future(reader.read())
            try:
                while not over.done():
                    writer.write(b"X")
                    await asyncio.wait([over], timeout=0.02)
                assert over.exception() is not None or over.result() == b""
            except ConnectionError:
                over.cancel()
        writer.close()
        assert await bench.ask("GET", f"{WU_PATH}?tempf=70") == (200, "success")
    assert "a connection that was not done within 0.3 s" in bench.device.skipped


async def test_a_thousand_that_say_nothing_keep_no_more_than_the_limit() -> None:
    """Those beyond it are hung up on at once, and places come free again."""
    bench = Bench(format="wunderground", timeout=60, max_connections=4)
    async with running(bench.device):
        await bench.online()
        silent = [await asyncio.open_connection("127.0.0.1", bench.port) for _ in range(4)]
        answers = await asyncio.gather(*(bench.raw(b"GET / HTTP/1.0\r\n\r\n") for _ in range(300)))
        assert answers == [b""] * 300
        for _, writer in silent:
            writer.close()
        async with asyncio.timeout(WAIT):
            while (await bench.ask("GET", f"{WU_PATH}?tempf=70"))[0] != 200:
                await asyncio.sleep(0)
    assert bench.device.skipped["more than 4 connections at once"] >= 300


async def test_the_answer_waits_for_the_gateway() -> None:
    """A station hears 200 when the gateway has room again, and so posts no faster than it may."""
    room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    bench = Bench(format="wunderground", timeout=0.2)
    bench.device._put = lambda *_: room  # type: ignore[assignment]
    async with running(bench.device):
        await bench.online()
        asked = asyncio.ensure_future(bench.ask("GET", f"{WU_PATH}?tempf=70"))
        await asyncio.wait([asked], timeout=0.5)
        assert not asked.done()
        room.set_result(None)
        async with asyncio.timeout(WAIT):
            assert await asked == (200, "success")


async def test_a_body_that_waits_to_be_asked_for() -> None:
    """`Expect: 100-continue` is answered, in chunks as well."""
    bench = Bench(format="json")
    async with running(bench.device):
        await bench.online()
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(WAIT):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            writer.write(b'4\r\n{"t"\r\n4\r\n: 1}\r\n0\r\n\r\n')
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert bench.notes.of("d") == [{"t": 1}]


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["ecowitt", "wunderground", "json"]),
    st.sampled_from(["GET", "POST"]),
    st.text(st.characters(max_codepoint=255), max_size=200),
    st.binary(max_size=300),
)
def test_any_request_is_answered(kind: str, method: str, query: str, body: bytes) -> None:
    """Whatever is in a request, it is answered, and nothing is raised."""
    adapter = Http.model_validate({"format": kind})
    device = Notebook().device("d", adapter)
    path = {"ecowitt": "/data/report/", "wunderground": WU_PATH, "json": "/"}[kind]
    answer = adapter.answering(device)(Request(method, path, query, {}, body))
    assert answer.status in (200, 400, 405)
    assert answer.text


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"format": "davis"},
        {"format": "json", "path": "data"},
        {"format": "json", "path": "/a b"},
        {"format": "json", "listen": "pi.local:80"},
        {"format": "json", "passkey": "geheim"},
        {"format": "json", "max_body": 10},
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any]) -> None:
    """A mistake is found when the config is read; a passkey in the file itself is one."""
    with pytest.raises(ValidationError) as refused:
        Http.model_validate(keys)
    assert keys.get("passkey") is None or "does not stand in the config itself" in str(refused.value)


def test_only_this_machine_unless_somebody_says_otherwise() -> None:
    """The default hears nobody else."""
    assert Http.model_validate({"format": "json"}).listen.startswith("127.0.0.1:")
