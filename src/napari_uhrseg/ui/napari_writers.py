"""Writers for napari's Save that export label layers like the Export panel.

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
from napari_uhrseg.io.export import export
from napari_uhrseg.io.export.registry import format_named, formats
from napari_uhrseg.ui.layers.label_layers import STORE
from napari_uhrseg.ui.workers.worker import Workers

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

STEPS = 1000


def write_labels(
    path: str, data: Any, meta: dict[str, Any], format_name: str
) -> list[str]:
    """Write a labels layer of a label store.

    Parameters
    ----------
    path
        Path from the Save dialog. Its suffix selects the format.
    data
        Data of the layer.
    meta
        Metadata of the layer.
    format_name
        Format to write if the suffix of the path selects none. The path then gets
        the suffix of that format, and an existing file is not replaced. Otherwise
        the Save dialog has already asked whether to replace the file.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    ExportError
        If `export` raises it, or if the layer does not belong to a label store.
    """
    lower = path.lower()
    named = [f for f in formats() if f.save_suffix and lower.endswith(f.save_suffix)]
    chosen = named[0] if named else format_named(format_name)
    typed = bool(named) or lower.endswith(chosen.suffix)
    target = path if typed else path + chosen.save_suffix
    store = meta.get("metadata", {}).get(STORE)
    if store is None:
        return _plain(target, data, meta)
    if chosen.without_crs and (store.crs is None or store.affine is None):
        chosen = format_named(chosen.without_crs)
    run = partial(export, overwrite=typed)
    if QApplication.instance() is None:
        for _ in run(store, target, chosen.name):
            pass
    elif not _run(run, store, target, chosen.name):
        raise ExportError(
            f"Saving {Path(target).name} was stopped; nothing was written.",
            "Save again to write it.",
        )
    return [target]


write_cog = partial(write_labels, format_name="cog")
write_ome_tiff = partial(write_labels, format_name="ome-tiff")
write_ome_zarr = partial(write_labels, format_name="ome-zarr")
write_geojson = partial(write_labels, format_name="geojson")
write_geopackage = partial(write_labels, format_name="geopackage")


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


def _progress_dialog() -> QProgressDialog:
    """Return a modal dialog that appears if the export takes long."""
    dialog = QProgressDialog("Saving labels…", "Stop", 0, STEPS)
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setMinimumDuration(500)
    dialog.setAutoReset(False)
    return dialog


def _run(
    run: Callable[..., Iterator[float]], store: "LabelStore", path: str, chosen: str
) -> bool:
    """Export in a worker while a dialog can stop it; return False if stopped."""
    dialog = _progress_dialog()
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
