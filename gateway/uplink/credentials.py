"""Passwords that clouds derive from a key: pure functions, for the hook that is asked before each connect."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from urllib.parse import quote

_SIGN_METHODS = {"hmacsha1": "sha1", "hmacsha256": "sha256"}


def sas_token(resource: str, key: str, lifetime: float, now: float, policy: str | None = None) -> str:
    """Return a SharedAccessSignature, which Azure IoT Hub takes as the password.

    `resource` is "HUB.azure-devices.net/devices/DEVICE", `key` the device's in base64; or `policy` names a shared
    access policy, and `key` is that one's. The token is good for `lifetime` seconds from `now`, in seconds of UTC
    since 1970. Raises ValueError for a key that is not base64, and for a token that would never be good.
    Source: https://learn.microsoft.com/azure/iot-hub/iot-hub-dev-guide-sas, "Security token structure".
    """
    try:
        secret = b64decode(key, validate=True)
    except ValueError:
        raise ValueError("the key must be base64, as Azure shows it") from None
    if not secret:
        raise ValueError("the key is empty")
    if lifetime < 1:
        raise ValueError(f"the lifetime must be at least a second, not {lifetime:g} seconds")
    expiry = int(now + lifetime)
    scope = quote(resource, safe="")
    signature = b64encode(hmac.digest(secret, f"{scope}\n{expiry}".encode(), hashlib.sha256))
    token = f"SharedAccessSignature sr={scope}&sig={quote(signature, safe='')}&se={expiry}"
    return token if policy is None else f"{token}&skn={quote(policy, safe='')}"


def alibaba_password(client_id: str, username: str, secret: str) -> str:
    """Return the password with which a device signs in to Alibaba Cloud's IoT Platform.

    `client_id` is the whole of it, such as "12345|securemode=2,signmethod=hmacsha256,timestamp=789|", `username` is
    "DEVICE&PRODUCT", and `secret` the device's. Raises ValueError for what is not of these forms.
    Source: https://www.alibabacloud.com/help/doc-detail/73742.htm, "Parameters in an MQTT CONNECT message".
    """
    plain, bar, rest = client_id.partition("|")
    if not plain or not bar or not rest.endswith("|"):
        raise ValueError('client_id must be like "12345|securemode=2,signmethod=hmacsha256|"')
    extended = dict(pair.partition("=")[::2] for pair in rest[:-1].split(","))
    device, ampersand, product = username.partition("&")
    if not device or not ampersand or not product:
        raise ValueError('username must be like "DEVICE&PRODUCT"')
    method = extended.get("signmethod", "")
    if method not in _SIGN_METHODS:
        raise ValueError(f"signmethod in client_id must be one of {', '.join(_SIGN_METHODS)}")
    signed = {"clientId": plain, "deviceName": device, "productKey": product}
    if "timestamp" in extended:
        signed["timestamp"] = extended["timestamp"]
    content = "".join(f"{name}{value}" for name, value in sorted(signed.items()))
    return hmac.digest(secret.encode(), content.encode(), _SIGN_METHODS[method]).hex().upper()
