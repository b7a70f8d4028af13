"""AES-128-GCM, through the package cryptography: the only room that knows it."""

from __future__ import annotations

from collections.abc import Callable

from gateway import DeviceError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import GCM
except ImportError as error:
    MISSING: str | None = f"needs the package cryptography ({error}); type: pip install 'sensor-gateway[crypto]'"
else:
    MISSING = None

Open = Callable[[bytes, bytes, bytes], bytes | None]


def opener(key: bytes, authenticated: bytes) -> Open:
    """Return the function that opens what was sealed with `key`, of 16 bytes, and `authenticated` beside it.

    It takes nonce, ciphered text and tag, which may be cut to 12 bytes or more, and returns the text; None, if they do
    not belong together or the key is another one. Raises DeviceError when the package is missing.
    """
    if MISSING is not None:
        raise DeviceError(MISSING)
    algorithm = AES(key)

    def unseal(nonce: bytes, text: bytes, tag: bytes) -> bytes | None:
        deciphering = Cipher(algorithm, GCM(nonce, tag, min_tag_length=len(tag))).decryptor()
        deciphering.authenticate_additional_data(authenticated)
        try:
            return deciphering.update(text) + deciphering.finalize()
        except InvalidTag:
            return None

    return unseal
