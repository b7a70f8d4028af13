"""Devices that write lines of text to a serial port: Arduinos, scales, loggers; JSON, key=value, CSV or a pattern."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field

from adapters.frames import text
from adapters.serial.device import FramedDevice
from adapters.text_lines import TextLines
from adapters.written import Writing, Written
from gateway import Device


class SerialText(TextLines, FramedDevice):
    """Reads one reading from each line of text that a device writes to a serial port."""

    detectable: ClassVar[int] = 4
    speaks_at: ClassVar[tuple[str, ...]] = tuple(f"{speed} 8N1" for speed in (115200, 4800, 19200, 38400, 57600, 2400))

    commands: dict[str, Written] = Field(
        default={},
        description='What is written to set a metric: valve = "SET {value}\\n", or a table with write, words, answer '
        "and timeout.",
    )

    @classmethod
    def readable_with(cls, heard: bytes) -> Iterable[dict[str, Any]]:
        """Return the formats in which lines may be read, with the columns that most of them have."""
        yield {"format": "json"}
        yield {"format": "key-value"}
        for separator in ",;\t":
            if columns := text.columns_of(heard, separator):
                yield {"format": "csv", "columns": columns} | ({"separator": separator} if separator != "," else {})
        yield {"format": "regex", "pattern": text.ONE_NUMBER}

    def can_set(self, metric: str) -> bool:
        """Say that what there is a template for can be set."""
        return metric in self.commands

    async def run(self, device: Device) -> None:
        """Take in what comes, and write what commands say, until it is unplugged."""
        if not self.commands:
            await super().run(device)
            return
        writing = Writing(self.commands, self.encoding)
        async with self.serial_port() as port:
            await self.greet(port)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(writing.serve(device.commands(), port.write))
                await self.hear(device, port, self.taker(device, writing.passing(self.decoder())))
