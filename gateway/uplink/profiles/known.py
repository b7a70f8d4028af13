"""The profiles that are known, from what the brokers' makers publish, as it could be read in November 2026.

No cloud was tried. A number that is not published refuses no message here: a guess could lose one,
and a message on which a broker hangs up is found out anyway. What costs no message (windows, rates) is guessed low.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType

from gateway.uplink.profiles.profile import Profile

_KIB = 1 << 10
_MIB = 1 << 20

# AWS IoT Core endpoints and quotas, "message broker" and "protocol" limits:
# https://docs.aws.amazon.com/general/latest/gr/iot-core.html#message-broker-limits (none of these can be raised), and
# MQTT, differences from the specifications: https://docs.aws.amazon.com/iot/latest/developerguide/mqtt.html.
# A session is kept for an hour, unless the account was given more. Basic Ingest topics are free of their first levels.
_AWS_IOT = Profile(
    name="aws-iot",
    maximum_qos=1,
    topic_size=256,
    topic_levels=8,
    uncounted=re.compile(rb"\$aws/rules/[^/]+/", re.IGNORECASE),
    topic_form=re.compile(rb"(?!\$(?!aws/)).*", re.IGNORECASE | re.DOTALL),
    topic_words="a topic that begins with $ is one of $aws/...",
    payload_size=128 * _KIB,
    keep_alive=(30.0, 1200.0),
    window=100,
    messages_per_second=100.0,
    bytes_per_second=512.0 * _KIB,
    client_id=re.compile(rb"(?!\$).{1,128}", re.DOTALL),
    client_id_words="1 to 128 bytes, and no $ at the start",
    protocols=("3.1.1", "5"),
)

# Communicate with an IoT hub using the MQTT protocol: https://learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub;
# device ids: https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-identity-registry; quotas and throttling:
# https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling. The rate is that of a whole hub of the
# smallest tier. The window is published for the MQTT 5 preview only, which is withdrawn:
# https://learn.microsoft.com/azure/iot/iot-mqtt-5-preview. Subscriptions are kept when the session is not clean.
_DEVICE_ID = rb"[A-Za-z0-9\-.%_#*?!(),:=@$']{1,128}"
_AZURE_IOT_HUB = Profile(
    name="azure-iot-hub",
    maximum_qos=1,
    retain=False,  # passed on as a property, and not retained
    topic_form=re.compile(rb"devices/[^/]+/(modules/[^/]+/)?messages/events/.*|\$iothub/.*", re.DOTALL),
    topic_words="devices/DEVICE/messages/events/..., devices/DEVICE/modules/MODULE/messages/events/... or $iothub/...",
    packet_size=256 * _KIB,  # of the message with its properties, which are in the topic
    keep_alive=(0.0, 1177.0),
    window=16,
    messages_per_second=100.0,
    client_id=re.compile(rb"%b(/%b)?" % (_DEVICE_ID, _DEVICE_ID)),
    client_id_words="the id of the device, or DEVICE/MODULE, of up to 128 letters, digits and -.%_#*?!(),:=@$' each",
    username=True,
    protocols=("3.1.1",),
)

# Azure Event Grid quotas and limits, "MQTT limits": https://learn.microsoft.com/azure/event-grid/quotas-limits, and
# MQTT features, "current limitations": https://learn.microsoft.com/azure/event-grid/mqtt-support.
# On 3.1.1 the broker hangs up on a retained message; on 5 it retains up to 64 KiB, by a page of 2025, which is not
# relied on. 1000 messages may be in flight, but of 64 KB together: hence 100 of 640 bytes. A namespace keeps a session
# for one to eight hours. The user name may also be taken from the certificate. The form of client ids is not published.
_AZURE_EVENT_GRID = Profile(
    name="azure-event-grid",
    maximum_qos=1,
    retain=False,
    topic_size=256,
    topic_levels=8,
    packet_size=512 * _KIB,
    keep_alive=(0.0, 1160.0),
    window=100,
    messages_per_second=1000.0,
    bytes_per_second=1e6,
    client_id=re.compile(rb".+", re.DOTALL),
    client_id_words="at least one character: the name of the session",
    protocols=("3.1.1", "5"),
)

# MQTT protocol specifications: https://help.aliyun.com/en/iot/user-guide/mqtt-protocol, and
# Establish MQTT connections over TCP: https://www.alibabacloud.com/help/doc-detail/73742.htm. MQTT 5 needs an instance
# of the Enterprise kind. Sizes of topics and payloads, window and rate could not be confirmed, nor kept sessions.
_ALIBABA_IOT = Profile(
    name="alibaba-iot",
    maximum_qos=1,
    retain=False,
    will=False,
    topic_form=re.compile(rb"/.*", re.DOTALL),
    topic_words="topics begin with /, such as /PRODUCT/DEVICE/user/...",
    keep_alive=(30.0, 1200.0),
    window=10,
    messages_per_second=10.0,
    client_id=re.compile(rb"[^|]{1,64}\|[^|]+\|"),
    client_id_words='1 to 64 characters and "|securemode=2,signmethod=hmacsha256|"',
    username=True,
    session_kept=False,
)

# MQTT-specific configuration, the defaults: https://github.com/hivemq/hivemq-community-edition/wiki, and
# restrictions: https://docs.hivemq.com/hivemq/latest/user-guide/restrictions.html. What HiveMQ Cloud sets lower than
# these defaults is not published, but all of it is said in CONNACK on MQTT 5. The window is the receive maximum,
# which no broker can say on 3.1.1.
_HIVEMQ = Profile(name="hivemq", packet_size=268_435_460, window=10)

# MQTT plugin, "limitations": https://www.rabbitmq.com/docs/mqtt#limitations; packets: release notes of 4.1.0 (before,
# 256 MiB): https://github.com/rabbitmq/rabbitmq-server/releases/tag/v4.1.0. Topics become routing keys, which AMQP
# limits to 255 bytes, but to MQTT subscribers 3.10.8 carries those of 5000 too: tried. MQTT 5 since 3.13. A client
# that subscribes to nothing has no queue, and so no session.
_RABBITMQ = Profile(
    name="rabbitmq",
    maximum_qos=1,  # 3.1.1: answered as QoS 1; 5: the broker hangs up
    packet_size=16 * _MIB,
    session_kept=False,
)

# MQTT: https://docs.nats.io/nats-server/configuration/mqtt, and, for characters,
# https://docs.nats.io/learn/mqtt/where-next. A dot in a topic needs 2.10, as QoS 2 does. max_payload, 1 MiB by default
# (https://docs.nats.io/running-a-nats-service/configuration), also counts what the server adds: 1 KiB is left for that.
_NATS = Profile(
    name="nats",
    topic_form=re.compile(rb"[^\x00-\x20\x7f]+"),
    topic_words="topics without spaces and control characters",
    packet_size=_MIB - _KIB,
    protocols=("3.1.1",),
)

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        known.name: known
        for known in (
            Profile(),
            _AWS_IOT,
            _AZURE_IOT_HUB,
            _AZURE_EVENT_GRID,
            _ALIBABA_IOT,
            _HIVEMQ,
            _RABBITMQ,
            _NATS,
        )
    }
)


def profile(name: str) -> Profile:
    """Return the profile of this name. Raises ValueError, with the name that was probably meant."""
    try:
        return PROFILES[name]
    except KeyError:
        close = get_close_matches(name.lower(), PROFILES, n=1, cutoff=0.5)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ValueError(f'unknown profile "{name}"{hint} (there is: {", ".join(PROFILES)})') from None
