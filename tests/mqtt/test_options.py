"""Addresses and options: what a person writes, and what is said when it is wrong."""

from __future__ import annotations

import pytest

from gateway.mqtt import Address, Options, Tls


@pytest.mark.parametrize(
    ("url", "address", "shown"),
    [
        ("mqtt://localhost", Address("mqtt", "localhost", 1883), "mqtt://localhost:1883"),
        ("mqtts://Broker.Example", Address("mqtts", "broker.example", 8883), "mqtts://broker.example:8883"),
        ("MQTT://10.0.0.1:1884/", Address("mqtt", "10.0.0.1", 1884), "mqtt://10.0.0.1:1884"),
        ("mqtt://[fd00::1]:1883", Address("mqtt", "fd00::1", 1883), "mqtt://[fd00::1]:1883"),
        ("unix:///run/m.sock", Address("unix", path="/run/m.sock"), "unix:///run/m.sock"),
        ("unix:/run/a b?.sock", Address("unix", path="/run/a b?.sock"), "unix:///run/a b?.sock"),
    ],
)
def test_an_address_there_and_back(url: str, address: Address, shown: str) -> None:
    """A URL gives an address, and the address gives a URL that means the same."""
    assert Address.parse(url) == address
    assert str(address) == shown
    assert Address.parse(shown) == address


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost", "mqtt://localhost:1883"),
        ("localhost:1883", "mqtt://localhost:1883"),
        ("mqtt:localhost", "mqtt://localhost:1883"),
        ("", "mqtt://localhost:1883"),
        ("http://a", "unknown scheme http"),
        ("mqtt://", "no host name"),
        ("mqtt://:1883", "no host name"),
        ("mqtt://a:0", "from 1 to 65535"),
        ("mqtt://a:65536", "from 1 to 65535"),
        ("mqtt://a:b", "from 1 to 65535"),
        ("mqtt://a:", "from 1 to 65535"),
        ("mqtt://a/topic", "nothing may follow the port; write mqtt://a:1883"),
        ("mqtt://a?x=1", "nothing may follow the port"),
        ("mqtt://[fd00::1]#x", r"write mqtt://\[fd00::1\]:1883"),
        ("mqtt://[fd00::1", "not a URL"),
        ("mqtt://a b", "a space"),
        ("mqtt://a\n", "a space"),
        ("unix://run/m.sock", "absolute path"),
        ("unix://", "absolute path"),
        ("mqtt://user:hunter2@a", "keys username and password"),
        ("mqtts://hunter2@a:1", "keys username and password"),
    ],
)
def test_a_wrong_address_says_what_to_write(url: str, words: str) -> None:
    """The message helps, and never shows what may be a password."""
    with pytest.raises(ValueError, match=words) as caught:
        Address.parse(url)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_in_no_repr() -> None:
    """Options may be logged."""
    options = Options("me", "user", b"hunter2", tls=Tls(key_password="hunter2"))
    assert "hunter2" not in repr(options)


@pytest.mark.parametrize("wrong", [{"protocol": "4"}, {"window": 0}, {"window": 65_536}])
def test_options_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    """An unknown protocol or an impossible window is found before any broker is asked."""
    with pytest.raises(ValueError, match=r"protocol|window"):
        Options("me", **wrong)  # type: ignore[arg-type]
