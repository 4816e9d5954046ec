"""Run the notebooks of the tutorials, cell after cell."""

import json
from pathlib import Path

import pytest
import rasterio

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch, capsys):
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    assert "%" in capsys.readouterr().out or path.stem == "checkpoint_to_table"
    if path.stem == "slide_to_areas":
        features = json.loads(Path("slide.geojson").read_text(encoding="utf-8"))
        assert features["features"]
    if path.stem == "orthophoto_to_geopackage":
        assert Path("labels.gpkg").is_file()
        with rasterio.open("labels.tif") as raster:
            assert raster.crs.is_projected
            assert (raster.read(1)[512:1024, 512:1024] > 0).all()
    if path.stem == "checkpoint_to_table":
        assert all(0 < score.miou <= 1 for score in names["scores"].values())


def test_notebooks_are_stored_without_results():
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells)
