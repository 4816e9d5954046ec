"""Sizes and times that bound a run, each in one place."""

from dataclasses import dataclass

SOFTMAX_ROWS = 256  # rows of logits that become labels at a time, on a GPU
OPEN_BLOCKS = 2  # blocks whose logits are in memory: one being read, one before it


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of a run that its settings pass on to every part.

    The defaults suit all images. With smaller values, a small image behaves like a
    large one, for example in tests.

    Attributes
    ----------
    block_seconds
        Seconds of network time that a block may take, above 0.
    block_chunks
        Side of a block in chunks of the store, at least 1.
    waiting_windows
        Windows whose logits wait in main memory for their next block. None: as many
        as fit half of what the memory budget leaves.
    coarsest_level
        Largest side in pixels of the coarsest level of a new label store.
    correction_cell
        Side in level-0 pixels of the cells in which corrected pixels are counted; it
        is doubled for large images.
    correction_tile
        Side in level-0 pixels of the parts in which a correction is written.
    journal_bytes
        Bytes on disk of the journal of corrections. The newest step is kept even if
        it is larger.
    journal_segment_bytes
        Bytes of one file of the journal.
    snapshot_interval
        Journal records between two snapshots of the correction counts.
    heartbeat_s
        Seconds between two heartbeats of the lock of an object store.
    stale_lock_s
        Seconds without a heartbeat after which such a lock is stale; more than two
        heartbeats.
    worker_poll_s
        Seconds between two counts of a cluster's workers.
    no_worker_s
        Seconds without any worker after which a run on a cluster fails.
    state_interval_s
        Seconds between state files of a training. A killed training loses about that
        much.
    download_s
        Seconds after which a download of ImageNet weights is given up; a connection
        may hang for minutes.
    untiled_pixels
        Pixels above which a file in strips is converted to tiles.
    picture_bytes
        Bytes of main memory for decoding a picture without tiles, such as a PNG file.
        None: half of the free main memory.
    read_pixels
        Source pixels that are resampled at a time.
    read_bytes
        Bytes that are read at a time to compute missing levels.
    reserved_disk_bytes
        Bytes of the disk of computed levels that stay free.
    """

    block_seconds: float = 1.0
    block_chunks: int = 8
    waiting_windows: int | None = None
    coarsest_level: int = 2048
    correction_cell: int = 256
    correction_tile: int = 2048
    journal_bytes: int = 64 * 2**20
    journal_segment_bytes: int = 8 * 2**20
    snapshot_interval: int = 32
    heartbeat_s: float = 5.0
    stale_lock_s: float = 30.0
    worker_poll_s: float = 1.0
    no_worker_s: float = 120.0
    state_interval_s: float = 60.0
    download_s: float = 30.0
    untiled_pixels: int = 100_000_000
    picture_bytes: int | None = None
    read_pixels: int = 2**24
    read_bytes: int = 8 * 2**20
    reserved_disk_bytes: int = 2**30
