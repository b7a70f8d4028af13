"""Passwords derived from keys: against values that were computed by others."""

from __future__ import annotations

import pytest

from gateway.uplink.credentials import alibaba_password, sas_token

RESOURCE = "contoso.azure-devices.net/devices/MyDevice01"
KEY = "c2VjcmV0IGtleSBvZiBhIGRldmljZQ=="  # "secret key of a device"

# printf 'contoso.azure-devices.net%%2Fdevices%%2FMyDevice01\n1763603600' |
#     openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf %s "$KEY" | base64 -d | xxd -p) -binary | base64
SIGNATURE = "jKLDkQlNMRC9GPsEeNmdE9ZP8qXO65jqLZOJxGHbUSQ%3D"


def test_a_sas_token_is_signed_as_openssl_signs_it() -> None:
    """Azure IoT Hub computes the same signature, over the encoded resource and the expiry."""
    token = "SharedAccessSignature sr=contoso.azure-devices.net%2Fdevices%2FMyDevice01"
    token += f"&sig={SIGNATURE}&se=1763603600"
    assert sas_token(RESOURCE, KEY, 3600, 1763600000.9) == token
    assert sas_token(RESOURCE, KEY, 3600, 1763600000, "my policy") == f"{token}&skn=my%20policy"


def test_a_signature_travels_encoded() -> None:
    """Plus, slash and equals sign of base64 would mean something else between ampersands."""
    for now in range(200):
        signature = sas_token(RESOURCE, KEY, 60, float(now)).partition("&sig=")[2].partition("&se=")[0]
        assert not set(signature) & set("+/= &")


@pytest.mark.parametrize(
    ("key", "lifetime", "words"), [("not base64", 60, "base64"), ("", 60, "empty"), (KEY, 0, "lifetime")]
)
def test_a_token_that_could_never_be_good_is_refused(key: str, lifetime: float, words: str) -> None:
    """A mistake in the key is found here, and the key is not repeated in the error."""
    with pytest.raises(ValueError, match=words) as raised:
        sas_token(RESOURCE, key, lifetime, 0.0)
    assert not key or key not in str(raised.value)


def test_alibaba_s_own_example() -> None:
    """The example in the vendor's documentation; its last digits, masked there, are openssl's."""
    # printf clientId12345deviceNamedeviceproductKeypktimestamp789 | openssl dgst -sha1 -hmac secret
    expected = "FAFD82A3D602B37FB0FA8B7892F24A477F851A14"
    client_id = "12345|securemode=3,signmethod=hmacsha1,timestamp=789|"
    assert alibaba_password(client_id, "device&pk", "secret") == expected


def test_alibaba_without_a_timestamp() -> None:
    """What is not sent is not signed."""
    # printf clientId12345deviceNamedeviceproductKeypk | openssl dgst -sha256 -hmac secret
    expected = "C8CB3DCB7159682438E5FD9A9C34F398E41BB8EDB6F222795E307BAFEE151090"
    assert alibaba_password("12345|securemode=2,signmethod=hmacsha256|", "device&pk", "secret") == expected


@pytest.mark.parametrize(
    ("client_id", "username", "words"),
    [
        ("12345", "device&pk", "client_id must be like"),
        ("|signmethod=hmacsha1|", "device&pk", "client_id must be like"),
        ("12345|signmethod=hmacsha1", "device&pk", "client_id must be like"),
        ("12345|signmethod=hmacsha1|", "device", "username must be like"),
        ("12345|signmethod=hmacmd5|", "device&pk", "signmethod in client_id must be one of hmacsha1, hmacsha256"),
        ("12345|securemode=2|", "device&pk", "signmethod"),
    ],
)
def test_alibaba_refuses_other_forms(client_id: str, username: str, words: str) -> None:
    """What the platform would refuse without a word is said in words."""
    with pytest.raises(ValueError, match=words):
        alibaba_password(client_id, username, "secret")
