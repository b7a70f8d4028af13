"""What a client is told is checked before anything is done, and errors name the parameter, its value and its bounds."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from gateway import BlockingClient, Broker, Client, Network, Tls, Will
from gateway.client.endpoints import client_id, endpoints, persistent
from gateway.client.options import ClientOptions
from gateway.reading import Publication

URL = "mqtt://localhost"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"keep_alive": -1}, ValueError, "keep_alive must be a number of seconds from 0 to 65535, not -1"),
        ({"keep_alive": 65_536}, ValueError, "keep_alive .* not 65536"),
        ({"keep_alive": "30"}, TypeError, "keep_alive must be a number of seconds from 0 to 65535, not '30'"),
        ({"keep_alive": float("nan")}, ValueError, "keep_alive .* not nan"),
        ({"keep_alive": True}, TypeError, "keep_alive .* not True"),
        ({"window": 0}, ValueError, "window must be a whole number of messages from 1 to 65535, not 0"),
        ({"window": 1.5}, TypeError, "window must be a whole number of messages from 1 to 65535, not 1.5"),
        ({"window": 65_536}, ValueError, "window .* not 65536"),
        ({"receive_maximum": 0}, ValueError, "receive_maximum"),
        ({"max_incoming": 0}, ValueError, "max_incoming"),
        ({"max_count": 0}, ValueError, "max_count must be a whole number of messages from 1 .*, or None, not 0"),
        ({"max_bytes": 10}, ValueError, "max_bytes must be a whole number of bytes from 1024"),
        ({"max_age": 0}, ValueError, "max_age"),
        ({"session_expiry": -1}, ValueError, "session_expiry"),
        ({"failback": -1}, ValueError, "failback"),
        ({"commit_interval": -1}, ValueError, "commit_interval"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout must be a number of seconds from 0.1 to 3600, not 0"),
        ({"protocol": "4"}, ValueError, r"protocol must be one of 'auto', '5', '3.1.1', '3.1', not '4'"),
        ({"protocol": 5}, TypeError, "protocol must be text, not int"),
        ({"mode": "both"}, ValueError, "mode must be one of 'hunt', 'equal', not 'both'"),
        ({"when_full": "wait"}, ValueError, "when_full must be one of"),
        ({"profile": "aws"}, ValueError, "profile must be one of"),
        ({"clean_start": 1}, TypeError, "clean_start must be True, False or None, not 1"),
        ({"trace": "yes"}, TypeError, "trace must be True or False, not 'yes'"),
        ({"on_message": 5}, TypeError, "on_message must be something that can be called, or None, not 5"),
        ({"will": "gone"}, TypeError, "will must be a Will, or None, not str"),
        ({"will": Will("a/+", b"")}, ValueError, "will: topic 'a/[+]'"),
        ({"birth": Publication("a\0", b"")}, ValueError, "birth: topic"),
        ({"birth": b"here"}, TypeError, "birth must be a Publication, or None, not bytes"),
        ({"tls": True}, TypeError, "tls must be a Tls, or None, not bool"),
        ({"tls": Tls()}, ValueError, "tls is for brokers behind mqtts:// or wss://, and there is none"),
        ({"client_id": 5}, TypeError, "client_id must be text, or None, not int"),
        ({"client_id": "x" * 24, "protocol": "3.1"}, ValueError, "client_id must have 1 to 23 characters .* not 24"),
        ({"client_id": "", "protocol": "3.1"}, ValueError, "client_id must have 1 to 23 characters"),
        ({"client_id": "", "clean_start": False}, ValueError, "client_id must not be empty"),
        ({"store": 5}, TypeError, "store must be a path, or None, not int"),
        (
            {"reconnect_min": 5, "reconnect_max": 1},
            ValueError,
            r"reconnect_min \(5 s\) must not be more than .* \(1 s\)",
        ),
        ({"user_properties": {"a": "b"}}, TypeError, r"user_properties must be a sequence of \(name, text\) pairs"),
        ({"user_properties": [("a", 1)]}, TypeError, "user_properties .* one is"),
        ({"password": "x", "protocol": "3.1.1"}, ValueError, "password needs a username beside it: MQTT 3.1.1"),
        ({"brokers": []}, ValueError, "brokers is empty"),
        ({"brokers": [5]}, TypeError, "brokers must be URLs or Broker objects, and one is int"),
        ({"brokers": [URL, Broker(URL)]}, ValueError, "brokers: mqtt://localhost:1883 is there twice"),
        ({"brokers": "localhost"}, ValueError, "brokers: "),
    ],
)
@pytest.mark.parametrize("face", [Client, BlockingClient])
def test_what_cannot_be_is_refused_by_name(
    face: type[ClientOptions], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A wrong argument is told where it is made, in both faces, and with what it may be."""
    with pytest.raises(error, match=words):
        face(**{"brokers": URL, **options})


@pytest.mark.parametrize("url", ["mqtt://me:secret@host", "secret"])
def test_a_secret_in_a_url_is_not_repeated(url: str) -> None:
    """What stands in a wrong URL or in a wrong password may be a secret: errors do not show it."""
    with pytest.raises(ValueError, match=r"^brokers: ") as told:
        Client(url)
    assert "secret" not in str(told.value)
    with pytest.raises(TypeError) as wrong:
        Client(URL, password=["secret"])  # type: ignore[arg-type]
    assert "secret" not in str(wrong.value)
    assert "secret" not in repr(Broker(URL, password="secret"))


def test_every_option_is_checked() -> None:
    """An option that is added gets bounds, too, or is on this list."""
    hints = get_type_hints(ClientOptions, include_extras=True)
    free = {name for name in (one.name for one in fields(ClientOptions)) if not hasattr(hints[name], "__metadata__")}
    assert free == {"brokers", "authentication", "logger"}


def test_a_broker_says_what_the_client_does_not() -> None:
    """Each broker may have its own protocol, name, TLS and profile; user name and password go together."""
    tls, proxy = Tls(ca="x"), Network(proxy="socks5://127.0.0.1:1080")
    client = Client(
        [
            Broker("mqtts://one", username="one", tls=tls, protocol="5", client_id="first", profile="hivemq"),
            Broker("mqtt://two", network=proxy),
        ],
        username="all",
        password="word",
        protocol="3.1.1",
        client_id="both",
        keep_alive=7,
    )
    one, two = endpoints(client)
    assert (str(one.address), one.profile) == ("mqtts://one:8883", "hivemq")
    assert (one.options.username, one.options.password, one.options.tls) == ("one", None, tls)
    assert (one.options.protocol, one.options.client_id) == ("5", "first")
    assert (two.options.username, two.options.password, two.options.tls) == ("all", b"word", None)
    assert (two.options.protocol, two.options.client_id, two.profile) == ("3.1.1", "both", "generic")
    assert two.options.network is proxy
    assert one.options.keep_alive == two.options.keep_alive == 7


def test_a_broker_of_its_own_is_checked_as_well() -> None:
    """A Broker is a contract by itself."""
    with pytest.raises(TypeError, match="url must be text, not int"):
        Broker(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="protocol must be one of"):
        Broker(URL, protocol="6")
    with pytest.raises(ValueError, match="tls is for brokers behind mqtts:// or wss://, and this one is mqtt://"):
        Client([Broker(URL, tls=Tls()), "mqtts://other"])


def test_a_store_makes_the_session_last(tmp_path: Path) -> None:
    """Without a store the broker forgets; with one it keeps the session, unless the program says otherwise."""
    assert not persistent(Client(URL))
    assert persistent(Client(URL, tmp_path / "store"))
    assert persistent(Client(URL, clean_start=False))
    assert not persistent(Client(URL, tmp_path / "store", clean_start=True))
    (kept,) = endpoints(Client(URL, tmp_path / "store", session_expiry=60))
    assert (kept.options.clean, kept.options.session_expiry) == (False, 60)


def test_the_client_id_is_the_same_for_one_store_and_else_new(tmp_path: Path) -> None:
    """Another run with the same store is the same client; every other client is another one. All can be 3.1."""
    assert client_id(tmp_path / "a") == client_id(str(tmp_path / "a"))
    assert len({client_id(tmp_path / "a"), client_id(tmp_path / "b"), client_id(None), client_id(None)}) == 4
    for one in (client_id(None), client_id(tmp_path / "a")):
        assert len(one) <= 23
        assert one.isalnum()


def test_a_client_of_31_with_a_password_and_a_name() -> None:
    """The shortest way to say everything is accepted."""
    (only,) = endpoints(Client(URL, client_id="x" * 23, protocol="3.1", username="a", password=b"\xff"))
    assert only.options.password == b"\xff"


def test_the_address_of_a_broker_is_its_url() -> None:
    """A Broker of a program is taken apart once it is made."""
    assert str(Broker("ws://[::1]/mqtt").address).startswith("ws://[::1]:80")


def test_nothing_is_decoded_that_is_a_secret() -> None:
    """Text becomes UTF-8, bytes stay as they are."""
    raw = base64.b64decode("AAH/")
    (one,) = endpoints(Client(URL, username="a", password="pässword"))
    (two,) = endpoints(Client(URL, username="a", password=raw))
    assert (one.options.password, two.options.password) == ("pässword".encode(), raw)
