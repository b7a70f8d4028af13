"""What the config says about TLS and the network is what a broker is reached with."""

from __future__ import annotations

from pathlib import Path

from gateway.config import Config, load
from gateway.mqtt import Network, Options, Will
from gateway.service.building import broker

SECRET = "tr0ub4dor-and-3"

CONFIG = """
[uplinks.cloud]
brokers = [
  "ws://a.example",
  { url = "mqtts://b.example", proxy = "socks5h://[::1]:1080", bind = "::1", user_timeout = "20s", tls.alpn = ["x"] },
  { url = "wss://c.example/x", headers = { X-Own = "1" } },
  "mqtt://d.example",
  "unix:///run/mosquitto.sock",
]
tls = { alpn = ["mqtt", "other"], minimum_version = "1.3" }
headers = { Authorization = { env = "SECRET" }, X-Kind = "gateway" }
proxy = "http://proxy.example:3128"
proxy_username = "me"
proxy_password = { env = "SECRET" }
bind = "127.0.0.1"
user_timeout = "250ms"
"""


def loaded(folder: Path) -> Config:
    file = folder / "gateway.toml"
    file.write_text(CONFIG)
    return load(file, environ={"HOME": "/", "SECRET": SECRET})


def options(folder: Path) -> list[Options]:
    """Return the options of each broker, as the service makes them."""
    section = loaded(folder).uplinks["cloud"]
    return [broker(section, endpoint, "me", Will("t", b"")).options for endpoint in section.endpoints]


def test_what_a_broker_does_not_say_its_uplink_says(tmp_path: Path) -> None:
    """A broker's own keys come first; a proxy and its credentials go together; each way gets only what it can use."""
    ws, mqtts, wss, mqtt, unix = options(tmp_path)
    proxy = {"proxy": "http://proxy.example:3128", "proxy_username": "me", "proxy_password": SECRET}
    common = Network(user_timeout=0.25, bind="127.0.0.1", **proxy)  # type: ignore[arg-type]
    assert mqtt.network == common
    assert ws.network.headers == (("Authorization", SECRET), ("X-Kind", "gateway"))
    assert wss.network.headers == (("X-Own", "1"),)
    assert mqtts.network == Network(user_timeout=20.0, bind="::1", proxy="socks5h://[::1]:1080")
    assert unix.network.proxy is None
    assert unix.network.proxy_password is None
    assert (ws.tls, mqtt.tls, unix.tls) == (None, None, None)
    assert mqtts.tls is not None
    assert wss.tls is not None
    assert (mqtts.tls.alpn, mqtts.tls.minimum_version) == (("x",), "1.2")
    assert (wss.tls.alpn, wss.tls.minimum_version) == (("mqtt", "other"), "1.3")


def test_no_secret_of_the_way_is_shown(tmp_path: Path) -> None:
    """Neither the config nor what is made of it shows a header's value or the proxy's password."""
    config = loaded(tmp_path)
    shown = [repr(config), str(config.model_dump()), config.model_dump_json(), *map(repr, options(tmp_path))]
    assert not any(SECRET in text for text in shown)
