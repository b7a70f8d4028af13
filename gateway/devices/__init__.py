"""Keep each device running, and make what it gives fit to be taken in."""

from gateway.devices.memory import Memory, place_of_memory
from gateway.devices.metrics import HIGHEST, LONGEST_NAME, LONGEST_TEXT, LOWEST, is_plain, plan, shape
from gateway.devices.running import PATIENCE, Put, RunningDevice
from gateway.devices.spent import Spent, place_of_spent

__all__ = [
    "HIGHEST",
    "LONGEST_NAME",
    "LONGEST_TEXT",
    "LOWEST",
    "PATIENCE",
    "Memory",
    "Put",
    "RunningDevice",
    "Spent",
    "is_plain",
    "place_of_memory",
    "place_of_spent",
    "plan",
    "shape",
]
