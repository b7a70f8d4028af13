"""A TCP gate in front of a broker, which can keep back what the broker answers."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self


class Gate:
    """Forwards connections from `port` to a broker's port on 127.0.0.1, one thread for all.

    While held, nothing comes back from the broker any more, so that what a client sends arrives and is never
    acknowledged, as on a link that dies in one direction.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._held = threading.Event()
        self._selector = selectors.DefaultSelector()
        # Each socket's peer on the other side.
        self._peers: dict[socket.socket, socket.socket] = {}
        self._brokers: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._work, name="gate")

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._bell, self._ring = socket.socketpair()
        for each in (self._listener, self._bell):
            self._selector.register(each, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ring.close()
        self._thread.join(5)
        self._selector.close()
        for each in (self._bell, self._listener, *self._peers):
            each.close()

    def hold(self) -> None:
        """Throw away what brokers answer from now on, on every connection."""
        self._held.set()

    def release(self) -> None:
        """Drop every connection that was held, and forward new ones again."""
        self._held.clear()
        self._ring.send(b"!")

    def _work(self) -> None:
        while True:
            for key, _ in self._selector.select():
                each = key.fileobj
                assert isinstance(each, socket.socket)
                if each is self._listener:
                    self._accept()
                elif each is self._bell:
                    if not self._bell.recv(16):
                        return
                    for one in list(self._brokers):
                        self._drop(one)
                elif each in self._peers:
                    self._forward(each)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            broker = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            client.close()
            return
        self._peers |= {client: broker, broker: client}
        self._brokers.add(broker)
        for each in (client, broker):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(each, selectors.EVENT_READ)

    def _forward(self, each: socket.socket) -> None:
        try:
            data = each.recv(1 << 16)
            if data and not (self._held.is_set() and each in self._brokers):
                self._peers[each].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(each)

    def _drop(self, each: socket.socket) -> None:
        for one in (each, self._peers[each]):
            self._selector.unregister(one)
            self._brokers.discard(one)
            del self._peers[one]
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
