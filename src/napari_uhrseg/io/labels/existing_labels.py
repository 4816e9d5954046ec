"""Search for the label stores of an image."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_uhrseg.io.labels.ome_metadata import KEY, ImageLike

WRITTEN = ("zarr.json", "states/c/0/*", ".corrections/*")  # by each change of labels


@dataclass(frozen=True, slots=True)
class ExistingLabels:
    """Label store of an image on disk.

    Attributes
    ----------
    path
        Folder of the store.
    changed
        Local time of the last change of the store.
    """

    path: Path
    changed: datetime


def existing_labels(
    image: ImageLike, paths: Iterable[Path]
) -> tuple[ExistingLabels, ...]:
    """Return the label stores of an image, the latest change first.

    Parameters
    ----------
    image
        The image, which is compared by its fingerprint and size.
    paths
        Folders that may be label stores. Others are ignored.
    """
    found = [
        ExistingLabels(path, _changed(path))
        for path in dict.fromkeys(path.absolute() for path in paths)
        if _is_of(image, path)
    ]
    return tuple(sorted(found, key=lambda x: x.changed, reverse=True))


def _is_of(image: ImageLike, path: Path) -> bool:
    """Return whether there is a store of the image; False if it cannot be read."""
    try:
        root = json.loads((path / "zarr.json").read_bytes())
        own = root["attributes"][KEY]["image"]
        same = own["fingerprint"] == image.fingerprint
        return bool(same and tuple(own["shape"]) == tuple(image.shape))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _changed(path: Path) -> datetime:
    files = (file for pattern in WRITTEN for file in path.glob(pattern))
    times = [file.stat().st_mtime for file in (path, *files)]
    return datetime.fromtimestamp(max(times)).astimezone()
