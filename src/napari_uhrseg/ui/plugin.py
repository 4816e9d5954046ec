"""napari's reader and sample data."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from napari_uhrseg.io.image.image import Image

LayerData = tuple[Any, ...]
VIRTUAL_SEED = 7
PIXEL_SIZE = 0.5  # metres, as in the sample scene
HANDLED: LayerData = (None,)  # means to napari that the path has been handled


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of one path, or None for a stack of files."""
    return None if isinstance(path, list) else read


def read(path: str | list[str]) -> list[LayerData]:
    """Return layer data of an image file or OME-Zarr folder.

    A label store is opened in the panel, which shows it with its image and follows
    changes by other processes. An error is shown in one notification instead of
    napari's traceback.
    """
    from napari_uhrseg.io.open import open_image

    paths = [path] if isinstance(path, str) else list(path)
    return [
        layer
        for p in paths
        for layer in (
            [HANDLED] if _given_to_panel(p) else _shown(partial(open_image, p))
        )
    ]


def _given_to_panel(path: str) -> bool:
    """Open a label store in the panel, which is created if necessary.

    Return False if the path is not a label store, or if there is no viewer.
    """
    import napari

    viewer = napari.current_viewer()
    if viewer is None or not path.rstrip("/").endswith(".zarr"):
        return False
    from napari_uhrseg.io.labels.ome_metadata import is_store
    from napari_uhrseg.io.paths import to_path
    from napari_uhrseg.ui.dock import docked_panel

    where = to_path(path)
    if not is_store(where):
        return False
    panel = docked_panel(viewer)
    if panel is None:
        _, panel = viewer.window.add_plugin_dock_widget("napari-uhrseg", "Segment")
    panel.labels.open(where)
    return True


def sample_orthophoto() -> list[LayerData]:
    """Return the georeferenced sample scene, a COG with ground truth beside it."""
    return _shown(lambda: _open_sample("scene.tif"))


def sample_virtual() -> list[LayerData]:
    """Return the sample world at 100,000 x 100,000 pixels, computed on demand."""
    return _shown(virtual_image)


def sample_slide() -> list[LayerData]:
    """Return the sample slide: a pyramidal TIFF with much empty background."""
    return _shown(lambda: _open_sample("slide.tif"))


def _open_sample(name: str) -> "Image":
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.samples import data_dir

    return open_image(sample_path(data_dir(), name))


def virtual_image(size: int = 100_000) -> "Image":
    """Return a square of the sample world with more than 2048 pixels per side.

    The coarsest level is computed in the background. napari reads this level
    immediately on the Qt thread, where its computation would take seconds.
    """
    from napari_uhrseg.io.image.geometry import MAX_COARSEST_SIDE
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.image.level_source import ArraySource
    from napari_uhrseg.io.image.pending_level import PendingLevel
    from napari_uhrseg.samples.world import TILE, virtual_levels

    levels = virtual_levels(VIRTUAL_SEED, size)
    finer = [level for level in levels if max(level.shape) > MAX_COARSEST_SIDE]
    last = levels[len(finer)]
    coarsest = PendingLevel(last.shape, last.dtype, (TILE, TILE, 3))
    return Image(
        name="Virtual orthophoto",
        sources=[*(ArraySource(level) for level in finer), coarsest],
        source_axes="yxs",
        rgb_bands=(0, 1, 2),
        fingerprint=f"world {VIRTUAL_SEED}, {size}",
        pixel_size=(PIXEL_SIZE, PIXEL_SIZE),
        unit="metre",
    )


def sample_path(folder: "Path", name: str) -> "Path":
    """Return the path of a file in the folder of samples or below it."""
    return next(iter(sorted(folder.rglob(name))), folder / name)


def _shown(make: Callable[[], "Image"]) -> list[LayerData]:
    import napari

    from napari_uhrseg.ui.layers.label_layers import (
        begin_display,
        check_scales,
        image_layers,
    )
    from napari_uhrseg.ui.workers.worker import report

    try:
        image = make()
        viewer = napari.current_viewer()
        if viewer is not None:
            check_scales(viewer, image)
        layers = list(image_layers(image))
        begin_display(image)
        return layers
    except Exception as error:  # noqa: BLE001 - a reader must not raise
        report(error)
    return [HANDLED]
