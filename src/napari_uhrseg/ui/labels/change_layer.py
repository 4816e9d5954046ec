"""napari layer of the changes between two label stores, computed when it is drawn."""

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels as LabelsLayer
from napari.utils import DirectLabelColormap

from napari_uhrseg.types import Labels, Roi
from napari_uhrseg.ui.layers.picture import shown_data

if TYPE_CHECKING:
    from napari_uhrseg.io.measure.changes import ChangeMap

CHANGES = "uhrseg_changes"  # metadata key of a layer: its map of changes


class ChangeLevel:
    """Array interface of a level of a map of changes, for napari.

    Parameters
    ----------
    changes
        The map.
    level
        Number of the level.
    """

    ndim = 2
    dtype = np.dtype(np.uint8)

    def __init__(self, changes: "ChangeMap", level: int) -> None:
        self._changes, self._level = changes, level
        like = changes.prediction[level]
        self.shape, self.chunks = like.shape, like.chunks
        self.size = self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Labels:
        return self[:, :]

    def __getitem__(self, key: Any) -> Labels:
        keys = key if isinstance(key, tuple) else (key,)
        keys = tuple(k for k in keys if k is not Ellipsis)
        keys = (*keys, *(slice(None),) * (2 - len(keys)))
        whole = [k if isinstance(k, slice) else slice(int(k), int(k) + 1) for k in keys]
        (top, bottom, dy), (left, right, dx) = (
            k.indices(n) for k, n in zip(whole, self.shape, strict=True)
        )
        step = 1 << self._level
        sides = top, left, max(0, bottom - top), max(0, right - left)
        if not sides[2] or not sides[3]:
            return np.zeros(sides[2:], np.uint8)
        roi = Roi(*(n * step for n in sides))
        found = self._changes.read_labels(roi, self._level)
        rest = tuple(
            slice(None, None, d) if isinstance(k, slice) else 0
            for k, d in zip(keys, (dy, dx), strict=True)
        )
        return np.asarray(found[rest], np.uint8)


def _slice(key: Any, length: int) -> slice:
    """Return a key as a slice. Raises IndexError for a number outside the level."""
    if isinstance(key, slice):
        return key
    number = int(key)
    if not -length <= number < length:
        raise IndexError(f"{number} is outside 0 to {length - 1}")
    return slice(number % length, number % length + 1)


def change_levels(changes: "ChangeMap") -> list[ChangeLevel | Labels]:
    """Return the levels of a map; the coarsest is in memory, as napari keeps it."""
    count = len(changes.prediction)
    finer = [ChangeLevel(changes, k) for k in range(count - 1)]
    return [*finer, ChangeLevel(changes, count - 1)[:, :]]


def change_layer(
    changes: "ChangeMap", levels: list[ChangeLevel | Labels], under: Any
) -> LabelsLayer:
    """Return the layer of a map of changes.

    Parameters
    ----------
    changes
        The map.
    levels
        Its levels, of `change_levels`.
    under
        Layer of the labels of one date, which gives the position.
    """
    clear = (0.0, 0.0, 0.0, 0.0)
    colors: dict[int | None, tuple[float, ...]] = {None: clear, 0: clear}
    for label in changes.legend:
        colors[label.id] = (*(v / 255 for v in label.rgb), 1.0)
    layer = LabelsLayer(
        shown_data(levels),
        name="Changes",
        multiscale=len(levels) > 1,
        cache=False,
        opacity=0.8,
        colormap=DirectLabelColormap(color_dict=colors),
        features={
            "index": [0, *(c.id for c in changes.legend)],
            "class": ["unchanged", *(c.name for c in changes.legend)],
        },
        scale=under.scale[-2:],
        translate=under.translate[-2:],
        affine=under.affine.affine_matrix[-3:, -3:],
        units=under.units[-2:],
        metadata={CHANGES: changes},
    )
    layer.editable = False
    return layer
