"""Exporter of OME-Zarr label images, beside an image or inside it.

A target ``image.zarr/labels/NAME`` becomes a label image of that OME-Zarr image, in
its version (0.4 or 0.5) and with the same number of levels. Any other folder becomes
an OME-Zarr 0.5 label image.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export.label_pyramid import Pyramid, shown_pyramid
from napari_uhrseg.io.export.registry import (
    Format,
    WriteOptions,
    register_exporter,
    shown_legend,
)
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK

if TYPE_CHECKING:
    import zarr

    from napari_uhrseg.io.labels.store import LabelStore

UNITS = {"metre": "meter", "pixel": None}  # UDUNITS-2's names


def _check(store: "LabelStore", path: Path) -> None:
    """Raise ExportError if the image around the target has another size."""
    image = _image_around(path)
    if image is None:
        return
    full: Any = image[_datasets(image)[0]["path"]]
    if full.shape[-2:] != store.shape:
        raise ExportError(
            f"{path.parents[1]} is not an image of {store.shape[1]} x "
            f"{store.shape[0]} pixels, as these labels are.",
            "Choose the image of these labels, or a folder beside it.",
        )


def _register(path: Path) -> None:
    """Add the target to the list of the image's labels."""
    import zarr

    if _image_around(path) is None:
        return
    group = zarr.open_group(
        path.parent, mode="a", zarr_format=_version(path.parents[1])
    )
    attributes = dict(group.attrs)
    own: Any = attributes.get("ome", {"version": "0.5"})
    holder = own if group.metadata.zarr_format == 3 else attributes
    listed: Any = holder.get("labels", [])
    names = list(listed)
    if path.name not in names:
        holder["labels"] = [*names, path.name]
        group.update_attributes({"ome": own} if holder is own else attributes)


def _write_ome_zarr(
    store: "LabelStore", path: Path, _options: WriteOptions
) -> Iterator[float]:
    """Write the displayed labels as an OME-Zarr label image."""
    import zarr

    image = _image_around(path)
    pyramid = shown_pyramid(store, None if image is None else len(_datasets(image)))
    version = 3 if image is None else _version(path.parents[1])
    group = zarr.open_group(path, mode="w-", zarr_format=version)
    attributes = _attributes(store, path, pyramid, version)
    group.update_attributes({"ome": attributes} if version == 3 else attributes)
    done = 0
    for level, shape in enumerate(pyramid.shapes):
        array = _array(group, level, shape, version)
        for roi, labels in pyramid.squares(level):
            if labels.any():
                array[roi.slices] = labels
            done += roi.area
            yield done / pyramid.pixels


def _array(
    group: "zarr.Group", level: int, shape: tuple[int, int], version: Literal[2, 3]
) -> "zarr.Array":
    from zarr.codecs import BloscCodec

    more: dict[str, Any] = {
        "compressors": [BloscCodec(cname="zstd", clevel=5, shuffle="noshuffle")],
        "dimension_names": ("y", "x"),
    }
    if version == 2:
        more = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    return group.create_array(
        str(level),
        shape=shape,
        chunks=(min(STORE_CHUNK, shape[0]), min(STORE_CHUNK, shape[1])),
        dtype="uint8",
        fill_value=0,
        **more,
    )


def _image_around(path: Path) -> "zarr.Group | None":
    """Return the OME-Zarr image that contains the path in ``labels``, if any."""
    import zarr

    if path.parent.name != "labels":
        return None
    try:
        group = zarr.open_group(path.parents[1], mode="r")
    except (OSError, ValueError, KeyError):
        return None
    own: Any = group.attrs.get("ome", group.attrs)
    return group if "multiscales" in own else None


def _datasets(image: "zarr.Group") -> list[Any]:
    own: Any = image.attrs.get("ome", image.attrs)
    return list(own["multiscales"][0]["datasets"])


def _version(image: Path) -> Literal[2, 3]:
    return 3 if (image / "zarr.json").is_file() else 2


def _attributes(
    store: "LabelStore", path: Path, pyramid: Pyramid, version: Literal[2, 3]
) -> dict[str, Any]:
    legend = shown_legend(store)
    number = "0.5" if version == 3 else "0.4"
    label: dict[str, Any] = {
        "colors": [{"label-value": c.id, "rgba": [*c.rgb, 255]} for c in legend],
        "properties": [{"label-value": c.id, "class": c.name} for c in legend],
    }
    source = _source(store, path)
    if source is not None:
        label["source"] = {"image": source}
    multiscale = _multiscale(store, pyramid)
    if version == 3:
        return {"version": number, "multiscales": [multiscale], "image-label": label}
    return {
        "multiscales": [{"version": number, **multiscale}],
        "image-label": {"version": number, **label},
    }


def _multiscale(store: "LabelStore", pyramid: Pyramid) -> dict[str, Any]:
    """Return the multiscale metadata; centres of pixels lie between their children."""
    unit = UNITS.get(store.unit, store.unit) if store.pixel_size else None
    axis = {"type": "space"} | ({"unit": unit} if unit else {})
    datasets = []
    for level in range(len(pyramid.shapes)):
        scale = [s * 2**level for s in store.pixel_size or (1.0, 1.0)]
        shift = [s * (2**level - 1) / 2 for s in store.pixel_size or (1.0, 1.0)]
        transforms = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": shift},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {
        "name": "labels",
        "type": "majority of the non-zero",
        "axes": [{"name": "y", **axis}, {"name": "x", **axis}],
        "datasets": datasets,
    }


def _source(store: "LabelStore", path: Path) -> str | None:
    """Return the relative path to the image if it is a folder (OME-Zarr)."""
    if _image_around(path) is not None:
        return "../../"
    image = store.image_path
    if not isinstance(image, Path) or not image.is_dir() or not image.is_absolute():
        return None
    return os.path.relpath(image, path)


register_exporter(
    Format(
        "ome-zarr",
        "OME-Zarr labels",
        ".zarr",
        _write_ome_zarr,
        stores_pixel_size=True,
        save_suffix=".zarr",
        is_folder=True,
        check=_check,
        finish=_register,
    )
)
