"""The architecture, as a test: who may import whom, and what loads what."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def loaded_by(statement: str) -> set[str]:
    """Top-level modules a fresh interpreter holds after the statement."""
    code = f"{statement}\nimport sys\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "not_loaded"),
    [
        ("import napari_uhrseg", {"torch", "numpy", "zarr", *QT}),
        ("import napari_uhrseg.engine.inference.segment", QT),
        ("import napari_uhrseg.engine.training.train", QT),
        ("from napari_uhrseg import segment, open_image, LabelStore", QT),
        (
            "import napari_uhrseg.io.image.image, napari_uhrseg.io.labels.store",
            {"torch", *QT},
        ),
        (
            "from napari_uhrseg.io.export.registry import formats; formats()",
            {"zarr", "rasterio", "tifffile", "pyogrio", "shapely", "scipy"},
        ),
        ("import napari_uhrseg.models.registry", {"torch", "timm"}),
        ("import napari_uhrseg.models.card_header", {"torch", "timm"}),
        ("import napari_uhrseg.models.dataset_legends", {"torch", "timm"}),
        ("import napari_uhrseg.cli", {"torch", "zarr", "dask", "rasterio", *QT}),
    ],
)
def test_importing_loads_no_more_than_it_must(statement, not_loaded):
    assert not loaded_by(statement) & not_loaded


def test_public_names_are_all_there():
    import napari_uhrseg

    for name in napari_uhrseg.__all__:
        assert getattr(napari_uhrseg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = napari_uhrseg.nothing
