"""Writers for napari's Save: export label layers as the Export panel does.

Each file type of the dialog has its own writer, because napari passes the typed name
but not the chosen type.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEventLoop, Qt
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import export, format_named
from napari_uhrseg.ui.layers.label_layers import STORE
from napari_uhrseg.ui.workers.worker import Workers

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

STEPS = 1000
SUFFIXES = {
    ".cog.tif": "cog",
    ".ome.tif": "ome-tiff",
    ".zarr": "ome-zarr",
    ".geojson": "geojson",
    ".gpkg": "geopackage",
}


def write_labels(path: str, data: Any, meta: dict[str, Any], suffix: str) -> list[str]:
    """Write a labels layer in the format of the name's suffix, or of ``suffix``.

    GeoJSON has longitude and latitude, or pixels (QuPath) if the image has no CRS. A
    file is replaced only if the name has a known suffix: then Save has asked the user.

    Parameters
    ----------
    path
        Path as typed by the user.
    data
        Data of the layer.
    meta
        napari's metadata of the layer.
    suffix
        Suffix to append to a name without a known one.

    Returns
    -------
    The paths written.

    Raises
    ------
    ExportError
        The export failed, or the layer does not belong to a label store.
    """
    named = next((s for s in SUFFIXES if path.lower().endswith(s)), None)
    chosen = SUFFIXES[named or suffix]
    typed = named or path.lower().endswith(format_named(chosen).suffix)
    target = path if typed else path + suffix
    store = meta.get("metadata", {}).get(STORE)
    if store is None:
        return _plain(target, data, meta)
    if chosen == "geojson" and (store.crs is None or store.affine is None):
        chosen = "qupath"
    run = partial(export, overwrite=bool(typed))
    if QApplication.instance() is None:
        for _ in run(store, target, chosen):
            pass
    elif not _run(run, store, target, chosen):
        raise ExportError(
            f"Saving {Path(target).name} was stopped; nothing was written.",
            "Save again to write it.",
        )
    return [target]


write_cog = partial(write_labels, suffix=".cog.tif")
write_ome_tiff = partial(write_labels, suffix=".ome.tif")
write_ome_zarr = partial(write_labels, suffix=".zarr")
write_geojson = partial(write_labels, suffix=".geojson")
write_geopackage = partial(write_labels, suffix=".gpkg")


def _plain(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer without a label store with napari's writer, if it has one."""
    if path.lower().endswith(".tif"):
        from napari_builtins.io import napari_write_labels

        written = napari_write_labels(path, data, meta)
        return [] if written is None else [str(written)]
    raise ExportError(
        f"{meta.get('name', 'This layer')} is not from a label store: it cannot be "
        f"saved as {Path(path).suffix} here.",
        "Save it as .tif, or create a label store by segmenting an image.",
    )


def _run(
    run: Callable[..., Iterator[float]], store: "LabelStore", path: str, chosen: str
) -> bool:
    """Export in a worker while a dialog can stop it; return False if stopped."""
    dialog = QProgressDialog("Saving labels…", "Stop", 0, STEPS)
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(500)
    dialog.setAutoReset(False)
    workers, loop = Workers(), QEventLoop()
    errors: list[Exception] = []
    ended: list[bool] = []
    worker = workers.start(
        run,
        store,
        path,
        chosen,
        yielded=lambda done: dialog.setValue(round(STEPS * done)),
        returned=lambda _: ended.append(True),
        errored=errors.append,
        finished=loop.quit,
    )
    dialog.canceled.connect(worker.quit)
    loop.exec()
    dialog.close()
    if errors:
        raise errors[0]
    return bool(ended)
