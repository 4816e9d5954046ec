"""Tissue mask of a label store, in its OME-Zarr label image ``labels/tissue``.

The mask is one chunk of at most 2048 x 2048 pixels, so that it is replaced as a whole.
Its description follows in the attributes. It is ignored if it belongs to another mask,
after a crash between the two.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.ome_metadata import KEY, LABEL_CODEC, LABELS
from napari_uhrseg.io.labels.store_files import check_array
from napari_uhrseg.io.paths import PathOrUrl, for_zarr, io_errors, write_error
from napari_uhrseg.types import AreaSize, TissueMask, TissueSettings

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

NAME = "tissue"
COLOR = [255, 200, 0, 255]


def read_tissue(path: PathOrUrl, shape: tuple[int, int]) -> TissueMask | None:
    """Return the tissue mask of a store; None if it has none.

    Parameters
    ----------
    path
        Folder or URL of the store.
    shape
        Height and width of the image in level-0 pixels.

    Raises
    ------
    StoreError
        If the mask is damaged, or of an image of another size.
    """
    wanted = TissueMask.shape_of(shape)
    try:
        group = zarr.open_group(for_zarr(path / "labels" / NAME), mode="r")
        if "0" not in group:
            return None
        array = group["0"]
        if not isinstance(array, zarr.Array) or array.dtype != np.uint8:
            raise TypeError("it is not an array of labels")
        if array.shape != wanted:
            raise ValueError(f"it has {array.shape} pixels, not {wanted}")
        check_array(array, wanted)
        mask = TissueMask.of(np.asarray(array[:]) > 0, shape)
        own: Any = group.attrs.get(KEY, {})
        if own.get("mask") != mask.id:
            return mask
        settings = own.get("settings")
        return TissueMask(
            shape, mask.packed, str(own.get("source", "")),
            None if settings is None else _settings(settings),
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except io_errors(path, KeyError, TypeError, ValueError, AttributeError,
                    RuntimeError) as error:  # fmt: skip
        raise StoreError(
            f"The tissue mask of {path} is damaged: {error}.",
            f"Remove the folder labels/{NAME} in it, and detect tissue again.",
        ) from error


def write_tissue(store: "LabelStore", mask: TissueMask) -> None:
    """Write the tissue mask of a store, which replaces another one.

    Parameters
    ----------
    store
        A label store of the mask's image, open for writing.
    mask
        The mask.

    Raises
    ------
    ValueError
        If the mask is of an image of another size.
    StoreError
        If the store is not open for writing, or the disk is full.
    """
    if mask.image_shape != store.shape:
        raise ValueError(f"a mask of {mask.image_shape} for labels of {store.shape}")
    if not store.writable:
        raise StoreError(
            f"{store.path} is not open for writing.", "Open it with write=True."
        )
    shape = mask.pixels.shape
    try:
        labels = zarr.open_group(for_zarr(store.path / "labels"), mode="r+")
        group: Any = labels.require_group(NAME)
        if "0" not in group:
            group.create_array(
                "0", shape=shape, chunks=shape, dtype="uint8", fill_value=0,
                compressors=[LABEL_CODEC], dimension_names=("y", "x"),
            )  # fmt: skip
        group["0"][:] = mask.pixels.astype(np.uint8)
        settings = None if mask.settings is None else _record(mask.settings)
        own = {"mask": mask.id, "source": mask.source, "settings": settings}
        group.update_attributes({"ome": _ome(store, mask), KEY: own})
        listed = [*LABELS, NAME]
        ome: Any = labels.attrs["ome"]
        if ome.get("labels") != listed:
            labels.update_attributes({"ome": {**ome, "labels": listed}})
    except io_errors(store.path) as error:
        raise write_error(f"{store.path} cannot be written", error) from error


def _record(settings: TissueSettings) -> dict[str, Any]:
    sizes = ("smallest_piece", "largest_hole")
    texts = {k: None if (s := getattr(settings, k)) is None else str(s) for k in sizes}
    return {**asdict(settings), **texts}


def _settings(data: dict[str, Any]) -> TissueSettings:
    """Return the settings of a record. Raises TypeError or ValueError for others."""
    values = {
        name: None if data[name] is None else float(data[name])
        for name in ("saturation", "density", "smoothing")
    }
    piece, hole = (
        None if data[name] is None else AreaSize.parse(str(data[name]))
        for name in ("smallest_piece", "largest_hole")
    )
    return TissueSettings(
        values["saturation"], values["density"], piece, hole, values["smoothing"] or 0.0
    )


def _ome(store: "LabelStore", mask: TissueMask) -> dict[str, Any]:
    """Return the metadata of the label image; its only level is coarse."""
    size = store.pixel_size or (1.0, 1.0)
    unit = {"metre": "meter", "pixel": None}.get(store.unit, store.unit)
    axis = {"type": "space"} | ({"unit": unit} if unit and store.pixel_size else {})
    shift = [s * (mask.factor - 1) / 2 for s in size]
    transforms = [
        {"type": "scale", "scale": [s * mask.factor for s in size]},
        {"type": "translation", "translation": shift},
    ]
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": NAME,
                "axes": [{"name": "y", **axis}, {"name": "x", **axis}],
                "datasets": [{"path": "0", "coordinateTransformations": transforms}],
            }
        ],
        "image-label": {
            "colors": [{"label-value": 1, "rgba": COLOR}],
            "properties": [{"label-value": 1, "class": NAME}],
            "source": {"image": "../../"},
        },
    }
