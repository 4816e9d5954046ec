"""Tests of zarr's settings: the codec that checks sizes, and the end of a process."""

from contextlib import suppress

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from helpers.processes import python_process
from napari_uhrseg.io.zarr_setup import CheckedBloscCodec, chunk_size_in

DATA = np.random.default_rng(0).integers(0, 9, (100, 100), np.uint16)


@pytest.fixture(params=[2, 3])
def array(request, tmp_path):
    """An array of zarr's format 2 and 3, whose first chunk is the file `first`."""
    blosc = {2: numcodecs.Blosc("lz4"), 3: CheckedBloscCodec(cname="lz4")}
    made = zarr.create_array(
        tmp_path, shape=DATA.shape, chunks=(50, 50), dtype=DATA.dtype,
        zarr_format=request.param, compressors=[blosc[request.param]],
    )  # fmt: skip
    made[:] = DATA
    return zarr.open_array(tmp_path, mode="r")


@pytest.fixture
def first(array, tmp_path):
    return tmp_path / ("0.0" if array.metadata.zarr_format == 2 else "c/0/0")


def test_opened_array_reads_what_was_written(array):
    np.testing.assert_array_equal(array[:], DATA)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, "empty"),
        (1, "cut off after 1 bytes"),
        (15, "cut off after 15 bytes"),
        (16, "has 16 bytes"),
        (100, "has 100 bytes"),
        (-1, "a chunk has"),
    ],
)
def test_cut_chunk_is_an_error(array, first, keep, message):
    first.write_bytes(first.read_bytes()[:keep])
    with pytest.raises(ValueError, match=message):
        array[:10, :10]
    np.testing.assert_array_equal(array[50:], DATA[50:])


def test_chunk_with_a_wrong_size_in_its_header_is_an_error(array, first):
    data = bytearray(first.read_bytes())
    data[12:16] = (2**31 - 1).to_bytes(4, "little")
    first.write_bytes(data)
    with pytest.raises(ValueError, match="instead of 2147483647"):
        array[:10, :10]


@pytest.mark.parametrize("array", [3], indirect=True)
def test_chunk_that_is_larger_than_its_array_is_an_error(array, first):
    data = bytearray(first.read_bytes())
    data[4:8] = (2**31 - 1).to_bytes(4, "little")
    first.write_bytes(data)
    with pytest.raises(ValueError, match="a chunk is larger"):
        array[:10, :10]


@pytest.mark.slow
def test_damaged_chunks_never_end_the_process(array, first):
    data, random = first.read_bytes(), np.random.default_rng(0)
    assert chunk_size_in(data) == len(data)
    for _ in range(300):
        changed = bytearray(data)
        for place in random.integers(0, len(data), 3).tolist():
            changed[place] = int(random.integers(0, 256))
        first.write_bytes(changed)
        with suppress(ValueError, RuntimeError):
            assert array[:50, :50].shape == (50, 50)


def test_checksum_after_the_codec(tmp_path):
    made = zarr.create_array(
        tmp_path, shape=DATA.shape, chunks=(50, 50), dtype=DATA.dtype,
        compressors=[CheckedBloscCodec(cname="lz4"), Crc32cCodec()],
    )  # fmt: skip
    made[:] = DATA
    np.testing.assert_array_equal(zarr.open_array(tmp_path)[:], DATA)


BUSY = """
import sys, time
import numpy as np
import zarr
from zarr.core import sync
from napari_uhrseg.io import zarr_setup
array = zarr.create_array({}, shape=(3, 3), dtype="u1")
array[:] = 1
sync.loop[0].call_soon_threadsafe(time.sleep, 1.0)
sys.stderr = sys.stdout
"""


@pytest.mark.slow
def test_process_ends_quietly_while_zarr_is_busy():
    with python_process(BUSY) as process:
        assert process.stdout.read() == ""
        assert process.wait(20) == 0
