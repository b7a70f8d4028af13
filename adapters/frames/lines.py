"""Lines of text: chunks of bytes in, whole lines out."""

from __future__ import annotations

from collections import Counter

# White space and the NULs that a line picks up while a port opens. Not the tab, which may separate empty columns.
_EDGES = b" \r\0"


class LineFramer:
    r"""Cut a stream of bytes into the lines that `\n` or `\r\n` ends, without their ends; empty lines are left out.

    A line of more than `max_line` bytes, counted before its end, is thrown away up to its end and counted once; never
    are more than `max_line` bytes kept. The first line after opening may be the second half of one: `skip_first` throws
    away everything up to the first end. Without it a complete first line is never lost, and half a line is left to the
    decoder.
    """

    def __init__(self, max_line: int = 4096, *, skip_first: bool = False) -> None:
        self.max_line = max_line
        self.thrown: Counter[str] = Counter()
        self._overlong = f"line longer than {max_line} bytes"
        self._rest = bytearray()
        self._discarding = skip_first  # up to the next end

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes."""
        lines = chunk.split(b"\n")
        tail = lines.pop()
        if lines:
            if self._discarding:
                self._discarding = False
                del lines[0]
            elif self._rest:
                lines[0] = bytes(self._rest) + lines[0]
                self._rest.clear()
            if len(chunk) + len(lines[0] if lines else b"") > self.max_line:
                lines = self._short(lines)
        if tail and not self._discarding:
            self._keep(tail)
        return [line for raw in lines if (line := raw.strip(_EDGES))]

    def _short(self, lines: list[bytes]) -> list[bytes]:
        short = [line for line in lines if len(line) <= self.max_line]
        if len(short) < len(lines):
            self.thrown[self._overlong] += len(lines) - len(short)
        return short

    def _keep(self, tail: bytes) -> None:
        if len(self._rest) + len(tail) > self.max_line:
            self.thrown[self._overlong] += 1
            self._discarding = True
            self._rest.clear()
        else:
            self._rest += tail
