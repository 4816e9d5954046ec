"""napari's Save: label layers of a store, through the same exports as the panel's."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEventLoop, Qt
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import export
from napari_uhrseg.ui.jobs import Jobs
from napari_uhrseg.ui.layers import STORE

if TYPE_CHECKING:
    from napari_uhrseg.io.labels import LabelStore

STEPS = 1000
SUFFIXES = {
    ".cog.tif": "cog",
    ".ome.tif": "ome-tiff",
    ".zarr": "ome-zarr",
    ".gpkg": "geopackage",
}


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer; the format follows from the name.

    ``.geojson`` holds longitude and latitude, and pixels for QuPath where the image
    lies nowhere. Save has asked before it replaces a file, so this does not.

    Raises
    ------
    ExportError
        What `export` raises, or the layer is of no label store.
    """
    store = meta.get("metadata", {}).get(STORE)
    if store is None:
        return _plain(path, data, meta)
    arguments = store, path, _format(store, path)
    if QApplication.instance() is None:
        for _ in export(*arguments, overwrite=True):
            pass
    elif not _run(arguments):
        raise ExportError(
            f"Saving {Path(path).name} was stopped; nothing was written.",
            "Save again to write it.",
        )
    return [path]


def _format(store: "LabelStore", path: str) -> str:
    if path.lower().endswith(".geojson"):
        return "qupath" if store.crs is None or store.affine is None else "geojson"
    return next(f for suffix, f in SUFFIXES.items() if path.lower().endswith(suffix))


def _plain(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """A layer that is not ours: napari's own writer, where it has one."""
    if path.lower().endswith(".tif"):
        from napari_builtins.io import napari_write_labels

        written = napari_write_labels(path, data, meta)
        return [] if written is None else [str(written)]
    raise ExportError(
        f"{meta.get('name', 'This layer')} is not from a label store: it cannot be "
        f"saved as {Path(path).suffix} here.",
        "Save it as .tif, or segment or correct an image to have a label store.",
    )


def _run(arguments: tuple["LabelStore", str, str]) -> bool:
    """In a worker, under a dialog that can stop it: whether it came to its end."""
    dialog = QProgressDialog("Saving labels…", "Stop", 0, STEPS)
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(500)
    dialog.setAutoReset(False)
    jobs, loop = Jobs(), QEventLoop()
    errors: list[Exception] = []
    ended: list[bool] = []
    job = jobs.start(
        partial(export, overwrite=True),
        *arguments,
        yielded=lambda done: dialog.setValue(round(STEPS * done)),
        returned=lambda _: ended.append(True),
        errored=errors.append,
        finished=loop.quit,
    )
    dialog.canceled.connect(job.quit)
    loop.exec()
    dialog.close()
    if errors:
        raise errors[0]
    return bool(ended)
