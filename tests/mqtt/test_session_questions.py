"""What a session asks and says beside messages: CONNECT, subscriptions, authentication, the goodbye."""

from __future__ import annotations

import pytest

from gateway.mqtt import Options, ProtocolError, Subscription, Will
from gateway.mqtt.codec import decode, encode
from gateway.mqtt.events import Answered
from gateway.mqtt.framing import Framer
from gateway.mqtt.packets import Auth, Connack, Connect, Disconnect, Packet, Suback, Subscribe, Unsuback, Unsubscribe
from gateway.mqtt.properties import Properties
from gateway.mqtt.session import Session

LEVELS = pytest.mark.parametrize("level", [4, 5])


class Method:
    """An authentication that counts what it is shown."""

    method = "COUNT"

    def __init__(self) -> None:
        self.shown: list[bytes | None] = []

    def start(self) -> bytes | None:
        return b"hello"

    def answer(self, data: bytes | None) -> bytes | None:
        self.shown.append(data)
        if data == b"wrong":
            raise ValueError("the broker does not know the secret")
        return b"%d" % len(self.shown)


def session(level: int = 5, said: Properties | None = None, **options: object) -> Session:
    made = Session(Options("me", **options), level)  # type: ignore[arg-type]
    made.receive(encode(Connack(properties=said or Properties()), level))
    return made


def read(data: bytes, level: int = 5) -> list[Packet]:
    return [decode(first, body, level) for first, body in Framer(1 << 24, level).feed(data)]


# -- CONNECT and CONNACK


def test_connect_says_everything_that_was_asked_for() -> None:
    """What only MQTT 5 can say is said in MQTT 5, and left out before."""
    options = Options(
        "me",
        session_expiry=60,
        clean=False,
        receive_maximum=7,
        topic_alias_maximum=3,
        request_response_information=True,
        request_problem_information=False,
        user_properties=(("a", "b"), ("a", "c")),
        will=Will("w", b"", properties={"will_delay_interval": 5}),
    )
    (packet,) = read(Session(options, 5).connect())
    assert isinstance(packet, Connect)
    assert packet.properties == {
        "maximum_packet_size": 1 << 20,
        "receive_maximum": 7,
        "session_expiry_interval": 60,
        "topic_alias_maximum": 3,
        "request_response_information": 1,
        "request_problem_information": 0,
        "user_properties": [("a", "b"), ("a", "c")],
    }
    assert packet.will == options.will


@pytest.mark.parametrize("topic", ["", "a/#", "a\0"])
def test_a_will_that_no_broker_would_take(topic: str) -> None:
    """A will with a topic that is none is found before anything is sent."""
    with pytest.raises(ValueError, match="topic"):
        Session(Options("me", will=Will(topic, b"")), 5).connect()


def test_connack_says_more_than_limits() -> None:
    """What the broker tells about itself is passed on."""
    made = session(
        said=Properties(
            session_expiry_interval=9,
            response_information="answers/me",
            server_reference="other:1883",
            reason_string="be nice",
            subscription_identifier_available=0,
        ),
        session_expiry=60,
    )
    limits = made.limits
    assert (limits.session_expiry, limits.response_information) == (9, "answers/me")
    assert (limits.server_reference, limits.reason_string) == ("other:1883", "be nice")
    assert not limits.subscription_identifier_available
    assert session(session_expiry=60).limits.session_expiry == 60
    assert session(4).limits.session_expiry == 0
    made = Session(Options("me", clean=False), 4)
    made.receive(encode(Connack(True), 4))
    assert made.limits.session_expiry == 0xFFFF_FFFF


@LEVELS
def test_a_session_that_was_not_asked_for_is_a_breach(level: int) -> None:
    """Whoever asked for a clean start and gets an old session cannot know what belongs to it."""
    (error,) = Session(Options("me"), level).receive(encode(Connack(True), level))
    assert isinstance(error, ProtocolError)


# -- subscriptions


def test_a_subscription_with_everything() -> None:
    """Options of a subscription and its identifier are said."""
    made = session()
    one = Subscription("a/#", 2, True, True, 2)
    identifier, data = made.subscribe([one, ("$share/g/b", 1)], 77)
    assert read(data) == [
        Subscribe(identifier, (one, Subscription("$share/g/b", 1)), {"subscription_identifiers": [77]})
    ]


@pytest.mark.parametrize(
    ("level", "said", "wanted", "identifier", "words"),
    [
        (5, {"wildcard_subscription_available": 0}, ("a/#", 0), None, "'a/#': the broker has no wildcard"),
        (5, {"wildcard_subscription_available": 0}, ("$share/g/+", 0), None, "has no wildcard"),
        (5, {"shared_subscription_available": 0}, ("$share/g/a", 0), None, "'.share/g/a': the broker has no shared"),
        (5, {"subscription_identifier_available": 0}, ("a", 0), 7, "identifier 7: the broker has no"),
        (4, {}, ("a", 0), 7, "identifier 7: the broker has no"),
        (4, {}, Subscription("a", no_local=True), None, "level 4 has no such subscription"),
        (5, {}, Subscription("$share/g/a", no_local=True), None, "no_local"),
        (5, {}, ("a/#/b", 0), None, "last level"),
        (5, {}, ("a", 3), None, "no such subscription"),
        (5, {"maximum_packet_size": 40}, ("a" * 40, 0), None, "the broker takes 40"),
    ],
)
def test_a_subscription_that_cannot_be_is_not_asked_for(
    level: int, said: Properties, wanted: tuple[str, int], identifier: int | None, words: str
) -> None:
    """What the broker has not, or MQTT cannot say, is told with its name, and costs no identifier."""
    made = session(level, said)
    with pytest.raises(ValueError, match=words):
        made.subscribe([wanted], identifier)
    assert len(made.in_flight.identifiers(65_535)) == 65_535


@LEVELS
def test_unsubscribing_is_answered(level: int) -> None:
    """Each filter has its answer; before MQTT 5 the answer is always yes."""
    made = session(level)
    identifier, data = made.unsubscribe(["a/#", "b"])
    assert read(data, level) == [Unsubscribe(identifier, ("a/#", "b"))]
    answer = Unsuback(identifier, (0, 0x11) if level == 5 else ())
    assert made.receive(encode(answer, level)) == [Answered(identifier, [0, 0x11] if level == 5 else [0, 0])]
    for wrong in ([], ["a#"]):
        with pytest.raises(ValueError, match="filter"):
            made.unsubscribe(wrong)


@LEVELS
@pytest.mark.parametrize("reasons", [(), (0,), (0, 0, 0)])
def test_an_answer_of_the_wrong_length_is_a_breach(level: int, reasons: tuple[int, ...]) -> None:
    """An answer that does not say what became of each filter says nothing; nor does one to another question."""
    made = session(level)
    identifier, _ = made.subscribe([("a", 0), ("b", 0)])
    answer = Suback(identifier, reasons) if reasons else Unsuback(identifier, (0, 0) if level == 5 else ())
    (error,) = made.receive(encode(answer, level))
    assert isinstance(error, ProtocolError)
    assert error.reason == 0x82


# -- authentication


def hello(made: Session, *packets: Packet) -> list[object]:
    return list(made.receive(b"".join(encode(packet, 5) for packet in packets)))


def test_an_authentication_step_by_step() -> None:
    """CONNECT names the method and begins; each AUTH is answered; the last word of the broker is looked at too."""
    method = Method()
    made = Session(Options("me", authentication=method), 5)
    (packet,) = read(made.connect())
    assert isinstance(packet, Connect)
    assert (packet.properties["authentication_method"], packet.properties["authentication_data"]) == ("COUNT", b"hello")
    step = Auth(0x18, {"authentication_method": "COUNT", "authentication_data": b"first"})
    assert hello(made, step) == [step]
    assert read(made.authenticated(step)) == [
        Auth(0x18, {"authentication_method": "COUNT", "authentication_data": b"1"})
    ]
    welcome = Connack(properties={"authentication_method": "COUNT", "authentication_data": b"last"})
    assert hello(made, welcome) == [welcome]
    assert made.authenticated(welcome) == b""
    assert method.shown == [b"first", b"last"]
    assert read(made.reauthenticate()) == [
        Auth(0x19, {"authentication_method": "COUNT", "authentication_data": b"hello"})
    ]
    done = Auth(0, {"authentication_method": "COUNT"})
    assert hello(made, done) == [done]
    assert made.authenticated(done) == b""


@pytest.mark.parametrize(
    "packet",
    [
        Auth(0x18, {"authentication_method": "OTHER"}),
        Auth(0x18),
        Auth(0, {"authentication_method": "COUNT"}),
        Connack(),
        Connack(properties={"authentication_method": "OTHER"}),
    ],
)
def test_another_authentication_than_ours_is_a_breach(packet: Packet) -> None:
    """A broker that leaves our method out, or uses another, has not proven what was asked of it."""
    (error,) = hello(Session(Options("me", authentication=Method()), 5), packet)
    assert isinstance(error, ProtocolError)


def test_an_authentication_that_nobody_asked_for_is_a_breach() -> None:
    """AUTH comes only where CONNECT has named a method, and never begins on the broker's side."""
    (error,) = hello(Session(Options("me"), 5), Auth(0x18, {"authentication_method": "COUNT"}))
    assert isinstance(error, ProtocolError)
    made = Session(Options("me", authentication=Method()), 5)
    (_, error) = hello(
        made, Connack(properties={"authentication_method": "COUNT"}), Auth(0x19, {"authentication_method": "COUNT"})
    )
    assert isinstance(error, ProtocolError)


# -- the goodbye


def test_the_goodbye() -> None:
    """DISCONNECT carries a reason and a session expiry in MQTT 5; before, leaving without a word asks for the will."""
    made = session(session_expiry=60)
    assert read(made.disconnect(4, 0)) == [Disconnect(4, {"session_expiry_interval": 0})]
    assert read(session(4).disconnect(0, 9), 4) == [Disconnect()]
    assert session(4).disconnect(4) == b""
    assert read(session().disconnect(0, 0)) == [Disconnect(0, {"session_expiry_interval": 0})]
    with pytest.raises(ValueError, match="session_expiry"):
        session().disconnect(0, 9)
