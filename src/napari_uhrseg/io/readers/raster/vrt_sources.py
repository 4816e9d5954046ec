"""Strict parser of VRT files, which lists the files that GDAL would open for them."""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.readers.registry import RefusedError
from napari_uhrseg.units import formatted

MAX_BYTES = 64 * 1024**2  # largest VRT that is parsed

# elements and attributes of VRTs that name no file; others are refused, since GDAL
# reads files and addresses from many of them
_ELEMENTS = """
    VRTDataset SRS GeoTransform GCPList GCP Metadata MDI BlockXSize BlockYSize
    OverviewList MaskBand VRTRasterBand Description UnitType Offset Scale
    CategoryNames Category ColorTable Entry ColorInterp NoDataValue HideNoDataValue
    NODATA Histograms HistItem HistMin HistMax BucketCount IncludeOutOfRange
    Approximate HistCounts Overview SourceFilename SourceBand SimpleSource
    ComplexSource AveragedSource KernelFilteredSource Kernel Size Coefs
    SourceProperties SrcRect DstRect ScaleOffset ScaleRatio LUT UseMaskBand
    ColorTableComponent Exponent SrcMin SrcMax DstMin DstMax Clamp PixelFunctionType
    PixelFunctionArguments SourceTransferType ImageOffset PixelOffset LineOffset
    ByteOrder GDALWarpOptions WarpMemoryLimit ResampleAlg WorkingDataType Option
    SourceDataset Transformer ApproxTransformer MaxError BaseTransformer
    GenImgProjTransformer SrcGeoTransform SrcInvGeoTransform DstGeoTransform
    DstInvGeoTransform ReprojectTransformer ReprojectionTransformer SourceSRS
    TargetSRS BandList BandMapping SrcNoDataReal SrcNoDataImag DstNoDataReal
    DstNoDataImag SrcAlphaBand DstAlphaBand Cutline CutlineBlendDist
"""
_ATTRIBUTES = """
    rasterXSize rasterYSize subClass dataType band blockXSize blockYSize
    relativeToVRT shared RasterXSize RasterYSize DataType BlockXSize BlockYSize xOff
    yOff xSize ySize key domain c1 c2 c3 c4 resampling name src dst
    dataAxisToSRSAxisMapping coordinateEpoch Projection Id Info Pixel Line X Y Z
    normalized
"""
_SUBCLASSES = """
    VRTWarpedDataset VRTSourcedRasterBand VRTWarpedRasterBand VRTDerivedRasterBand
    VRTRawRasterBand
"""
_FILES = ("SourceFilename", "SourceDataset")
_SRS = ("SRS", "SourceSRS", "TargetSRS", "GCPList")
_SRS_TEXT = re.compile(r"[A-Z_0-9]+\[|(EPSG|ESRI|OGC):\w+$|\+proj=")


@dataclass(frozen=True, slots=True)
class VrtSource:
    """Reference of a VRT to a file.

    Attributes
    ----------
    name
        File name in the VRT.
    relative
        True if it is relative to the folder of the VRT, else to the working folder.
    raw
        True if GDAL reads the file as raw pixels, of whatever format it is.
    """

    name: str
    relative: bool
    raw: bool


def vrt_sources(path: Path) -> list[VrtSource]:
    """Return the references of a VRT to other files, without opening them.

    Raises
    ------
    OpenError
        If the file is not a VRT, or has a part that may name files in another way.
    """
    root = _parsed(path)
    _check(path, root)
    raw = {
        id(element)
        for band in root.iter("VRTRasterBand")
        if band.get("subClass") == "VRTRawRasterBand"
        for element in band.iter("SourceFilename")
    }
    return [
        VrtSource(
            element.text or "",
            element.get("relativeToVRT", "0") == "1",
            id(element) in raw,
        )
        for element in root.iter()
        if element.tag in _FILES
    ]


def _parsed(path: Path) -> ElementTree.Element:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _refused(path, f"has more than {formatted(MAX_BYTES)} bytes")
    try:
        text = data.decode("utf-8").strip()
        # GDAL ignores the declaration too
        text = re.sub(r"^<\?xml[^>]*\?>", "", text)
        # declarations of entities are refused before they are expanded
        if re.search(r"<\?|<!\[|<!(?!--)", text):
            raise _refused(path, "has a declaration or a CDATA section")
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        raise OpenError(
            f"{path.name} is not a VRT: {error}.",
            "The file may be damaged: build it again with gdalbuildvrt.",
        ) from error
    if root.tag != "VRTDataset":
        raise _refused(path, f"begins with <{root.tag}>, not with <VRTDataset>")
    return root


def _check(path: Path, root: ElementTree.Element) -> None:
    """Raise OpenError for parts of a VRT that are not known to be harmless."""
    elements, attributes = set(_ELEMENTS.split()), set(_ATTRIBUTES.split())
    subclasses = _SUBCLASSES.split()
    for element in root.iter():
        tag, text = element.tag, element.text or ""
        if tag not in elements:
            raise _refused(path, f"has the element <{tag}>")
        given = set(element.attrib)
        if tag != "PixelFunctionArguments" and not given <= attributes:
            raise _refused(path, f"has the attribute {min(given - attributes)}")
        if element.get("subClass", "VRTRawRasterBand") not in subclasses:
            raise _refused(path, f"has the subclass {element.get('subClass')}")
        if tag in _FILES and (len(element) or text != text.strip()):
            raise _refused(path, f"has an unusual <{tag}>")
        srs = element.get("Projection", "") if tag == "GCPList" else text
        if tag in _SRS and srs.strip() and not _SRS_TEXT.match(srs.strip()):
            raise _refused(path, f"has an unusual coordinate system: {srs:.60}")


def _refused(path: Path, why: str) -> RefusedError:
    return RefusedError(
        f"{path.name} {why}, which this program does not open.",
        "If you trust the file, convert it: gdal_translate -co TILED=YES "
        f"{path.name} {path.stem}.tif",
    )
