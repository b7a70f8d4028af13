"""Ciphered telegrams of DLMS/COSEM ("general-glo-ciphering"), in which meters in Luxembourg send theirs on the P1 port.

Sources: DLMS UA, "Green Book" (IEC 62056-5-3), 9.2.7: `DB`, the system title (8 bytes, after their number), the length
of what follows (1 byte, or `81` and 1, `82` and 2, `84` and 4 bytes), `30` (authenticated and encrypted), the frame
counter (4 bytes), the telegram, and the tag. AES-128-GCM, NIST SP 800-38D: the nonce is system title and frame counter,
the tag has 12 bytes. Creos, "Smarty P1" 1.1.3: what is authenticated beside the telegram is `30` and a key that is no
secret.
"""

from __future__ import annotations

from typing import Final

from adapters.frames.framer import BinaryFramer

LONGEST: Final = 8192  # bytes; how much a wrong length can keep waiting

_BEGIN: Final = b"\xdb\x08"
_TITLE: Final = 8
_LENGTH_AT: Final = len(_BEGIN) + _TITLE
_HEAD: Final = _LENGTH_AT + 5 + 1  # with the longest length, and what comes after it
_SEALED: Final = 0x30
_COUNTER: Final = 4
_TAG: Final = 12


class CipheredFramer:
    """Cut ciphered telegrams out of a stream and open them with a key.

    One that the key does not open is counted as "the key does not fit, or the telegram is damaged". A telegram that
    was recorded and is played again opens as well: that its frame counter is an old one is nothing that is looked at.
    Raises DeviceError when the package that knows AES is missing.
    """

    def __init__(self, key: bytes, authentication: bytes) -> None:
        from adapters.frames.aes import opener  # not before somebody has a key

        self._open = opener(key, authentication)
        self._opened: list[bytes] = []
        reason = "the key does not fit, or the telegram is damaged"
        self._cut = BinaryFramer(_BEGIN, _length, self._opens, head=_HEAD, longest=LONGEST, unsound=reason)
        self.thrown = self._cut.thrown

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the telegrams that `chunk` completes, deciphered."""
        self._cut.feed(chunk)
        opened, self._opened = self._opened, []
        return opened

    def _opens(self, frame: bytes) -> bool:
        at = _LENGTH_AT + _bytes_of_length(frame)
        counter = frame[at + 1 : at + 1 + _COUNTER]
        nonce = frame[len(_BEGIN) : _LENGTH_AT] + counter
        telegram = self._open(nonce, frame[at + 1 + _COUNTER : -_TAG], frame[-_TAG:])
        if telegram is None:
            return False
        self._opened.append(telegram)
        return True


def _bytes_of_length(frame: bytes) -> int:
    """Return in how many bytes the length is written; 0, if it is none."""
    return {0x81: 2, 0x82: 3, 0x84: 5}.get(frame[_LENGTH_AT], 1 if frame[_LENGTH_AT] < 0x80 else 0)


def _length(head: bytes) -> int:
    written = _bytes_of_length(head)
    at = _LENGTH_AT + written
    if not written or head[at] != _SEALED:
        return 0
    following = int.from_bytes(head[at - max(1, written - 1) : at], "big")
    return at + following if following > 1 + _COUNTER + _TAG else 0
