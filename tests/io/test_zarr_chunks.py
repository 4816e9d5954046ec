"""Tests that chunks written without zarr are those that zarr writes."""

import os

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import MemoryStore

from helpers.full_disk import file_size_limit
from napari_uhrseg.io.zarr_chunks import write_chunks

SHAPE, CHUNKS = (70, 50), (32, 24)
CODECS = {
    "zstd in blosc": BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle"),
    "lz4 in blosc": BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
    "zstd": ZstdCodec(level=0),
    "none": None,  # written by zarr
}


def empty(where, codec, dtype="uint8"):
    return zarr.create_array(
        where, shape=SHAPE, chunks=CHUNKS, dtype=dtype, fill_value=0,
        compressors=None if codec is None else [codec],
    )  # fmt: skip


def files(folder):
    found = {f.relative_to(folder): f.read_bytes() for f in folder.rglob("c/*/*")}
    return dict(sorted(found.items()))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "uint32"])
def test_files_are_those_of_zarr(name, dtype, tmp_path):
    rng = np.random.default_rng(0)
    mine = empty(tmp_path / "mine", CODECS[name], dtype)
    theirs = empty(tmp_path / "theirs", CODECS[name], dtype)
    for _ in range(20):
        (y0, y1), (x0, x1) = (
            sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in SHAPE
        )
        key = slice(y0, y1), slice(x0, x1)
        data = rng.integers(0, 3, (y1 - y0, x1 - x0)).astype(dtype)
        data *= np.asarray(rng.integers(0, 3) > 0, dtype)  # zeros at times
        write_chunks(mine, key, data)
        theirs[key] = data
        assert files(tmp_path / "mine") == files(tmp_path / "theirs")
    np.testing.assert_array_equal(mine[:], theirs[:])


def test_chunk_of_zeros_has_no_file(tmp_path):
    array = empty(tmp_path / "a", CODECS["zstd"])
    whole = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    write_chunks(array, whole, np.ones(SHAPE, np.uint8))
    assert len(files(tmp_path / "a")) == 9
    write_chunks(array, whole, np.zeros(SHAPE, np.uint8))
    assert not files(tmp_path / "a")


def test_arrays_in_memory_are_written_by_zarr():
    array = empty(MemoryStore(), CODECS["zstd"])
    write_chunks(array, (slice(3, 9), slice(40, 50)), np.full((6, 10), 7, np.uint8))
    assert int(array[:].sum()) == 420


def test_full_disk_leaves_the_previous_chunk_and_no_other_file(tmp_path):
    array = empty(tmp_path / "a", CODECS["lz4 in blosc"])
    whole = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    write_chunks(array, whole, np.ones(SHAPE, np.uint8))
    before = files(tmp_path / "a")
    noise = np.random.default_rng(0).integers(1, 255, SHAPE, np.uint8)
    with pytest.raises(OSError, match="File too large"), file_size_limit(100):
        write_chunks(array, whole, noise)
    assert files(tmp_path / "a") == before


def test_damaged_chunk_is_not_taken_for_zeros(tmp_path):
    array = empty(tmp_path / "a", CODECS["lz4 in blosc"])
    write_chunks(array, (slice(0, 32), slice(0, 24)), np.ones(CHUNKS, np.uint8))
    file = tmp_path / "a/c/0/0"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match="bytes instead of"):
        write_chunks(array, (slice(0, 9), slice(0, 9)), np.ones((9, 9), np.uint8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_writes_too(tmp_path):
    array = empty(tmp_path / "a", CODECS["zstd"])
    whole = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    write_chunks(array, whole, np.ones(SHAPE, np.uint8))  # starts threads
    child = os.fork()
    if not child:
        write_chunks(array, whole, np.full(SHAPE, 2, np.uint8))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (array[:] == 2).all()
