"""The serial port: unplugged and plugged in again, read in chunks, and what it says when it cannot be opened."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import tty
from pathlib import Path
from typing import Any

import pytest
import serial
from structlog.testing import capture_logs

from adapters.ports.refused import PortMissing, cannot_open
from adapters.ports.serial import CHUNK, SerialPort
from adapters.ports.threads import in_thread
from adapters.serial.text import SerialText
from gateway import DeviceError
from tests.adapters.cable import Cable
from tests.adapters.notebook import WAIT, Notebook, running


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def read(port: SerialPort, size: int) -> bytes:
    data = b""
    async with asyncio.timeout(WAIT):
        while len(data) < size:
            data += await port.read()
    return data


async def test_unplugged_and_plugged_in_a_hundred_times(tmp_path: Path) -> None:
    """Each unplug is found at once and said once, each return is read at once, and nothing is left behind.

    Every other time the link then points to another terminal, as /dev/serial/by-id does to another ttyUSB.
    """
    notes, terminals = Notebook(), set()
    with Cable(tmp_path / "tty") as cable, capture_logs() as logs:
        device = notes.device("d", SerialText(port=cable.path))
        async with running(device):
            await notes.until(lambda: device.state == "online")
            opened, tasks = descriptors(), len(asyncio.all_tasks())
            for n in range(100):
                cable.write(b'{"n": %d}\n' % n)
                await notes.until(lambda n=n: len(notes.readings) == n + 1)
                terminals.add(cable.terminal)
                cable.unplug()
                await notes.until(lambda: device.state != "online")
                if n % 2:
                    with Cable(tmp_path / "other"):  # takes the name of the terminal that is free again
                        cable.plug()
                else:
                    cable.plug()
                await notes.until(lambda: device.state == "online")
            assert descriptors() == opened
            assert len(asyncio.all_tasks()) == tasks
    assert notes.of("d") == [{"n": n} for n in range(100)]
    assert len(terminals) > 1
    said = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert said == [f"d: unplugged ({cable.path})"] * 100
    assert sum(line["event"].startswith("d: back after ") for line in logs) == 100


async def test_a_port_that_is_not_there_yet_is_read_when_it_comes(tmp_path: Path) -> None:
    """A gateway that starts before its device waits for it, and says why once."""
    notes, cable = Notebook(), Cable(tmp_path / "tty")
    device = notes.device("d", SerialText(port=cable.path))
    with capture_logs() as logs:
        async with running(device):
            async with asyncio.timeout(WAIT):
                while device.failures < 5:
                    await asyncio.sleep(0)
            with cable:
                await notes.until(lambda: device.state == "online")
                cable.write(b'{"n": 1}\n')
                await notes.until(lambda: bool(notes.readings))
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        f"d: cannot open {cable.path}: not there"
    ]


async def test_every_byte_comes_in_order_through_a_flood(tmp_path: Path) -> None:
    """Chunks are at most 64 KiB, and put together they are what was written."""
    data = os.urandom(400_000)
    with Cable(tmp_path / "tty") as cable:
        os.set_blocking(cable.master, True)
        async with SerialPort(cable.path) as port:
            writing = asyncio.create_task(asyncio.to_thread(write_all, cable.master, data))
            got, longest = b"", 0
            async with asyncio.timeout(WAIT):
                while len(got) < len(data):
                    chunk = await port.read()
                    longest = max(longest, len(chunk))
                    got += chunk
            await writing
    assert got == data
    assert longest <= CHUNK


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def test_a_reader_that_is_busy_does_not_spin_the_loop(tmp_path: Path) -> None:
    """While nobody asks for the next chunk, the descriptor is not watched; nothing is lost for it."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            cable.write(b"one")
            assert await read(port, 3) == b"one"
            cable.write(b"two")
            assert port._port is not None
            watched = asyncio.get_running_loop().remove_reader(port._port.fileno())
            assert not watched
            assert await read(port, 3) == b"two"


async def test_a_waiting_reader_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    """A reader may give up waiting and come back."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            waiting = asyncio.create_task(port.read())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            cable.write(b"late")
            assert await read(port, 4) == b"late"


async def test_a_false_alarm_is_no_unplug(tmp_path: Path) -> None:
    """A descriptor that is said to be readable and has nothing, as when another process read it first, stays open."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            waiting = asyncio.create_task(port.read())
            await asyncio.sleep(0)
            loop: Any = asyncio.get_running_loop()
            assert port._port is not None
            loop._selector.get_key(port._port.fileno()).data[0]._run()
            cable.write(b"after")
            assert await asyncio.wait_for(waiting, WAIT) == b"after"


async def test_what_was_written_before_the_unplug_is_read_first(tmp_path: Path) -> None:
    """The last words of a device are not lost, and then the port is gone."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            cable.write(b"last words")
            assert await read(port, 10) == b"last words"
            cable.unplug()
            with pytest.raises(DeviceError, match=r"^unplugged \("):
                await port.read()


async def test_closing_while_the_opening_blocks_closes_what_comes_of_it() -> None:
    """Cancelled in the middle of an opening, the port that still comes is closed, once, and nobody waits for it."""
    opening, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    discarded: list[str] = []

    def slow() -> str:
        opening.set()
        go_on.wait(WAIT)
        return "port"

    def discard(port: str) -> None:
        discarded.append(port)
        closed.set()

    task = asyncio.create_task(in_thread(slow, discard))
    await asyncio.to_thread(opening.wait, WAIT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not discarded
    go_on.set()
    async with asyncio.timeout(WAIT):
        while not closed.is_set():
            await asyncio.sleep(0)
    assert discarded == ["port"]


async def test_an_answer_that_comes_together_with_the_cancellation_is_closed() -> None:
    """The narrow case: the port is open and on its way when the task is cancelled."""
    discarded: list[int] = []
    task = asyncio.create_task(in_thread(lambda: 7, discarded.append))
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe

    def together(callback: object, *args: object) -> object:
        def both() -> None:
            callback(*args)  # type: ignore[operator]
            task.cancel()

        return real(both)

    loop.call_soon_threadsafe = together  # type: ignore[method-assign, assignment]
    try:
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        loop.call_soon_threadsafe = real  # type: ignore[method-assign]
    assert discarded == [7]


def test_an_answer_for_a_loop_that_is_closed_is_closed() -> None:
    """A process that is on its way out leaves no port open behind a slow opening."""
    go_on, closed = threading.Event(), threading.Event()

    async def begin() -> None:
        asyncio.create_task(in_thread(lambda: go_on.wait(WAIT), lambda _: closed.set()))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(begin())
    go_on.set()
    assert closed.wait(WAIT)


def test_an_answer_for_a_loop_that_turns_no_more_is_closed() -> None:
    """What a thread still brings after the last turn of the loop is not left open until it is collected."""
    go_on, closed = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(in_thread(lambda: go_on.wait(WAIT), lambda _: closed.set()))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    go_on.set()
    assert closed.wait(WAIT)
    loop.close()


async def test_a_device_that_blocks_while_opening_holds_up_nobody(tmp_path: Path) -> None:
    """A driver that hangs in open keeps its own thread busy, and the loop, other devices and the stop go on."""
    opening, go_on = threading.Event(), threading.Event()

    class Hanging(SerialPort):
        def _open(self) -> serial.Serial:
            opening.set()
            go_on.wait(WAIT)
            return super()._open()

    class HangingText(SerialText):
        async def run(self, device: object) -> None:
            async with Hanging(self.port):
                raise AssertionError("opened")

    notes = Notebook()
    with Cable(tmp_path / "a") as stuck, Cable(tmp_path / "b") as well:
        devices = notes.device("stuck", HangingText(port=stuck.path)), notes.device("well", SerialText(port=well.path))
        async with running(*devices):
            await notes.until(lambda: devices[1].state == "online")
            await asyncio.to_thread(opening.wait, WAIT)
            well.write(b'{"n": 1}\n')
            await notes.until(lambda: notes.of("well") == [{"n": 1}])
            assert devices[0].state == "opening"
        before = descriptors()
        go_on.set()
        for thread in threading.enumerate():
            if thread.name.startswith("in-thread"):
                assert thread.daemon  # or it would hold up the end of the process
                await asyncio.to_thread(thread.join, WAIT)
        await asyncio.sleep(0)
        assert descriptors() <= before


# ---- what it says when it cannot be opened


async def test_the_holder_of_a_busy_port_is_named(tmp_path: Path) -> None:
    """Two readers of one port would each get half of it; the second is refused and told who holds it."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path):
            with pytest.raises(DeviceError) as refused:
                async with SerialPort(cable.path):
                    pass
    assert str(refused.value).startswith(f"cannot open {cable.path}: held by pid {os.getpid()} (")
    assert str(refused.value).endswith("), which is this gateway")


async def test_a_missing_port_says_where_its_link_points(tmp_path: Path) -> None:
    """A name that leads nowhere says so, and is a FileNotFoundError as well."""
    link = tmp_path / "by-id"
    link.symlink_to("/dev/ttyUSB99")
    with pytest.raises(PortMissing, match=r"by-id: not there \(it points to /dev/ttyUSB99\)$"):
        async with SerialPort(str(link)):
            pass


@pytest.mark.parametrize("path", ["/dev/null", "/etc/hostname", "/tmp"])
async def test_what_is_no_serial_port_says_so(path: str) -> None:
    """A typo that names another file is told apart from a port that is absent."""
    before = descriptors()
    with pytest.raises(DeviceError, match=rf"^cannot open {path}: not a serial port$"):
        async with SerialPort(path):
            pass
    assert descriptors() == before


def test_permission_denied_names_owner_group_and_fix(tmp_path: Path) -> None:
    """The message carries what stat and the process say, and the command that mends it."""
    port = tmp_path / "ttyUSB0"
    port.touch()
    port.chmod(0o660)
    denied = str(cannot_open(str(port), PermissionError(errno.EACCES, "Permission denied")))
    assert denied.startswith(
        f"cannot open {port}: permission denied ({port.owner()}:{port.group()} 0660; this process "
    )
    assert "groups " in denied
    assert "). Fix: " in denied
    port.chmod(0o600)
    assert f'MODE="0660", GROUP="{port.group()}"' in str(cannot_open(str(port), PermissionError(errno.EACCES, "no")))
    if os.getuid() == 0:
        port.chmod(0o660)
        os.chown(port, 0, 65533)
        assert "Fix: sudo usermod -aG 65533 root, then" in str(
            cannot_open(str(port), PermissionError(errno.EACCES, "no"))
        )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EPERM, "DeviceAllow="),
        (errno.EIO, "no device answers behind it"),
        (errno.ENXIO, "no device answers behind it"),
        (errno.EBUSY, "held by another process"),
        (errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_every_refusal_is_said_in_words(code: int, words: str) -> None:
    """No message is a bare number."""
    assert words in str(cannot_open("/dev/ttyNONE", OSError(code, "x")))


# ---- a device that has to speak


async def test_a_silent_device_is_not_online_and_said_once(tmp_path: Path) -> None:
    """With `silent_after`, an open port is not enough to be online: bytes are; without them it is opened again."""
    notes = Notebook()
    with Cable(tmp_path / "tty") as cable, capture_logs() as logs:
        device = notes.device("d", SerialText(port=cable.path, silent_after="1ms"))
        async with running(device):
            async with asyncio.timeout(WAIT):
                while device.failures < 3:
                    await asyncio.sleep(0)
            assert notes.states == []
            assert (device.state, device.reason) == ("silent", f"nothing from {cable.path} for 0.001 s")
    assert [line["event"] for line in logs if line["log_level"] != "debug"] == [
        f"d: nothing from {cable.path} for 0.001 s"
    ]


async def test_while_a_board_settles_an_unplug_is_found(tmp_path: Path) -> None:
    """Settling reads and throws away; it is not deaf, and the device is not online before it is over."""
    notes = Notebook()
    with Cable(tmp_path / "tty") as cable:
        device = notes.device("d", SerialText(port=cable.path, settle="1h"))
        before = descriptors()
        async with running(device):
            async with asyncio.timeout(WAIT):
                while descriptors() == before:
                    await asyncio.sleep(0)
            cable.write(b'{"n": 1}\n')
            cable.unplug()
            async with asyncio.timeout(WAIT):
                while device.failures == 0:
                    await asyncio.sleep(0)
    assert notes.states == []
    assert notes.readings == []


async def test_after_settling_a_board_is_read(tmp_path: Path) -> None:
    """The end of settling is the beginning of reading."""
    notes = Notebook()
    with Cable(tmp_path / "tty") as cable:
        device = notes.device("d", SerialText(port=cable.path, settle="10ms", dtr=False))
        async with running(device):
            await notes.until(lambda: device.state == "online")
            cable.write(b'{"n": 1}\n')
            await notes.until(lambda: notes.of("d") == [{"n": 1}])


async def test_what_was_said_before_the_opening_is_read() -> None:
    """A device that speaks as soon as it is plugged in is heard, although the gateway opens the port a moment later."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        os.write(master, b"t=1\nt=2\n")
        async with SerialPort(os.ttyname(slave)) as port:
            os.write(master, b"t=3\n")
            heard = b""
            while len(heard) < 12:
                heard += await port.read()
        assert heard == b"t=1\nt=2\nt=3\n"
    finally:
        os.close(master)
        os.close(slave)


async def test_a_reader_that_is_behind_slows_the_device_down(tmp_path: Path) -> None:
    """While what `take` returned is awaited, nothing more is read; then it goes on where it was."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            chunks: list[bytes] = []
            came = asyncio.Event()

            def take(chunk: bytes) -> asyncio.Future[None] | None:
                chunks.append(chunk)
                came.set()
                return room if len(chunks) == 1 else None

            delivering = asyncio.create_task(port.deliver(take))
            await asyncio.sleep(0)
            cable.write(b"one")
            await asyncio.wait_for(came.wait(), WAIT)
            cable.write(b"two")
            for _ in range(50):
                await asyncio.sleep(0)
            assert chunks == [b"one"]
            came.clear()
            room.set_result(None)
            await asyncio.wait_for(came.wait(), WAIT)
            assert chunks == [b"one", b"two"]
            delivering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await delivering


async def test_what_take_raises_ends_the_delivery(tmp_path: Path) -> None:
    """A bug in the code that takes a chunk reaches the owner of the device, and the port can be closed."""
    with Cable(tmp_path / "tty") as cable:
        async with SerialPort(cable.path) as port:
            cable.write(b"one")

            def take(chunk: bytes) -> None:
                raise ZeroDivisionError(chunk)

            with pytest.raises(ZeroDivisionError, match="one"):
                await asyncio.wait_for(port.deliver(take), WAIT)
