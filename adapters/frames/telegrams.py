r"""Telegrams of meters in text: from `/` to the end of the line that `!` begins.

Source: IEC 62056-21, 6.3: neither sign may stand anywhere else in a telegram. That of a Holley DTSD545 has a `/` in its
first line all the same, and others have it in text messages: within a line it begins none, unless a whole first line
follows, which means that the telegram before was torn.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

LONGEST = 16384  # bytes; a Belgian telegram with the peaks of a year has about 3,000
_LAST_LINE = 16  # bytes; "!" and a checksum in hex
# What a torn telegram ends with: the first line of another one, in the middle of a line.
_ANOTHER: Final = re.compile(rb"(?<=[^\r\n])/[A-Za-z]{3}[0-9A-Za-z][^()/\r\n]*\r?\n")


class TelegramFramer:
    """Cut a stream into telegrams, each from its `/` to the end of line after its `!`.

    What lies between them is counted as "bytes between frames", and one without an end as "frame without an end".
    """

    def __init__(self) -> None:
        self.thrown: Counter[str] = Counter()
        self._rest = bytearray()  # of the telegram that has begun: from its "/"
        self._mark = -1  # where its "!" is
        self._garbage = False  # bytes between frames that are counted already

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the telegrams that `chunk` completes."""
        frames = []
        first, *begun = chunk.split(b"/")
        if (frame := self._go_on(first)) is not None:
            frames.append(frame)
        for piece in begun:
            if self._rest and (self._mark >= 0 or self._rest.endswith((b"\n", b"\r"))):
                self._lose()
            if self._rest:
                piece = b"/" + piece
            else:
                self._garbage = False
                self._rest += b"/"
            if (frame := self._go_on(piece)) is not None:
                frames.append(frame)
        return frames

    def _go_on(self, piece: bytes) -> bytes | None:
        """Take in what comes next; return the telegram that it completes."""
        rest = self._rest
        if not rest:
            self._between(piece)
            return None
        before = len(rest)
        rest += piece
        if self._mark < 0:
            self._mark = rest.find(b"!", before, LONGEST)
        end = rest.find(b"\n", self._mark, self._mark + _LAST_LINE) + 1 if self._mark >= 0 else 0
        if end > 0:
            frame, after = bytes(rest[:end]), bytes(rest[end:])
            self._forget()
            self._between(after)
            return self._whole(frame)
        if len(rest) - self._mark >= _LAST_LINE if self._mark >= 0 else len(rest) >= LONGEST:
            self._lose()
        return None

    def _whole(self, frame: bytes) -> bytes:
        """Return a telegram without the beginning of another one, which was torn, before it."""
        *_, last = [0, *(found.start() for found in _ANOTHER.finditer(frame))]
        if last:
            self.thrown["frame without an end"] += 1
        return frame[last:]

    def _forget(self) -> None:
        self._rest.clear()
        self._mark = -1

    def _lose(self) -> None:
        self.thrown["frame without an end"] += 1
        self._forget()
        self._garbage = True

    def _between(self, piece: bytes) -> None:
        if not self._garbage and piece.strip(b"\r\n\0"):
            self._garbage = True
            self.thrown["bytes between frames"] += 1
