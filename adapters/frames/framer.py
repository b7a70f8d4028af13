"""Framers: a stream of bytes in, complete frames out, however the stream is cut and whatever garbage is in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol


class Framer(Protocol):
    """Cuts frames out of a stream. Takes linear time and bounded memory, and finds the next frame after any garbage."""

    thrown: Counter[str]
    """How often something was thrown away, for each reason, in words for the log."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes, in order."""
        ...


class BinaryFramer:
    """Frames that begin with a header, tell their length, and carry a checksum.

    `length` is that of the whole frame in bytes, or tells it from the frame's first `head` bytes; 0: this is no frame.
    `check` says whether a whole frame is sound. No frame may be longer than `longest`. What is no frame is counted as
    "bytes between frames", once for all that lie together; a frame that is not sound as `unsound`, and what is in it is
    looked through once more, because a header may be a part of garbage.
    """

    def __init__(
        self,
        header: bytes,
        length: int | Callable[[bytes], int],
        check: Callable[[bytes], bool],
        *,
        head: int = 0,
        longest: int = 1024,
        unsound: str = "wrong checksum",
    ) -> None:
        self.thrown: Counter[str] = Counter()
        self._header = header
        self._length = length if callable(length) else lambda _: length
        self._head = max(head, len(header))
        self._check = check
        self._longest = longest
        self._unsound = unsound
        self._rest = bytearray()
        self._in_garbage = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes."""
        rest, frames, at = self._rest, [], 0
        rest += chunk
        while True:
            start = rest.find(self._header, at)
            if start < 0:
                # The end may be the beginning of a header.
                start = max(at, len(rest) - len(self._header) + 1)
                while start < len(rest) and not self._header.startswith(rest[start:]):
                    start += 1
                self._skip(start - at)
                at = start
                break
            self._skip(start - at)
            at = start
            if len(rest) - at < self._head:
                break
            size = self._length(bytes(rest[at : at + self._head]))
            if not self._head <= size <= self._longest:
                self._skip(1)
                at += 1
                continue
            if len(rest) - at < size:
                break
            frame = bytes(rest[at : at + size])
            if self._check(frame):
                frames.append(frame)
                self._in_garbage = False
                at += size
            else:
                self.thrown[self._unsound] += 1
                self._in_garbage = True  # counted already
                at += 1
        del rest[:at]
        return frames

    def finish(self) -> None:
        """Count what has begun as a frame and will not be completed, because the stream is over."""
        if self._rest:
            self.thrown["half a frame at the end"] += 1
            self._rest.clear()

    def _skip(self, count: int) -> None:
        if count > 0 and not self._in_garbage:
            self._in_garbage = True
            self.thrown["bytes between frames"] += 1
