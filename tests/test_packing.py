"""What is put together is taken apart again, by what is in it alone; and nobody fills our memory with it."""

from __future__ import annotations

import gzip
import sys
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats import packing
from gateway.formats.packing import Packing, ZstdMissing, unpack

values = st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53) | st.text(max_size=20) | st.booleans())
shapes: Any = st.sampled_from([Packing(shape, how) for shape in ("array", "lines") for how in (None, "gzip", "zstd")])
MEGABYTE = 1 << 20
compressor = packing.zstd()


@given(shapes, st.lists(values, min_size=1, max_size=20))
def test_what_was_packed_is_found_again(how: Packing, readings: list[dict[str, Any]]) -> None:
    """Array or lines, compressed or not: a receiver sees by the payload alone what it is."""
    assert unpack(how.pack([orjson.dumps(one) for one in readings])) == readings


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_a_single_reading_may_be_compressed_too(compression: Any) -> None:
    """Without a shape it is not in an array."""
    packed = Packing(None, compression).pack([b'{"n":1}'])
    assert unpack(packed) == [{"n": 1}]
    if compression is None:
        assert packed == b'{"n":1}'


def test_compression_pays_where_readings_are_alike() -> None:
    """A hundred readings of a device take a fraction of their size."""
    payloads = [b'{"ts":17636000%05d,"seq":%d,"epoch":3,"temperature":21.%d}' % (n, n, n % 7) for n in range(100)]
    plain = len(Packing("array").pack(payloads))
    assert len(Packing("array", "gzip").pack(payloads)) < plain / 4
    assert len(Packing("array", "zstd").pack(payloads)) < plain / 4


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"[", b"{}\n"]),
)
def test_anything_else_is_a_value_error(noise: bytes, head: bytes) -> None:
    """Whatever anybody publishes is readable or is not, and nothing else happens."""
    with suppress(ValueError):
        assert isinstance(unpack(head + noise), list)


@pytest.mark.parametrize("compress", [gzip.compress, compressor.compress])
def test_a_small_payload_that_would_fill_memory_is_refused(compress: Any) -> None:
    """What becomes larger than the limit is not unpacked any further."""
    bomb = compress(b"[" + b" " * (8 * MEGABYTE) + b"]")
    assert len(bomb) < MEGABYTE
    assert unpack(bomb, 9 * MEGABYTE) == []
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        unpack(bomb, MEGABYTE)


def test_a_window_that_would_fill_memory_is_refused() -> None:
    """A few bytes of zstd can ask for two gigabytes to be unpacked in."""
    wide = {compressor.CompressionParameter.window_log: 28, compressor.CompressionParameter.content_size_flag: 0}
    large = compressor.ZstdCompressor(options=wide)
    with pytest.raises(ValueError, match="not readable"):
        unpack(large.compress(b"[]") + large.flush())


def test_without_a_package_for_zstd_it_is_said_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has none, and a machine on which none is installed."""
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    packing.zstd.cache_clear()
    try:
        with pytest.raises(ZstdMissing, match=r"Type: pip install 'sensor-gateway\[zstd\]'"):
            Packing("array", "zstd")
        with pytest.raises(ZstdMissing):
            unpack(compressor.compress(b"[]"))
    finally:
        packing.zstd.cache_clear()
