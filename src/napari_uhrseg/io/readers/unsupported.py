"""Formats that are not opened, and the programs that convert them."""

from pathlib import PurePath

_BIOFORMATS = (
    "Convert it to OME-Zarr with bioformats2raw, or to OME-TIFF with QuPath "
    "(File > Export images)."
)
_GDAL = (
    "Convert it to GeoTIFF with a GDAL that reads it: gdal_translate -of GTiff -co "
    "TILED=YES INPUT OUTPUT.tif"
)
_FORMATS = {
    ".czi": ("Zeiss CZI", _BIOFORMATS),
    ".lif": ("Leica LIF", _BIOFORMATS),
    ".nd2": ("Nikon ND2", _BIOFORMATS),
    ".vsi": ("Olympus VSI", _BIOFORMATS),
    ".oir": ("Olympus OIR", _BIOFORMATS),
    ".ims": ("Imaris", _BIOFORMATS),
    ".oib": ("Olympus OIB", _BIOFORMATS),
    ".oif": ("Olympus OIF", _BIOFORMATS),
    ".zvi": ("Zeiss ZVI", _BIOFORMATS),
    ".dm3": ("Gatan DM3", _BIOFORMATS),
    ".dm4": ("Gatan DM4", _BIOFORMATS),
    ".isyntax": ("Philips iSyntax", _BIOFORMATS),
    ".mds": ("Motic", _BIOFORMATS),
    ".ecw": ("ECW", _GDAL),
    ".sid": ("MrSID", _GDAL),
    ".hdf": ("HDF", _GDAL),
    ".h5": ("HDF5", _GDAL),
    ".hdf5": ("HDF5", _GDAL),
    ".grib": ("GRIB", _GDAL),
    ".grib2": ("GRIB", _GDAL),
    ".grb": ("GRIB", _GDAL),
    ".he5": ("HDF-EOS", _GDAL),
    ".nc": ("netCDF", _GDAL),
    ".nitf": ("NITF", _GDAL),
    ".ntf": ("NITF", _GDAL),
    ".gpkg": ("GeoPackage", _GDAL),
    ".mbtiles": ("MBTiles", _GDAL),
    ".asc": ("ASCII grid", _GDAL),
}


def conversion_of(name: str) -> tuple[str, str] | None:
    """Return the title of a format that is not opened, and a hint how to convert it.

    None for names of other formats.
    """
    return _FORMATS.get(PurePath(name).suffix.lower())
