"""sensor-gateway: carries every reading from the devices of an edge box to MQTT brokers. This is its face."""

from gateway.adapter import Adapter, Device, DeviceError, Metric
from gateway.reading import RESERVED, Value, Values
from gateway.units import Duration, Size

__all__ = ["RESERVED", "Adapter", "Device", "DeviceError", "Duration", "Metric", "Size", "Value", "Values"]
