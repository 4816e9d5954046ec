"""The label store, an OME-Zarr folder of predictions and corrections.

Holds its layout on disk, its pyramid, the status of its chunks, and its write
locks.

Must not import ``io.readers``, ``io.corrections`` and ``io.export``.
"""

__all__ = [
    "chunk_status",
    "disk_layout",
    "downsample",
    "ome_metadata",
    "pyramid",
    "store",
    "worker_store",
    "write_lock",
]
