"""OME-TIFF: sets of files, missing planes, units and sizes that are not true."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from upath import UPath

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.types import Roi

SIZE = (30, 40)
HEADER = (
    '<?xml version="1.0" encoding="UTF-8"?><OME '
    'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
)


def uuid(number):
    return f"urn:uuid:00000000-0000-0000-0000-00000000000{number}"


def ome(*images, own=""):
    identifier = f' UUID="{own}"' if own else ""
    return f"{HEADER}{identifier}>{''.join(images)}</OME>"


def image_element(data, *, channels=1, name="m", size="0.5", unit="µm", more=""):
    names = "".join(
        f'<Channel ID="Channel:0:{c}" Name="ch{c}" SamplesPerPixel="1"/>'
        for c in range(channels)
    )
    return (
        f'<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint16" SizeX="40" SizeY="30" SizeZ="1" '
        f'SizeC="{channels}" SizeT="1" PhysicalSizeX="{size}" PhysicalSizeY="{size}" '
        f'PhysicalSizeXUnit="{unit}" PhysicalSizeYUnit="{unit}" {more}>'
        f"{names}{data}</Pixels></Image>"
    )


def plane(channel, file, name=True):
    file_name = f' FileName="c{file}.ome.tif"' if name else ""
    return (
        f'<TiffData FirstC="{channel}" IFD="0" PlaneCount="1">'
        f"<UUID{file_name}>{uuid(file)}</UUID></TiffData>"
    )


def write(path, text, *values, dtype=np.uint16, **options):
    """Write one page per value, with the OME-XML in the first."""
    with tifffile.TiffWriter(path) as file:
        for number, value in enumerate(values):
            pixels = np.full(SIZE, value).astype(dtype)
            file.write(
                pixels, metadata=None, contiguous=False,
                description=text.encode() if number == 0 else None, **options,
            )  # fmt: skip
    return path


def write_set(folder, **options):
    """Write three files with one channel each: 0, 1000 and 2000."""
    data = "".join(plane(c, c) for c in range(3))
    for number in range(3):
        text = ome(image_element(data, channels=3), own=uuid(number))
        write(folder / f"c{number}.ome.tif", text, 1000 * number, **options)


def first_pixel(image):
    return image.read(Roi(0, 0, 1, 1)).data.ravel().tolist()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_each_plane_is_read_from_its_own_file(tmp_path, compression):
    write_set(tmp_path, compression=compression)
    for number in range(3):
        image = open_image(tmp_path / f"c{number}.ome.tif")
        assert first_pixel(image) == [0, 1000, 2000]
        assert [b.name for b in image.bands] == ["ch0", "ch1", "ch2"]
        assert image.pixel_size == (0.5, 0.5)
        assert not image.warnings


def test_channels_of_missing_files_are_left_out_with_a_warning(tmp_path):
    write_set(tmp_path, compression="zlib", tile=(16, 16))
    (tmp_path / "c1.ome.tif").unlink()
    image = open_image(tmp_path / "c0.ome.tif")
    assert first_pixel(image) == [0, 2000]
    assert [b.name for b in image.bands] == ["ch0", "ch2"]
    assert "1 of 3 planes" in image.warnings[0]
    assert "c1.ome.tif" in image.warnings[0]
    assert "1 of 3 channels are left out" in image.warnings[0]


def test_a_set_of_jpeg_files_is_read_from_several_threads(tmp_path):
    write_set(tmp_path, compression="jpeg", tile=(16, 16), dtype=np.uint8)
    image = open_image(tmp_path / "c2.ome.tif")
    rois = [Roi(y, x, 7, 7) for y in (0, 9, 20) for x in (0, 15, 30)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(image.read, rois):
            assert found.data[0, 0].tolist() == pytest.approx([0, 232, 208], abs=2)


def test_files_of_a_set_with_other_strips_are_read(tmp_path):
    write_set(tmp_path, compression="zlib")
    text = ome(
        image_element("".join(plane(c, c) for c in range(3)), channels=3), own=uuid(1)
    )
    write(tmp_path / "c1.ome.tif", text, 1000, compression="lzw", rowsperstrip=7)
    image = open_image(tmp_path / "c0.ome.tif")
    assert first_pixel(image) == [0, 1000, 2000]
    last = image.read(Roi(29, 39, 1, 1)).data
    assert last.ravel().tolist() == [0, 1000, 2000]


def test_planes_without_a_file_name_are_in_this_file(tmp_path):
    data = plane(0, 1, name=False)
    data += '<TiffData FirstC="1" IFD="1" PlaneCount="1">'
    data += f"<UUID>{uuid(7)}</UUID></TiffData>"
    text = ome(image_element(data, channels=2), own=uuid(1))
    image = open_image(write(tmp_path / "a.ome.tif", text, 5, 6))
    assert first_pixel(image) == [5, 6]
    assert image.pixel_size == (0.5, 0.5)


def test_a_renamed_file_without_an_identifier_has_its_planes(tmp_path):
    text = ome(image_element(plane(0, 1)))
    image = open_image(write(tmp_path / "renamed.ome.tif", text, 5))
    assert first_pixel(image) == [5]
    assert image.pixel_size == (0.5, 0.5)
    assert not image.warnings


@pytest.mark.parametrize("first", ["<MetadataOnly/>", plane(0, 3)])
def test_each_image_has_its_own_metadata(tmp_path, first):
    text = ome(
        image_element(first, name="A", size="9.0"),
        image_element(plane(0, 1), name="B", size="0.25"),
        own=uuid(1),
    )
    image = open_image(write(tmp_path / "c1.ome.tif", text, 7))
    assert image.pixel_size == (0.25, 0.25)
    assert image.series == ("B",)
    assert bool(image.warnings) == ("TiffData" in first)


def test_a_url_opens_the_planes_of_its_own_file(tmp_path):
    write_set(tmp_path)
    url = UPath("memory://sets/c1.ome.tif")
    url.parent.mkdir(parents=True, exist_ok=True)
    url.write_bytes((tmp_path / "c1.ome.tif").read_bytes())
    image = open_image(url)
    assert first_pixel(image) == [1000]
    assert [b.name for b in image.bands] == ["ch1"]
    assert "2 of 3 planes" in image.warnings[0]


def test_files_outside_the_folder_are_not_read(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    data = "".join(plane(c, c) for c in range(2)).replace("c1.ome", "../c1.ome")
    text = ome(image_element(data, channels=2), own=uuid(0))
    write(inner / "c0.ome.tif", text, 5)
    write(tmp_path / "c1.ome.tif", ome(own=uuid(1)), 6)
    image = open_image(inner / "c0.ome.tif")
    assert first_pixel(image) == [5]
    assert "../c1.ome.tif" in image.warnings[0]


def write_companion(folder):
    data = "".join(plane(c, c) for c in range(3))
    text = ome(image_element(data, channels=3), own=uuid(9))
    (folder / "x.companion.ome").write_text(text, "utf-8")
    for number in range(3):
        reference = f'<BinaryOnly MetadataFile="x.companion.ome" UUID="{uuid(9)}"/>'
        text = ome(reference, own=uuid(number))
        write(folder / f"c{number}.ome.tif", text, 1000 * number)


@pytest.mark.parametrize("name", ["x.companion.ome", "c0.ome.tif", "c2.ome.tif"])
def test_a_companion_file_and_its_files_open_the_set(tmp_path, name):
    write_companion(tmp_path)
    image = open_image(tmp_path / name)
    assert first_pixel(image) == [0, 1000, 2000]
    assert image.pixel_size == (0.5, 0.5)
    assert image.path == tmp_path / name


def test_a_companion_file_or_its_files_are_missing(tmp_path):
    write_companion(tmp_path)
    (tmp_path / "x.companion.ome").rename(tmp_path / "y.companion.ome")
    image = open_image(tmp_path / "c1.ome.tif")
    assert first_pixel(image) == [1000]
    assert "x.companion.ome" in image.warnings[0]
    for number in range(3):
        (tmp_path / f"c{number}.ome.tif").unlink()
    with pytest.raises(OpenError, match=r"c0\.ome\.tif"):
        open_image(tmp_path / "y.companion.ome")


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [("250000", "pm", 0.25), ("2500", "Å", 0.25), ("2500", "\u212b", 0.25),
     ("0.00025", "mm", 0.25), ("250", "nm", 0.25), ("0.25", "\u03bcm", 0.25),
     ("0.001", "in", 25.4), ("1", "pixel", None), ("1", "reference frame", None),
     ("-1", "µm", None), ("nan", "µm", None)],
)  # fmt: skip
def test_units_of_ome(tmp_path, size, unit, expected):
    text = ome(image_element("<TiffData/>", size=size, unit=unit))
    path = write(tmp_path / "a.ome.tif", text, 5, resolution=(30_000, 30_000),
                 resolutionunit="CENTIMETER")  # fmt: skip
    image = open_image(path)
    if expected is None:
        assert (image.pixel_size, image.unit) == (None, "pixel")
        assert unit in image.warnings[0]
    else:
        assert image.pixel_size == pytest.approx((expected, expected))
        assert not image.warnings


def test_without_a_size_in_the_ome_xml_the_resolution_tag_counts(tmp_path):
    text = ome(image_element("<TiffData/>")).replace("PhysicalSize", "OtherSize")
    path = write(tmp_path / "a.ome.tif", text, 5, resolution=(40_000, 40_000),
                 resolutionunit="CENTIMETER")  # fmt: skip
    assert open_image(path).pixel_size == pytest.approx((0.25, 0.25))


HUGE = str(2**31)
MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="A" Namespace="x/modulo"><Value><Modulo>'
    '<ModuloAlongZ Type="angle" Start="0" Step="0.001" End="100000000"/>'
    "</Modulo></Value></XMLAnnotation></StructuredAnnotations>"
)


@pytest.mark.parametrize(
    "text",
    [ome(image_element("<TiffData/>").replace('SizeC="1"', f'SizeC="{HUGE}"')),
     ome(image_element("<TiffData/>").replace('SizeT="1"', f'SizeT="{HUGE}"')),
     ome(image_element(f'<TiffData IFD="0" PlaneCount="{HUGE}"/>')),
     ome(image_element(f'<TiffData IFD="0" NumPlanes="{HUGE}"/>')),
     ome(MODULO, image_element("<TiffData/>"))],
    ids=["channels", "times", "planes", "old planes", "modulo"],
)  # fmt: skip
def test_sizes_beyond_the_file_are_refused_at_once(tmp_path, text):
    path = write(tmp_path / "a.ome.tif", text, 5)
    with pytest.raises(OpenError, match="planes") as error:
        open_image(path)
    assert str(path.stat().st_size)[:-3] in str(error.value)


def test_samples_and_sides_beyond_the_file_are_not_believed(tmp_path):
    text = ome(image_element("<TiffData/>"))
    for wrong in (
        text.replace('SamplesPerPixel="1"', f'SamplesPerPixel="{HUGE}"'),
        text.replace('SizeX="40"', f'SizeX="{HUGE}"'),
    ):
        image = open_image(write(tmp_path / "a.ome.tif", wrong, 5))
        assert image.shape == SIZE
        assert "OME-XML" in image.warnings[0]
