"""Lazy multiscale images.

The package contains the image type, the cache of decoded chunks, resampling, pixel
conversions, the pyramid builder, and the colours and contrast of the display.

Must not import ``io.readers``, ``io.labels``, ``io.corrections`` and
``io.export``.
"""

__all__ = [
    "band_colors",
    "chunk_cache",
    "composite",
    "from_array",
    "geometry",
    "image",
    "level_source",
    "nodata",
    "pending_level",
    "pixel_reader",
    "pixel_transforms",
    "pyramid_builder",
    "pyramid_cache",
    "resample",
]
