"""What docs/python.md shows is run, block after block, as a reader would."""

import re
from pathlib import Path

import pytest
import rasterio

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_every_example_works(tmp_path, monkeypatch, capsys):
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "windows" in said
    assert "FineTuneFinished" in said  # the fine-tuning came to its end
    assert "m²" in said
    assert (tmp_path / "mine.safetensors").exists()
    assert (tmp_path / "labels.geojson").exists()
    with rasterio.open("labels.tif") as raster:
        assert raster.crs.is_projected
        assert (raster.read(1)[:512, :512] > 0).all()


def test_examples_have_some_ten_lines():
    assert len(BLOCKS) == 6
    for block in BLOCKS:
        assert len([line for line in block.splitlines() if line]) <= 12


def test_all_that_is_public_is_named_in_it():
    import napari_uhrseg

    kinds = {"Image", "MemoryBudget", "Polygon", "__version__"}
    for name in set(napari_uhrseg.__all__) - kinds:
        assert re.search(rf"\b{name}\b", TEXT), name


def test_links_are_there():
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
