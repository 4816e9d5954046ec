"""Reader of OME-Zarr and of bare zarr arrays.

The package contains the reader, the parser of metadata, the fingerprint of an array,
and the repair of arrays whose metadata names no separator of chunks.

Must not import ``io.labels``, ``io.corrections`` and ``io.export``.
"""

from napari_uhrseg.io.readers.ome_zarr import reader

__all__ = ["reader"]
