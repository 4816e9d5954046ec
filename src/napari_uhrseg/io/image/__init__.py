"""Lazy multiscale images.

The package contains the image type, the cache of decoded chunks, resampling, pixel
conversions and the pyramid builder.

Must not import ``io.readers``, ``io.labels``, ``io.corrections`` and
``io.export``.
"""

__all__ = [
    "chunk_cache",
    "from_array",
    "geometry",
    "image",
    "nodata",
    "pixel_transforms",
    "pyramid_builder",
    "pyramid_cache",
    "resample",
]
