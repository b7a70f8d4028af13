"""What the demo knows at one moment: the devices, the service, the brokers, and what has happened so far."""

from __future__ import annotations

import time
from collections import deque

from gateway.cli.demo.account import Arrivals
from gateway.cli.demo.devices import SerialDevice
from gateway.cli.demo.rig import EmbeddedBroker, Figures

SAMPLE = 0.5  # seconds between two points of the history


class Scene:
    """One scene of the story: what is happening, in a few words and in a sentence or two."""

    def __init__(self, number: int, title: str, words: str, mood: str) -> None:
        """Describe a scene. `mood` is "good", "bad" or "busy"."""
        self.number = number
        self.title = title
        self.words = words
        self.mood = mood


class Stage:
    """The state that the story changes and the view shows."""

    def __init__(self, devices: list[SerialDevice], ports: list[int], base: str) -> None:
        """Set the stage. `base` is the topic above the devices' topics, such as `sensors/demo`."""
        self.devices = devices
        self.brokers = [
            EmbeddedBroker(name, port, self._arrived)
            for name, port in zip(("primary", "secondary"), ports, strict=True)
        ]
        self.arrivals = Arrivals()
        self.figures = Figures()
        self.scene = Scene(
            0, "Setting the stage", "Two brokers, two serial devices and the gateway are starting.", "busy"
        )
        self.events: list[tuple[float, str]] = []  # seconds since the start, and what happened
        self.newest = ("", "")  # topic and payload of the newest arrival
        self.history: deque[tuple[int, int]] = deque(maxlen=240)  # waiting, and arrived since the last sample
        self.peak = 1  # the most that ever waited
        self._base = base
        self._started = time.monotonic()
        self._correction = 0  # what the service says waits, less what the two ends of the line say
        self._sampled, self._arrived_then = 0.0, 0

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    @property
    def written(self) -> int:
        """How many lines the devices have written."""
        return sum(len(device.written) for device in self.devices)

    @property
    def flowing(self) -> bool:
        """Whether the devices are sending."""
        return any(device.sending for device in self.devices)

    @property
    def waiting(self) -> int:
        """How many readings wait: as the service said last, carried forward by what both ends have seen since."""
        return max(0, self._correction + self.written - self.arrivals.unique)

    @property
    def active(self) -> EmbeddedBroker | None:
        """The broker at which readings are arriving now."""
        newest = max(self.brokers, key=lambda broker: broker.last)
        return newest if newest.up and time.monotonic() - newest.last < 1.0 else None

    def figured(self, figures: Figures) -> None:
        """Take in what the service says about itself."""
        self.figures = figures
        self._correction = figures.waiting - (self.written - self.arrivals.unique)

    def sample(self) -> None:
        """Add to the history, if it is time."""
        self.peak = max(self.peak, self.waiting)
        if self.elapsed - self._sampled < SAMPLE:
            return
        self._sampled = self.elapsed
        arrived = sum(broker.arrived for broker in self.brokers)
        self.history.append((self.waiting, arrived - self._arrived_then))
        self._arrived_then = arrived

    def _arrived(self, broker: EmbeddedBroker, topic: str, payload: str) -> None:
        """Take in one PUBLISH, as a broker received it. What is no reading, such as a status, is not counted."""
        base, _, device = topic.rpartition("/")
        if base != self._base or device in {"status", "ledger"}:
            return
        self.arrivals.add(device, payload)
        broker.arrived += 1
        broker.last = time.monotonic()
        self.newest = (topic, payload)
