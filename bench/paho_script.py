"""The script that people write: pyserial's readline and paho-mqtt's publish, as their documentation shows them.

Everything is at its default: 20 messages in flight, an unbounded queue in memory.
Run it with `python -m bench.paho_script TTY PORT TOPIC`.
"""

import sys

import paho.mqtt.client as mqtt
import serial


def main() -> None:
    """Publish each line of the serial port as it comes, at QoS 1."""
    tty, port, topic = sys.argv[1:]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    with serial.Serial(tty, 115200) as line:
        print("ready", flush=True)
        while True:
            payload = line.readline().strip()
            if payload:
                client.publish(topic, payload, qos=1)


if __name__ == "__main__":
    main()
