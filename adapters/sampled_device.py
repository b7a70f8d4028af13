"""Values that the machine itself can say, such as files of the kernel: looked up on a schedule, in a thread."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from pydantic import Field

from adapters.ports.threads import in_thread
from adapters.schedule import following, spread
from gateway import Adapter, Device, DeviceError, Duration, Value


class Skip(Protocol):
    """Tells of something that was thrown away."""

    def __call__(self, reason: str, given: bytes = b"", /) -> None:
        """Count it, under this reason."""


class SampledDevice(Adapter):
    """A device whose values are had with one call that may block. A subclass says which: `sample`."""

    interval: Duration = Field(default=10.0, ge=0.01, description="Time from one reading to the next.")
    timeout: Duration = Field(default=5.0, gt=0, description="The longest that looking it up may take.")

    def sample(self, skip: Skip) -> dict[str, Value]:
        """Return the values of this moment; none, if there is nothing worth a reading. Called in a thread.

        `skip(reason, sample)` tells of what is no value. Raises OSError or DeviceError when the device is not there,
        and ValueError, with the reason, for what cannot be read.
        """
        raise NotImplementedError

    async def run(self, device: Device) -> None:
        """Look the values up at each interval. Raises DeviceError when that fails or takes too long."""
        loop = asyncio.get_running_loop()
        start = loop.time() + spread(device.name, self.interval) - self.interval
        while True:
            skipped: list[tuple[str, bytes]] = []
            try:
                async with asyncio.timeout(self.timeout):
                    values = await in_thread(partial(self._sample, skipped), lambda _: None)
            except TimeoutError:
                raise DeviceError(f"does not answer within {self.timeout:g} s") from None
            except ValueError as error:
                raise DeviceError(str(error)) from error
            for reason, given in skipped:
                device.skip(reason, given)
            if values:
                await device.emit(values)
            else:
                device.online()
            now = loop.time()
            await asyncio.sleep(following(start, self.interval, now) - now)

    def _sample(self, skipped: list[tuple[str, bytes]]) -> dict[str, Value]:
        """Take a sample, and note what it skips: it is in a thread, where the device may not be told."""
        return self.sample(lambda reason, given=b"": skipped.append((reason, given)))
