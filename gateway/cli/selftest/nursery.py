"""A process that starts others, warm: `python -m gateway.cli.selftest.nursery DESCRIPTOR MODULE...`.

It has imported all that a gateway needs, and has no thread, so that a gateway is a fork of it and runs after some
milliseconds instead of half a second: what is tested is what a gateway does, and not Python's imports. Brokers are its
children as well, so that there is one place where processes end: when the self-test goes, however that comes about, its
end of the socket is closed, and everything here is killed. Should this process be killed itself, the kernel does that.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

EX_SOFTWARE = 70  # sysexits.h: a bug
LONGEST = 1 << 16
_PDEATHSIG = 1  # prctl(2)


class Nursery:
    """Takes requests, each a datagram of JSON, and tells of each child that has ended.

    `{"start": name, "call": "module:function", "arguments": [...], "environ": {...}, "log": path}` forks,
    `{"start": name, "command": [...], "log": path}` executes, and `{"signal": number, "to": name}` sends a signal.
    `{"started": name, "pid": pid}` and `{"ended": name, "status": status}` are the answers; a status below 0 is a
    signal. Names are the caller's, and are used once: unlike a number of a process, they can mean only one.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._children: dict[int, str] = {}  # pid -> name
        self._bell, self._ring = socket.socketpair()
        # What a child reads that ends when its stdin does. Never written to.
        self._stdin, self._held = os.pipe()
        self._libc = ctypes.CDLL(None)

    def serve(self) -> None:
        """Work until the channel is closed, and then kill all that there is."""
        for end in (self._bell, self._ring):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)
        try:
            while True:
                ready, _, _ = select.select([self._channel, self._bell], [], [])
                if self._bell in ready:
                    with suppress(BlockingIOError):
                        self._bell.recv(LONGEST)
                    self._reap()
                if self._channel in ready:
                    if not (request := self._channel.recv(LONGEST)):
                        return
                    self._do(json.loads(request))
        finally:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)

    def _do(self, request: dict[str, Any]) -> None:
        if "signal" in request:
            for pid, name in self._children.items():
                if name == request["to"]:
                    os.kill(pid, request["signal"])
            return
        pid = os.fork()
        if pid == 0:
            self._become(request)
        self._children[pid] = request["start"]
        self._tell(started=request["start"], pid=pid)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._tell(ended=self._children.pop(pid), status=os.waitstatus_to_exitcode(status))

    def _tell(self, **words: object) -> None:
        with suppress(OSError):  # nobody listens any more, which the next turn finds
            self._channel.send(json.dumps(words).encode())

    def _become(self, request: dict[str, Any]) -> NoReturn:
        """Be the child that was asked for."""
        status = EX_SOFTWARE
        try:
            self._libc.prctl(_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for source, target in ((self._stdin, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.closerange(3, 256)
            os.environ.update(request.get("environ", {}))
            if "command" in request:
                os.execv(request["command"][0], request["command"])  # noqa: S606 - our own list, no shell
            module, _, function = request["call"].partition(":")
            status = getattr(importlib.import_module(module), function)(*request["arguments"])
        except BaseException:  # noqa: BLE001 - the boundary of a process
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)


def main() -> int:
    """Serve over the socket that is descriptor number sys.argv[1], with the modules after it imported."""
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else the first collection of each child would copy the memory that it shares
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        Nursery(channel).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
