"""What becomes of a device's values before they are taken in, in this order; nothing here does any I/O.

plain → rename → kind, scale, offset → computed → min, max → drop → window, or precision, deadband and on_change.
"""

from gateway.devices.metrics.plain import HIGHEST, LONGEST_NAME, LONGEST_TEXT, LOWEST, free, is_plain
from gateway.devices.metrics.plan import Plan, plan
from gateway.devices.metrics.shape import Known, Shaped, shape
from gateway.devices.metrics.steps import Last
from gateway.devices.metrics.windows import Windows

__all__ = [
    "HIGHEST",
    "LONGEST_NAME",
    "LONGEST_TEXT",
    "LOWEST",
    "Known",
    "Last",
    "Plan",
    "Shaped",
    "Windows",
    "free",
    "is_plain",
    "plan",
    "shape",
]
