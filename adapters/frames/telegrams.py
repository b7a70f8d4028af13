r"""Telegrams of meters in text: from `/` to the end of the line that `!` begins.

Source: IEC 62056-21, 6.3: neither sign may stand anywhere else in a telegram, so each `/` begins a new one.
"""

from __future__ import annotations

from collections import Counter

LONGEST = 16384  # bytes; a Belgian telegram with the peaks of a year has about 3,000
_LAST_LINE = 16  # bytes; "!" and a checksum in hex


class TelegramFramer:
    """Cut a stream into telegrams, each from its `/` to the end of line after its `!`.

    What lies between them is counted as "bytes between frames", and one without an end as "frame without an end".
    """

    def __init__(self) -> None:
        self.thrown: Counter[str] = Counter()
        self._rest = bytearray()  # of the telegram that has begun: from its "/"
        self._garbage = False  # bytes between frames that are counted already

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the telegrams that `chunk` completes."""
        frames = []
        first, *begun = chunk.split(b"/")
        if (frame := self._go_on(first)) is not None:
            frames.append(frame)
        for piece in begun:
            if self._rest:
                self._lose()
            self._garbage = False
            self._rest += b"/"
            if (frame := self._go_on(piece)) is not None:
                frames.append(frame)
        return frames

    def _go_on(self, piece: bytes) -> bytes | None:
        """Take in bytes without a `/`; return the telegram that they complete."""
        rest = self._rest
        if not rest:
            self._between(piece)
            return None
        rest += piece
        mark = rest.find(b"!", 0, LONGEST)
        end = rest.find(b"\n", mark, mark + _LAST_LINE) + 1 if mark >= 0 else 0
        if end > 0:
            frame, after = bytes(rest[:end]), bytes(rest[end:])
            rest.clear()
            self._between(after)
            return frame
        if len(rest) - mark >= _LAST_LINE if mark >= 0 else len(rest) >= LONGEST:
            self._lose()
        return None

    def _lose(self) -> None:
        self.thrown["frame without an end"] += 1
        self._rest.clear()
        self._garbage = True

    def _between(self, piece: bytes) -> None:
        if not self._garbage and piece.strip(b"\r\n\0"):
            self._garbage = True
            self.thrown["bytes between frames"] += 1
