"""Keep each device running, and make what it gives fit to be taken in."""

from gateway.devices.memory import Memory, place_of_memory
from gateway.devices.metrics import HIGHEST, LONGEST_NAME, LONGEST_TEXT, LOWEST, is_plain, plan, shape
from gateway.devices.running import PATIENCE, Put, RunningDevice

__all__ = [
    "HIGHEST",
    "LONGEST_NAME",
    "LONGEST_TEXT",
    "LOWEST",
    "PATIENCE",
    "Memory",
    "Put",
    "RunningDevice",
    "is_plain",
    "place_of_memory",
    "plan",
    "shape",
]
