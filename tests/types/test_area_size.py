import pytest

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.types import AreaSize


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("200", 200, "px"), ("200 px", 200, "px"), ("50 um2", 50, "µm²"),
        ("50µm²", 50, "µm²"), ("0.1 mm2", 0.1, "mm²"), (" 20 M2 ", 20, "m²"),
        (".5 ha", 0.5, "ha"), ("1km²", 1, "km²"),
    ],
)  # fmt: skip
def test_parse_reads_number_and_unit(text, value, unit):
    assert AreaSize.parse(text) == AreaSize(value, unit)


@pytest.mark.parametrize(
    "text", ["", "um2", "-5", "5 um", "5 m3", "1e400", "5 5", "nan", "9" * 400]
)
def test_parse_rejects_other_texts(text):
    with pytest.raises(UhrSegError, match="is not an area"):
        AreaSize.parse(text)


def test_pixels_of_an_area():
    assert AreaSize.parse("200").pixels(None) == 200
    assert AreaSize.parse("50 um2").pixels(0.25e-12) == pytest.approx(200)
    assert AreaSize.parse("1 ha").pixels(25) == pytest.approx(400)
    with pytest.raises(UhrSegError, match="pixel size of the image is unknown"):
        AreaSize.parse("50 um2").pixels(None)
