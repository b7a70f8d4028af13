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


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"protocol": "4"}, "unknown protocol '4'"),
        ({"window": 0}, "window must be from 1 to 65535"),
        ({"window": 65_536}, "window must be from 1 to 65535"),
        ({"receive_maximum": 0}, "receive_maximum must be from 1 to 65535"),
        ({"topic_aliases": 65_536}, "topic_aliases must be from 0 to 65535"),
        ({"topic_alias_maximum": -1}, "topic_alias_maximum must be from 0 to 65535"),
        ({"protocol": "3.1", "client_id": "x" * 24}, "1 to 23 characters in MQTT 3.1, not 24"),
        ({"protocol": "3.1", "client_id": ""}, "1 to 23 characters in MQTT 3.1, not 0"),
        ({"client_id": "", "clean": False}, "a client id is needed"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object], words: str) -> None:
    """What no broker could grant is found before any is asked, and told with its bounds."""
    with pytest.raises(ValueError, match=words):
        Options(**{"client_id": "me", **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        (Options("x" * 23), (5, 4, 3)),
        (Options("ä" * 23, protocol="3.1"), (3,)),
        (Options("x" * 24), (5, 4)),
        (Options(""), (5, 4)),
        (Options("me", protocol="3.1.1"), (4,)),
    ],
)
def test_auto_tries_what_the_client_id_allows(options: Options, levels: tuple[int, ...]) -> None:
    """MQTT 3.1 is no way out for a client id that it does not know."""
    assert options.levels == levels
