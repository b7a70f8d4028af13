"""Two small proxies on 127.0.0.1: HTTP CONNECT and SOCKS5. Whatever name they are asked for, they lead to one port."""

from __future__ import annotations

import asyncio
import socket
from base64 import b64decode
from contextlib import suppress
from typing import Self


class Proxy:
    """What both have in common. `async with` starts and stops it; its knobs may be turned while it runs."""

    scheme = ""

    def __init__(self, port: int) -> None:
        # Knobs.
        self.credentials: tuple[str, str] | None = None  # that it insists on
        self.refuse: int | None = None  # answer with this code
        self.mute = False  # answer nothing
        self.nonsense = b""  # answer this, and close
        # What has happened.
        self.asked: list[tuple[str, int]] = []  # host or address, and port
        self.peers: list[str] = []  # addresses that it was connected to from
        self.port = 0
        self._to = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.peers.append(writer.get_extra_info("peername")[0])
        try:
            # A cancelled task of a stream server would be logged as an error by asyncio.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if self.mute:
                    await reader.read()
                elif self.nonsense:
                    writer.write(self.nonsense)
                elif await self._agree(reader, writer):
                    await self._carry(reader, writer)
        finally:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, forth))
                group.create_task(self._copy(back, writer))
        finally:
            forth.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def _agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        raise NotImplementedError


class HttpProxy(Proxy):
    """CONNECT (RFC 9110, section 9.3.6)."""

    scheme = "http"
    answer = (b"HTTP/1.1 CODE Word\r\nVia: test\r\n\r\n",)  # a write for each

    async def _agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = first.split(" ")
        assert method == "CONNECT"
        host, _, port = target.rpartition(":")
        self.asked.append((host, int(port)))
        headers = dict(line.split(": ", 1) for line in lines if line)
        given = b64decode(headers.get("Proxy-Authorization", "").removeprefix("Basic ")).decode()
        code = self.refuse or (200 if self.credentials is None or given == ":".join(self.credentials) else 407)
        for part in self.answer:
            writer.write(part.replace(b"CODE", b"%d" % code))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # the client has its turn, and reads what there is
        return code == 200


class Socks5Proxy(Proxy):
    """CONNECT (RFC 1928), with user name and password (RFC 1929)."""

    scheme = "socks5"

    async def _agree(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        methods = await reader.readexactly((await reader.readexactly(2))[1])
        wanted = 0 if self.credentials is None else 2
        writer.write(bytes((5, wanted if wanted in methods else 0xFF)))
        if wanted not in methods:
            return False
        if self.credentials is not None:
            await reader.readexactly(1)
            user, password = [await reader.readexactly((await reader.readexactly(1))[0]) for _ in range(2)]
            right = (user.decode(), password.decode()) == self.credentials
            writer.write(bytes((1, not right)))
            if not right:
                return False
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.readexactly(length))
        self.asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
        writer.write(bytes((5, self.refuse or 0, 0, 1)) + bytes(6))
        return not self.refuse
