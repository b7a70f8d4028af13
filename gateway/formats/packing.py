"""Several payloads as one, and compressed; and what a receiver finds in a payload, whichever of these it is."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Literal, TypeAlias

import orjson

Shape: TypeAlias = Literal["array", "lines"]
Compression: TypeAlias = Literal["gzip", "zstd"]

GZIP_LEVEL = 6
LARGEST = 64 << 20
"""Bytes that a payload may become when it is unpacked: anybody can publish a few that would fill all memory."""
_WINDOW = 26  # log2 of the bytes that zstd may want for itself while it unpacks: LARGEST
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # how each begins: RFC 1952, section 2.3.1; RFC 8878, section 3.1.1


class ZstdMissing(ImportError):
    """No package for zstd is installed."""

    def __init__(self) -> None:
        super().__init__("zstd needs a package that is not installed. Type: pip install 'sensor-gateway[zstd]'")


@cache
def zstd() -> Any:
    """Return the module for zstd: Python's own from 3.14 on, else its backport. Raises ZstdMissing."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ZstdMissing


@dataclass(frozen=True, slots=True)
class Packing:
    """How payloads become one: as a JSON array, as lines, or (None) each is one by itself; and how it is compressed.

    Raises ZstdMissing.
    """

    shape: Shape | None = None
    compression: Compression | None = None
    content: Mapping[str, Any] = field(init=False, repr=False)
    """What MQTT 5 says of the payload: its media type and, as HTTP does (RFC 9110, section 8.4), its coding."""
    _compress: Callable[[bytes], bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        media = "application/x-ndjson" if self.shape == "lines" else "application/json"
        content: dict[str, Any] = {"content_type": media}
        if self.compression is not None:
            content["user_properties"] = [("content-encoding", self.compression)]
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "_compress", _compressors[self.compression]())

    def pack(self, payloads: Sequence[bytes]) -> bytes:
        """Return one payload; without a shape, there must be one."""
        match self.shape:
            case "array":
                joined = b"[" + b",".join(payloads) + b"]"
            case "lines":
                joined = b"\n".join(payloads)
            case _:
                (joined,) = payloads
        return self._compress(joined)


def unpack(payload: bytes, largest: int = LARGEST) -> list[Any]:
    """Return what is in a payload: one JSON value, the elements of an array, or one value a line; compressed or not.

    Raises ValueError for anything else, also for what would be larger than `largest` bytes, and ZstdMissing.
    """
    text = _uncompressed(payload, largest)
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError:
        if b"\n" not in text:
            raise
        return [orjson.loads(line) for line in text.split(b"\n") if line]
    return content if isinstance(content, list) else [content]


def _uncompressed(payload: bytes, largest: int) -> bytes:
    if payload.startswith(_GZIP):
        stream: Any = gzip.GzipFile(fileobj=io.BytesIO(payload))
        faults: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    elif payload.startswith(_ZSTD):
        module = zstd()
        limits = {module.DecompressionParameter.window_log_max: _WINDOW}
        stream = module.ZstdFile(io.BytesIO(payload), options=limits)
        faults = (OSError, EOFError, module.ZstdError)
    else:
        return payload
    with stream:
        try:
            text: bytes = stream.read(largest + 1)
        except faults as error:
            raise ValueError(f"not readable: {error}") from None
    if len(text) > largest:
        raise ValueError(f"more than {largest} bytes when unpacked")
    return text


def _plain() -> Callable[[bytes], bytes]:
    return bytes


def _gzipping() -> Callable[[bytes], bytes]:
    # Without the time of compression, so that what is sent again is the same.
    return lambda text: gzip.compress(text, GZIP_LEVEL, mtime=0)


def _zstding() -> Callable[[bytes], bytes]:
    compress: Callable[[bytes], bytes] = zstd().compress
    return compress


_compressors: Mapping[str | None, Callable[[], Callable[[bytes], bytes]]] = {
    None: _plain,
    "gzip": _gzipping,
    "zstd": _zstding,
}
