"""Reader of georeferenced rasters by rasterio: GeoTIFF, COG, JPEG 2000, VRT.

The package contains the reader, the sources of levels, the parser of metadata, and the
checks of files before GDAL opens them.

Must not import ``io.labels``, ``io.corrections`` and ``io.export``.
"""

from napari_uhrseg.io.readers.raster import reader

__all__ = ["reader"]
