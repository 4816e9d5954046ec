"""The architecture, as a test: who may import whom, and what loads what."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import run_python

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_layers_import_one_way():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


QT = {"qtpy", "PyQt5", "PyQt6", "PySide6", "napari", "superqt", "magicgui", "pyqtgraph"}


# statements that follow each other in one process, each with what is not loaded then
LIGHT = {
    "import napari_uhrseg": {"torch", "numpy", "zarr", *QT},
    "from napari_uhrseg.io.export.registry import formats; formats()": {
        "torch", "zarr", "rasterio", "tifffile", "pyogrio", "shapely", "scipy", *QT
    },
    "import napari_uhrseg.models.registry": {"torch", "timm"},
    "import napari_uhrseg.models.card_header": {"torch", "timm"},
    "import napari_uhrseg.models.dataset_legends": {"torch", "timm"},
    "import napari_uhrseg.cli": {"torch", "zarr", "dask", "rasterio", *QT},
    "import napari_uhrseg.io.image.image, napari_uhrseg.io.labels.store": {
        "torch", *QT
    },
    "import napari_uhrseg.engine.inference.segment": QT,
    "import napari_uhrseg.engine.training.train": QT,
    "from napari_uhrseg import segment, open_image, LabelStore": QT,
}  # fmt: skip


@pytest.mark.no_cover  # tracing is slow, and other tests cover it
@pytest.mark.slow
def test_importing_loads_no_more_than_it_must():
    print_loaded = "print(*{name.split('.')[0] for name in sys.modules})"
    code = "\n".join(["import sys", *(f"{s}\n{print_loaded}" for s in LIGHT)])
    lines = run_python(code).splitlines()
    for (statement, not_loaded), line in zip(LIGHT.items(), lines, strict=True):
        assert not set(line.split()) & not_loaded, statement


def test_public_names_are_all_there():
    import napari_uhrseg

    for name in napari_uhrseg.__all__:
        assert getattr(napari_uhrseg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = napari_uhrseg.nothing
