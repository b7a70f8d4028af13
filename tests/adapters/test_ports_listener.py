"""Listening for connections: none is left open, whenever the end comes."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest

from adapters.ports.listener import listening
from tests.ports import free_port


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_that_comes_as_the_end_does_is_closed(turns: int) -> None:
    """In whatever turn of the loop after its coming: accepted and not yet made, made, or not even accepted."""
    port = free_port()
    with socket.socket() as client:
        client.settimeout(10)
        async with listening(f"127.0.0.1:{port}", lambda *_: lambda _: None, lambda _: None, most=1, idle=60):
            client.connect(("127.0.0.1", port))
            for _ in range(turns):
                await asyncio.sleep(0)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
