"""The client's side of RFC 2217, Telnet Com Port Control, as bytes in and bytes out."""

from __future__ import annotations

from adapters.ports.port import Line

# RFC 854, 856, 858 and 2217.
IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
BINARY, GO_AHEAD, COM_PORT = 0, 3, 44
BAUDRATE, DATASIZE, PARITY, STOPSIZE, CONTROL = 1, 2, 3, 4, 5
SERVER = 100  # is added to a command in the server's answer

_PARITIES = {"N": 1, "O": 2, "E": 3, "M": 4, "S": 5}
_STOPS = {1: 1, 2: 2, 1.5: 3}
_NO_FLOW, _DTR, _NO_DTR, _RTS, _NO_RTS = 1, 8, 9, 11, 12
_WORDS = {BAUDRATE: "baudrate", DATASIZE: "bytesize", PARITY: "parity", STOPSIZE: "stopbits"}
_LONGEST = 256  # bytes of a command: what is longer is nonsense


class Rfc2217:
    """Asks a server for the settings of a line, tells its answers from data, and answers what it asks.

    `is_ready` once the server has agreed to speed, size, parity and stop bits. Feeding raises ValueError, in words for
    the log, when the server refuses.
    """

    def __init__(self, line: Line) -> None:
        self._wanted = {
            BAUDRATE: line.baudrate.to_bytes(4, "big"),
            DATASIZE: bytes([line.bytesize]),
            PARITY: bytes([_PARITIES[line.parity]]),
            STOPSIZE: bytes([_STOPS[line.stopbits]]),
        }
        self._controls = [_NO_FLOW]
        if line.dtr is not None:
            self._controls.append(_DTR if line.dtr else _NO_DTR)
        if line.rts is not None:
            self._controls.append(_RTS if line.rts else _NO_RTS)
        self._open = dict(self._wanted)  # what the server has not agreed to yet
        self._asked = False
        self._replies = bytearray()
        self._state = "data"
        self._verb = 0
        self._command = bytearray()

    @property
    def is_ready(self) -> bool:
        """Whether the line is set as it was asked for."""
        return not self._open

    def opening(self) -> bytes:
        """Return what the client says first."""
        return bytes([IAC, WILL, COM_PORT, IAC, WILL, BINARY, IAC, DO, BINARY, IAC, WILL, GO_AHEAD, IAC, DO, GO_AHEAD])

    @staticmethod
    def escape(data: bytes) -> bytes:
        """Return data as it goes over the connection: 0xFF is sent twice."""
        return data.replace(b"\xff", b"\xff\xff")

    def replies(self) -> bytes:
        """Return what has to be sent because of what was fed, once."""
        replies, self._replies = bytes(self._replies), bytearray()
        return replies

    def feed(self, chunk: bytes) -> bytes:
        """Return the data in a chunk. Raises ValueError when the server refuses."""
        if self._state == "data" and IAC not in chunk:
            return chunk
        data = bytearray()
        for byte in chunk:
            if self._state == "data":
                if byte == IAC:
                    self._state = "command"
                else:
                    data.append(byte)
            elif self._state == "command":
                self._state = "data"
                if byte == IAC:
                    data.append(IAC)
                elif byte in (DO, DONT, WILL, WONT):
                    self._state, self._verb = "option", byte
                elif byte == SB:
                    self._state, self._command = "sub", bytearray()
            elif self._state == "option":
                self._state = "data"
                self._option(self._verb, byte)
            elif self._state == "sub":
                if byte == IAC:
                    self._state = "sub-command"
                elif len(self._command) < _LONGEST:
                    self._command.append(byte)
            elif byte == SE:
                self._state = "data"
                self._answer(bytes(self._command))
            else:  # a doubled 0xFF
                self._state = "sub"
                self._command.append(byte)
        return bytes(data)

    def _option(self, verb: int, option: int) -> None:
        if option == COM_PORT and verb == DO:
            self._ask()
        elif option == COM_PORT and verb == DONT:
            raise ValueError("the server does not speak RFC 2217; socket:// takes its bytes as they are")
        elif option not in (BINARY, GO_AHEAD):
            # What nobody asked for is declined; RFC 854 has no answer to a refusal.
            if verb == DO:
                self._replies += bytes([IAC, WONT, option])
            elif verb == WILL:
                self._replies += bytes([IAC, DONT, option])

    def _ask(self) -> None:
        if self._asked:
            return
        self._asked = True
        settings = [(command, value) for command, value in self._wanted.items()]
        for command, value in [*settings, *((CONTROL, bytes([control])) for control in self._controls)]:
            self._replies += bytes([IAC, SB, COM_PORT, command]) + self.escape(value) + bytes([IAC, SE])

    def _answer(self, command: bytes) -> None:
        if len(command) < 2 or command[0] != COM_PORT:
            return
        what, value = command[1] - SERVER, command[2:]
        wanted = self._open.get(what)
        if wanted is None:
            return
        if value != wanted:
            asked, got = int.from_bytes(wanted, "big"), int.from_bytes(value, "big")
            raise ValueError(f"the server answers {_WORDS[what]} {got} when asked for {asked} (numbers of RFC 2217)")
        del self._open[what]
