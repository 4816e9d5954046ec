"""Label store: an OME-Zarr folder of predictions and corrections.

`store` contains `LabelStore`; `run_ledger` and `legend_editor` are its members for
runs and classes. The other modules contain the layout on disk, the pyramid, the
status of the chunks and which are pending, the write locks, and the store as a
cluster worker sees it.

Must not import ``io.readers``, ``io.corrections`` and ``io.export``.
"""

__all__ = [
    "chunk_status",
    "disk_layout",
    "downsample",
    "existing_labels",
    "layer_levels",
    "legend_editor",
    "ome_metadata",
    "pending_chunks",
    "pyramid",
    "repair",
    "store",
    "store_files",
    "worker_store",
    "write_lock",
]
